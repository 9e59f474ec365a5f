"""How far the picture reaches, source by source: how old it is, where it has gaps, and where there is none at all.

What counts is the window that was asked about: a gap elsewhere hides nothing from the answer, and a source that was last
read before the window begins is as blind to it as one that was never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any

from msgspec import Struct

from xdr_mcp.interfaces import SourceState, Window
from xdr_mcp.query import And, Comparison, Moment, Node, Query, Term, fold
from xdr_mcp.server.answers.telling import one_line, told_time

BLIND = "blind"

_ERROR_SHOWN = 200
_WHY_SHOWN = 100
"""Characters of an error beside an answer; ``source_status`` tells more."""
_WINDOWS_SHOWN = 5
_NAMED = 4
"""Sources that are told by name where there is little room."""


class Span(Struct, frozen=True):
    """The times that a question is about; None where it sets no bound."""

    start: datetime | None = None
    end: datetime | None = None

    def touches(self, window: Window) -> bool:
        """Whether some of the window lies within."""
        return (self.start is None or window.end > self.start) and (self.end is None or window.start < self.end)


EVER = Span()


def span_of(query: Query) -> Span:
    """The times at which an alert must have changed at the vendor to be among the answers and yet be unknown here.

    An alert is first seen about when it is created, so bounds of ``created`` are bounds of that; those of ``updated`` are
    nearer still. Only what every answer must satisfy counts.
    """
    moments = [node for node in _conjuncts(query.root) if isinstance(node, Moment)]
    lower = [node.value for node in moments if node.field in {"created", "updated"} and _is_lower(node)]
    by_updated = any(node.field == "updated" for node in moments)
    upper_field = "updated" if by_updated else "created"
    upper = [node.value for node in moments if node.field == upper_field and not _is_lower(node)]
    return Span(max(lower, default=None), min(upper, default=None))


def sources_of(query: Query, states: Sequence[SourceState]) -> list[SourceState]:
    """The sources that an answer can come from; all where the query names none that is known."""
    terms = [node for node in _conjuncts(query.root) if isinstance(node, Term) and node.field == "source"]
    named = [state for state in states if all(term.pattern.matches(fold(state.source)) for term in terms)]
    return named or list(states)


class Detail(IntEnum):
    """How much is told about each source, where room is short."""

    BARE = 0
    """State and age; of many sources, only how many there are in each state."""
    BRIEF = 1
    """The newest gap, too."""
    FULL = 2
    """All gaps, how late its alerts come, where its history begins (when the span reaches back further), and why it fails."""


_TOLD = {
    Detail.BARE: ("source", "state", "age_s"),
    Detail.BRIEF: ("source", "state", "age_s", "gaps", "more_gaps"),
}


def told_coverage(
    states: Iterable[SourceState], now: datetime, span: Span = EVER, detail: Detail = Detail.FULL
) -> list[dict[str, Any]]:
    """Per source: its state, how many seconds old its picture is, and so on, as ``detail`` says."""
    told = [_told_source(state, now, span, detail) for state in states]
    if detail is Detail.FULL:
        return told
    if len(told) > _NAMED:
        numbers = Counter(one["state"] for one in told)
        return [{"sources": numbers[state], "state": state} for state in sorted(numbers)]
    return [{key: one[key] for key in _TOLD[detail] if key in one} for one in told]


def told_blind(coverage: Iterable[dict[str, Any]], why: str) -> list[dict[str, Any]]:
    """The same sources, none of which knows anything of what was asked."""
    names = ("source", "sources")
    return [{name: one[name] for name in names if name in one} | {"state": BLIND, "why": why} for one in coverage]


def caveat(coverage: Sequence[dict[str, Any]]) -> str:
    """What is missing from the picture, in plain words; empty when nothing is. The reasons stand in the coverage."""
    if not coverage:
        return "Blind: no source has ever reported, so an empty answer means nothing."
    blind = [_name(entry) for entry in coverage if entry["state"] == BLIND]
    failing = [f"{_name(entry)} ({entry.get('age_s', '?')} s old)" for entry in coverage if entry["state"] == "failing"]
    gaps = [_name(entry) for entry in coverage if entry.get("gaps")]
    told = [f"Blind: {_named(blind)}; what it holds is not known."] if blind else []
    told += [f"Failing: {_named(failing)}."] if failing else []
    return " ".join(told + ([f"Gaps: {_named(gaps)}."] if gaps else []))


def _name(entry: dict[str, Any]) -> str:
    return entry.get("source") or f"{entry['sources']} sources"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def told_state(state: SourceState, now: datetime) -> dict[str, Any]:
    """Everything that is known about one source and has a value."""
    health = state.health
    told = _told_source(state, now, EVER, Detail.FULL) | {
        "alerts": state.alerts,
        "quarantined": state.quarantined,
        "lag_p50_s": _rounded(state.lag_p50),
        "lag_p99_s": _rounded(state.lag_p99),
        "lag_p999_s": _rounded(state.lag_p999),
        "look_back_s": health.look_back,
        "failures": health.failures,
        "last_error": one_line(health.last_error, _ERROR_SHOWN),
        "remedy": one_line(health.remedy, _ERROR_SHOWN),
        "polled_by": one_line(state.lease.holder, _ERROR_SHOWN) if state.lease else None,
        "covered": _told_windows(state.coverage),
        "gaps": _told_windows(state.gaps),
        "more_gaps": max(0, len(state.gaps) - _WINDOWS_SHOWN) or None,
        "clock_skew_s": _rounded(health.clock_skew) or None,
    }
    for name in ("last_attempt", "last_success", "last_error_at", "next_attempt"):
        moment = getattr(health, name)
        told[name] = told_time(moment) if moment else None
    return {name: value for name, value in told.items() if value not in (None, "", [])}


def _told_source(state: SourceState, now: datetime, span: Span, detail: Detail) -> dict[str, Any]:
    told: dict[str, Any] = {"source": one_line(state.source, _ERROR_SHOWN), "state": state.health.state}
    seen = state.coverage[-1].end if state.coverage else state.health.last_success
    if seen is not None:
        told["age_s"] = max(0, round((now - seen).total_seconds()))
    if why := _blindness(state, seen, span):
        return told | {"state": BLIND, "why": why}
    if state.health.state == "failing":
        told["why"] = one_line(state.health.last_error, _WHY_SHOWN)
    if state.lag_p99 is not None:
        told["lag_s"] = round(state.lag_p99)
    return told | _told_limits(state, span, 1 if detail < Detail.FULL else _WINDOWS_SHOWN)


def _told_limits(state: SourceState, span: Span, shown: int) -> dict[str, Any]:
    """What of the span was never read: before history begins, and in the gaps."""
    told: dict[str, Any] = {}
    if state.coverage and (span.start is None or span.start < state.coverage[0].start):
        told["begins"] = told_time(state.coverage[0].start)
    gaps = [gap for gap in state.gaps if span.touches(gap)]
    if gaps:
        told["gaps"] = _told_windows(gaps, shown)
    if len(gaps) > shown:
        told["more_gaps"] = len(gaps) - shown
    return told


def _blindness(state: SourceState, seen: datetime | None, span: Span) -> str:
    """Why nothing of the span can be known from this source; empty when something can."""
    health = state.health
    if health.state == "development":
        return "development mode: the vendor is never called"
    if seen is None:
        error = one_line(health.last_error, _WHY_SHOWN)
        return f"never read yet; last error: {error}" if error else "never read yet"
    if span.start is not None and state.coverage and span.start >= seen:
        return f"last read {told_time(seen)}, before the time asked about begins"
    if span.end is not None and state.coverage and span.end <= state.coverage[0].start:
        return f"read since {told_time(state.coverage[0].start)} only, after the time asked about ends"
    return ""


def _told_windows(windows: Sequence[Window], shown: int = _WINDOWS_SHOWN) -> list[list[str]]:
    """The newest few."""
    return [[told_time(window.start), told_time(window.end)] for window in windows[-shown:]]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _conjuncts(root: Node | None) -> Iterable[Node]:
    """What must all hold."""
    if isinstance(root, And):
        return root.nodes
    return () if root is None else (root,)


def _is_lower(moment: Moment) -> bool:
    return moment.comparison in {Comparison.GE, Comparison.GT}
