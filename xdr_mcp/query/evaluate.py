"""Evaluates a query in memory. A store answers the same question in its own way and must agree on every alert."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cached_property
from typing import Any

from xdr_mcp.alert import Alert
from xdr_mcp.query.nodes import And, Comparison, Level, Moment, Node, Not, Or, Query, Term, Words
from xdr_mcp.query.text import terms_of, texts_of

_COMPARE: dict[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.GT: operator.gt,
    Comparison.GE: operator.ge,
}

LEVELS: dict[str, Callable[[Alert], int | None]] = {
    "severity": lambda alert: alert.severity.rank,
    "status": lambda alert: alert.status.ocsf_id,
    "verdict": lambda alert: alert.verdict.ocsf_id,
    "risk_score": lambda alert: alert.risk_score,
    "confidence": lambda alert: alert.confidence,
    "count": lambda alert: alert.count,
}
"""The number behind each field of a ``Level``; None where the alert does not say."""


def matches(query: Query, alert: Alert) -> bool:
    """Whether the alert is one that the query asks for. Takes time in proportion to both."""
    return matcher(alert)(query)


def matcher(alert: Alert) -> Callable[[Query], bool]:
    """``matches`` for many queries about one alert, which is folded once at most."""
    subject = _Subject(alert)
    return lambda query: query.root is None or subject.satisfies(query.root)


class _Subject:
    """One alert, prepared for asking as far as a query needs it."""

    def __init__(self, alert: Alert) -> None:
        self.alert = alert

    @cached_property
    def terms(self) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for field, value in terms_of(self.alert):
            values.setdefault(field, []).append(value)
        return values

    @cached_property
    def texts(self) -> dict[str, str]:
        return {column: f" {text} " for column, text in texts_of(self.alert)}

    def satisfies(self, node: Node) -> bool:  # noqa: PLR0911 (one answer for each kind of node)
        match node:
            case Term(field, pattern):
                return any(map(pattern.matches, self.terms.get(field, ())))
            case Level(field, comparison, value):
                return _compare(LEVELS[field](self.alert), comparison, value)
            case Moment(field, comparison, value):
                return _compare(getattr(self.alert, field), comparison, value)
            case Words(words, prefix, column):
                phrase = f" {' '.join(words)}" if prefix else f" {' '.join(words)} "
                return any(
                    phrase in text for text in (self.texts.values() if column is None else (self.texts[column],))
                )
            case And(nodes):
                return all(map(self.satisfies, nodes))
            case Or(nodes):
                return any(map(self.satisfies, nodes))
            case Not(inner):
                return not self.satisfies(inner)


def _compare(actual: Any, comparison: Comparison, value: Any) -> bool:
    """A missing value is equal to nothing, and neither before nor after anything."""
    if actual is None:
        return comparison is Comparison.NE
    return _COMPARE[comparison](actual, value)
