from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xdr_mcp.untrusted import Fence, contained

NONCE = "0f1e2d3c4b5a6978"


def test_no_two_answers_have_the_same_marks() -> None:
    assert len({Fence().nonce for _ in range(100)}) == 100


def test_text_stands_between_the_marks_as_it_is() -> None:
    assert Fence(NONCE).wrap('{"a": 1}') == f'<<<untrusted {NONCE}\n{{"a": 1}}\n{NONCE}>>>'


@given(st.lists(st.sampled_from([NONCE, NONCE[:8], NONCE[8:], "untrusted", "<<<", ">>>", " ", "\n", "x"])).map("".join))
def test_text_cannot_end_its_fence_even_when_it_knows_the_nonce(text: str) -> None:
    wrapped = Fence(NONCE).wrap(contained(text))
    assert wrapped.count(NONCE) == 2
    assert wrapped.startswith(f"<<<untrusted {NONCE}\n")
    assert wrapped.endswith(f"\n{NONCE}>>>")
    assert wrapped.count("<untrusted") == 1
