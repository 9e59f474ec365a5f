"""Budgets: what an answer may cost, in tokens, and the ladder by which it keeps to that.

A token is counted as four bytes of UTF-8, of all that reaches the model. Each answer has several forms, from the fullest to
the barest; the fullest that fits is given, and says what it left out. The same question to the same store has the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from xdr_mcp.untrusted import FENCED, Fence

BYTES_PER_TOKEN = 4
_AROUND_RAW = 64
LEAST = 200
"""Tokens that every answer may cost: an id, the coverage and the way on have to go somewhere."""
MOST = 50_000

_AROUND = 216
"""Bytes of an answer beside its line and its data: the protocol's frame, and a hint or a fence."""


class Answer(Struct):
    """What a question is answered with: a line in our words, the data, and a vendor's record where it was asked for."""

    line: str
    data: dict[str, Any]
    raw: Any = None
    """The record, contained: its JSON, or its text. Nothing in it has a label of ours, so it leaves in a fence."""

    @property
    def tokens(self) -> int:
        """What it costs."""
        told = len(msgspec.json.encode(self.data))
        told += _AROUND_RAW + len(msgspec.json.encode(self._record())) if self.raw is not None else 0
        return -(-(_AROUND + len(self.line.encode()) + told) // BYTES_PER_TOKEN)

    def structured(self) -> dict[str, Any]:
        """The data as JSON, the texts of others under the names that ``untrusted`` lists."""
        return self.data if self.raw is None else self.data | {"raw": Fence().wrap(self._record())}

    def as_text(self) -> str:
        """The line in our words, and all of the data in one fence."""
        data = self.data if self.raw is None else self.data | {"raw": self.raw}
        return f"{self.line} {FENCED}\n{Fence().wrap(msgspec.json.encode(data).decode())}"

    def _record(self) -> str:
        return self.raw if isinstance(self.raw, str) else msgspec.json.encode(self.raw).decode()


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
