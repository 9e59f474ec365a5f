from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import KEY, NOON

from xdr_mcp.interfaces import Position
from xdr_mcp.server.cursor import BadCursor, Cursors, Place

_PLACE = Place(NOON, 312, Position(NOON, 2**62))


def test_a_cursor_opens_to_the_place_it_was_made_for() -> None:
    cursors = Cursors(KEY)
    assert cursors.open(cursors.sign(_PLACE, "filter_alerts", "host:web*"), "filter_alerts", "host:web*") == _PLACE


@pytest.mark.parametrize(
    "question", [("list_alerts", "host:web*"), ("filter_alerts", "host:db*"), ("filter_alerts",), ()]
)
def test_a_cursor_is_refused_for_another_question(question: tuple[str, ...]) -> None:
    cursors = Cursors(KEY)
    with pytest.raises(BadCursor, match="same filter"):
        cursors.open(cursors.sign(_PLACE, "filter_alerts", "host:web*"), *question)


def test_a_cursor_of_another_installation_is_refused() -> None:
    with pytest.raises(BadCursor):
        Cursors(b"other").open(Cursors(KEY).sign(_PLACE))


@given(st.integers(0, 10_000), st.integers(1, 63))
def test_a_cursor_with_any_character_changed_is_refused(position: int, step: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    cursor = Cursors(KEY).sign(_PLACE)
    index = position % (len(cursor) - 1)  # the last character holds bits that are not used
    other = alphabet[(alphabet.index(cursor[index]) + step) % 64]
    with pytest.raises(BadCursor):
        Cursors(KEY).open(cursor[:index] + other + cursor[index + 1 :])


@given(st.text())
def test_what_was_never_signed_is_refused(made_up: str) -> None:
    with pytest.raises(BadCursor):
        Cursors(KEY).open(made_up)
