from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdr_mcp.untrusted import escaped, visible


def test_every_control_format_private_and_surrogate_character_is_shown_as_a_mark() -> None:
    hidden = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    slipped = [
        f"U+{point:04X}"
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) in hidden and chr(point) not in "\t\n" and visible(chr(point)) == chr(point)
    ]
    assert slipped == []


@given(st.text())
def test_terminals_and_logs_are_shown_no_hidden_character_either_and_one_line(text: str) -> None:
    shown = escaped(text)
    assert visible(shown) == shown
    assert not set(shown) & set("\t\n")


def test_an_escape_is_as_programmers_write_it() -> None:
    assert escaped("a\x1b[2J\nb\u202e\U000e0041\ud800") == r"a\x1b[2J\nb\u202e\U000e0041\ud800"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "[U+001B][31mred"),
        ("invoice\u202efdp.exe", "invoice[U+202E]fdp.exe"),
        ("zero\u200bwidth", "zero[U+200B]width"),
        ("\U000e0041\U000e0042", "[U+E0041][U+E0042]"),
        ("\U000e0041" * 500, "[U+E0041 and 499 more hidden]"),
        ("a\ufe0fb", "a[U+FE0F]b"),
        ("\u3164\u2800", "[U+3164][U+2800]"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("over\rwritten", "over[U+000D]written"),
        ("Grüße, 東京, Ελλάδα, 😀", "Grüße, 東京, Ελλάδα, 😀"),
    ],
)
def test_hidden_characters_become_visible_and_the_rest_stays(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)
