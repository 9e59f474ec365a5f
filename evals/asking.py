"""What a question is, and what an answer is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from evals.assistant import Assistant

Answer: TypeAlias = int | str | list[str] | set[str] | dict[str, int]
"""A number, a text, texts in order, texts in any order, or numbers by name."""

Policy: TypeAlias = Callable[[Assistant], Awaitable[Answer]]
"""Asks tools, reads what they return and nothing else, and answers."""

UNKNOWN: Final = "unknown"
"""The honest answer where nobody can know."""


@dataclass(frozen=True)
class Question:
    """What an analyst asks, what is true, and how it can be found out."""

    name: str
    text: str
    truth: Answer
    policy: Policy

    @property
    def kind(self) -> str:
        """What sort of question it is: the name's first word."""
        return self.name.partition(" ")[0]


def is_right(answer: object, truth: Answer) -> bool:
    """Whether an answer says what is true. Order counts only where it was asked for, and case nowhere."""
    if isinstance(truth, set):
        return isinstance(answer, (list, set, tuple)) and {_folded(one) for one in answer} == set(map(_folded, truth))
    if isinstance(truth, list):
        return isinstance(answer, (list, tuple)) and [*map(_folded, answer)] == [*map(_folded, truth)]
    if isinstance(truth, dict):
        return isinstance(answer, dict) and _numbers(answer) == _numbers(truth)
    return _folded(answer) == _folded(truth)


def _folded(value: object) -> str:
    return str(value).strip().casefold()


def _numbers(counts: dict[str, int]) -> dict[str, str]:
    return {_folded(name): _folded(count) for name, count in counts.items() if str(count) != "0"}
