"""How far the picture reaches, source by source: how old it is, where it has gaps, and where there is none at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from xdr_mcp.interfaces import SourceState, Window
from xdr_mcp.server.answers.telling import short, told_time
from xdr_mcp.untrusted import visible

BLIND = "blind"

_ERROR_SHOWN = 200
_WINDOWS_SHOWN = 5


def caveat(coverage: Sequence[dict[str, Any]]) -> str:
    """What is missing from the picture, in plain words; empty when nothing is."""
    if not coverage:
        return "Blind: no source has ever reported, so an empty answer means nothing."
    blind = [f"{entry['source']} ({entry['why']})" for entry in coverage if entry["state"] == BLIND]
    failing = [
        f"{entry['source']} ({entry.get('age_s', '?')} s old)" for entry in coverage if entry["state"] == "failing"
    ]
    told = [f"Blind: {', '.join(blind)}."] if blind else []
    return " ".join(told + ([f"Failing: {', '.join(failing)}."] if failing else []))


def told_coverage(state: SourceState, now: datetime) -> dict[str, Any]:
    """One source: its state, and how many seconds old its picture is."""
    told: dict[str, Any] = {"source": visible(state.source), "state": state.health.state}
    if why := _blindness(state):
        return told | {"state": BLIND, "why": why}
    if (seen := _seen_until(state)) is not None:
        told["age_s"] = max(0, round((now - seen).total_seconds()))
    if state.health.state == "failing":
        told["why"] = short(state.health.last_error, _ERROR_SHOWN)
    return told


def _blindness(state: SourceState) -> str:
    """Why nothing can be known from this source; empty when something can."""
    health = state.health
    if health.state == "development":
        return "development mode: the vendor is never called"
    if health.last_success is None and not state.coverage:
        return (
            f"never read yet; last error: {short(health.last_error, _ERROR_SHOWN)}"
            if health.last_error
            else "never read yet"
        )
    return ""


def _seen_until(state: SourceState) -> datetime | None:
    return state.coverage[-1].end if state.coverage else state.health.last_success


def _told_windows(windows: Sequence[Window]) -> list[list[str]]:
    """The newest few."""
    return [[told_time(window.start), told_time(window.end)] for window in windows[-_WINDOWS_SHOWN:]]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def told_state(state: SourceState, now: datetime) -> dict[str, Any]:
    """Everything that is known about one source and has a value."""
    health = state.health
    told = told_coverage(state, now) | {
        "alerts": state.alerts,
        "quarantined": state.quarantined,
        "lag_p50_s": _rounded(state.lag_p50),
        "lag_p99_s": _rounded(state.lag_p99),
        "look_back_s": health.look_back,
        "failures": health.failures,
        "last_error": short(health.last_error, _ERROR_SHOWN),
        "remedy": short(health.remedy, _ERROR_SHOWN),
        "polled_by": visible(state.lease.holder) if state.lease else None,
        "covered": _told_windows(state.coverage),
        "gaps": _told_windows(state.gaps),
        "gaps_not_shown": max(0, len(state.gaps) - _WINDOWS_SHOWN) or None,
    }
    for name in ("last_attempt", "last_success", "last_error_at", "next_attempt"):
        moment = getattr(health, name)
        told[name] = told_time(moment) if moment else None
    return {name: value for name, value in told.items() if value not in (None, "", [])}
