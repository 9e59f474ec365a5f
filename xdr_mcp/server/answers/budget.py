"""Budgets: what an answer may cost, in tokens, and the ladder by which it keeps to that.

A token is counted as four bytes of UTF-8, of all that reaches the model. Each answer has several forms, from the fullest to
the barest; the fullest that fits is given, and says what it left out. The same question to the same store has the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

BYTES_PER_TOKEN = 4
LEAST = 200
"""Tokens that every answer may cost: an id, the coverage and the way on have to go somewhere."""
MOST = 50_000

_AROUND = 160
"""Bytes of an answer beside its line and its data: the protocol's frame, and the hint or the fence that ``tool`` adds."""


class Answer(Struct):
    """What a question is answered with: a line for people, and the data."""

    line: str
    data: dict[str, Any]

    @property
    def tokens(self) -> int:
        """What it costs."""
        return -(-(_AROUND + len(self.line.encode()) + len(msgspec.json.encode(self.data))) // BYTES_PER_TOKEN)


def fitted(forms: Iterable[Answer], budget: int) -> Answer:
    """The first form that costs at most ``budget`` tokens; the last, whatever it costs, when none does."""
    barest: Answer | None = None
    for barest in forms:
        if barest.tokens <= budget:
            break
    assert barest is not None, "an answer has at least one form"
    return barest


def most_that_fit(number: int, fits: Callable[[int], bool]) -> int:
    """The largest count, from 1 to ``number``, for which ``fits(count)`` holds, if it holds for all below; 1 when for none."""
    least, most = 1, number
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least
