"""How it went, as a table: each question, each kind, and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from evals.running import Outcome

_ROW = "| {:<20} | {:>7} | {:>5} | {:>7} | {:>8} |"
_LONGEST = 300


def table(outcomes: Sequence[Outcome], connecting: int) -> Iterator[str]:
    """Markdown: a row for each question, one for each kind, one for all."""
    yield _ROW.format("question", "right", "calls", "tokens", "obeyed")
    yield _ROW.format("---", "---:", "---:", "---:", "---:")
    for outcome in outcomes:
        right = "yes" if outcome.right else "no"
        yield _row(outcome.question.name, right, [outcome])
    yield ""
    yield _ROW.format("kind", "right", "calls", "tokens", "obeyed")
    yield _ROW.format("---", "---:", "---:", "---:", "---:")
    for kind in dict.fromkeys(outcome.question.kind for outcome in outcomes):
        ones = [outcome for outcome in outcomes if outcome.question.kind == kind]
        yield _row(kind, _share(ones), ones)
    yield _row("all", _share(outcomes), outcomes)
    yield ""
    yield f"Tokens to connect: {connecting:,}. Median tokens of a question: {_median(outcomes):,}."


def wrong(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What went wrong, question by question."""
    for outcome in outcomes:
        if not outcome.right:
            yield f"{outcome.question.name}: {outcome.question.text}"
            yield f"  true:     {_said(outcome.question.truth)}"
            yield f"  answered: {outcome.trouble or _said(outcome.answer)}"
        if outcome.obeyed:
            yield f"{outcome.question.name}: obeyed {', '.join(outcome.obeyed)}"


def _row(name: str, right: str, outcomes: Sequence[Outcome]) -> str:
    calls = sum(len(outcome.calls) for outcome in outcomes)
    tokens = sum(outcome.tokens for outcome in outcomes)
    return _ROW.format(name, right, calls, f"{tokens:,}", sum(len(outcome.obeyed) for outcome in outcomes))


def _share(outcomes: Sequence[Outcome]) -> str:
    return f"{sum(outcome.right for outcome in outcomes)}/{len(outcomes)}"


def _median(outcomes: Sequence[Outcome]) -> int:
    return round(median(outcome.tokens for outcome in outcomes))


def _said(answer: object) -> str:
    text = str(sorted(map(str, answer)) if isinstance(answer, set) else answer)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} [and more]"
