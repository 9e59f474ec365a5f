"""What is told about alerts: rows, whole alerts, and how far the picture reaches.

Tools and resources both answer from here. Every answer carries coverage, because an empty list from a source that was
never read means something else than an empty list.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert, Change, EntityKind
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.interfaces import Clock, SourceState, Store, Window
from xdr_mcp.query import Query, parse
from xdr_mcp.server.cursor import Cursors, Place
from xdr_mcp.untrusted import spell, unspell, visible, visible_json

ALERT_FIELDS = tuple(field.name for field in msgspec.structs.fields(Alert))
RECENT_ROWS = 25
BLIND = "blind"

_ROW_BYTES = 225
"""What a compact row may cost on average, so that a page of 25 stays below 6,000 bytes."""
_ERROR_SHOWN = 200
_WINDOWS_SHOWN = 5
_RAW_SHOWN = 131_072
_NEIGHBOURS_SEARCHED = 500
_PRINCIPALS = (EntityKind.HOST, EntityKind.USER, EntityKind.EMAIL, EntityKind.RESOURCE, EntityKind.IP)


class _Shape(Struct, frozen=True):
    """How much of its texts a compact row shows: characters of the title, entities, characters of each."""

    title: int
    entities: int
    entity: int


_SHAPES = (_Shape(72, 2, 40), _Shape(72, 1, 40), _Shape(48, 1, 32))
"""The roomiest that keeps a page small is taken, the last one in any case."""


class UnknownField(XdrMcpError):
    """An alert has no such field."""


class UnknownAlert(XdrMcpError):
    """No alert has this id."""


class Answers:
    """Asks the store and words what it says."""

    def __init__(self, store: Store, clock: Clock, cursors: Cursors) -> None:
        self.store = store
        self._clock = clock
        self._cursors = cursors

    # -- listings

    async def listing(
        self, tool: str, text: str, *, limit: int, cursor: str | None = None, fields: Sequence[str] = ()
    ) -> dict[str, Any]:
        """One page of the alerts that match ``text``, newest first, with the cursor of the next one.

        Raises:
            QueryError: the query cannot be understood.
            BadCursor: the cursor was not given out by this tool for this query.
            UnknownField: a field asked for does not exist.
        """
        _check_fields(fields)
        place = self._cursors.open(cursor, tool, text) if cursor else None
        asked = place.asked if place else self._clock()
        query = parse(text, now=asked)
        found = await self.store.find(query, limit, place.after if place else None)
        total = place.total if place else len(found.alerts)
        if found.next and not place:
            total = await self.store.count(query)
        page: dict[str, Any] = {"alerts": rows(found.alerts, fields), "total": total}
        if found.next:
            page["next_cursor"] = self._cursors.sign(Place(asked, total, found.next), tool, text)
        return page | {"coverage": await self.coverage()}

    async def newest(self, text: str = "") -> dict[str, Any]:
        """The newest alerts that match: what the recent and search resources hold."""
        found = await self.store.find(parse(text, now=self._clock()), RECENT_ROWS)
        return {"alerts": rows(found.alerts), "more": found.next is not None, "coverage": await self.coverage()}

    # -- one alert

    async def alert(self, told_id: str, *, include_raw: bool = False) -> dict[str, Any]:
        """One alert whole, as of its newest revision, by its id or by its id as it was told.

        Raises:
            UnknownAlert: with the ids that come closest.
        """
        change = await self.store.get(unspell(told_id))
        if change is None and "%" in told_id:
            change = await self.store.get(told_id)
        if change is None:
            raise UnknownAlert(await self._unknown(told_id))
        answer = _told_whole(change)
        if include_raw:
            answer["raw"] = _told_raw(change.raw)
        return answer | {"coverage": await self.coverage()}

    async def _unknown(self, told_id: str) -> str:
        known = [alert.id for alert in (await self.store.find(Query(), _NEIGHBOURS_SEARCHED)).alerts]
        same = [
            f"{state.source}/{told_id}"
            for state in await self.store.states()
            if await self.store.get(f"{state.source}/{told_id}")
        ]
        close = same or difflib.get_close_matches(told_id, known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(map(spell, close))}?" if close else ""
        return (
            f"No alert has the id {visible(told_id)}.{hint} Ids are <source>/<vendor id>, "
            "as list_alerts and filter_alerts give them."
        )

    # -- how far the picture reaches

    async def coverage(self) -> list[dict[str, Any]]:
        """Per source: its state, and how many seconds old its picture is."""
        now = self._clock()
        return [_told_coverage(state, now) for state in await self.store.states()]

    async def status(self) -> dict[str, Any]:
        """Everything an operator asks first: sources, lag, who polls, where the journal stands."""
        now = self._clock()
        states = await self.store.states()
        return {
            "now": _told_time(now),
            "last_seq": await self.store.last_seq(),
            "sources": [_told_state(state, now) for state in states],
        }


def summary(page: dict[str, Any]) -> str:
    """A page of alerts in one line, for whoever reads text only."""
    shown, total = len(page["alerts"]), page["total"]
    line = f"{shown} of {total} alerts, newest first" if shown else "No alert matches"
    if "next_cursor" in page:
        line += "; next_cursor given"
    return f"{line}. {caveat(page['coverage'])}".strip()


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


def _check_fields(fields: Sequence[str]) -> None:
    if unknown := [visible(name) for name in fields if name not in ALERT_FIELDS]:
        raise UnknownField(f"No such field: {', '.join(unknown)}. An alert has {', '.join(ALERT_FIELDS)}")


# ---------------------------------------------------------------- how things are told


def rows(alerts: Sequence[Alert], fields: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Alerts as rows: compact ones, or the fields asked for, whole. The id is always there.

    Where their texts are long, all rows of the page are cut shorter.
    """
    if not fields:
        allowed = _ROW_BYTES * max(len(alerts), RECENT_ROWS)
        told: list[dict[str, Any]] = []
        for shape in _SHAPES:
            told = [_compact(alert, shape) for alert in alerts]
            if len(msgspec.json.encode(told)) <= allowed:
                break
        return told
    return [{"id": row["id"]} | {name: row[name] for name in fields if name in row} for row in map(whole, alerts)]


def whole(alert: Alert) -> dict[str, Any]:
    """Every field of an alert that has a value."""
    told: dict[str, Any] = visible_json(msgspec.to_builtins(alert))
    return told | {"id": spell(alert.id), "severity": alert.severity.value, "status": alert.status.value}


def _compact(alert: Alert, shape: _Shape) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": spell(alert.id),
        "severity": alert.severity.value,
        "status": alert.status.value,
        "title": _short(alert.title, shape.title),
        "created": _told_time(alert.created),
    }
    if about := [_short(f"{each.kind}:{each.value}", shape.entity) for each in _principals(alert)[: shape.entities]]:
        row["about"] = about
    return row


def _principals(alert: Alert) -> list[Any]:
    """The entities an analyst would name first: one of each kind and value, hosts before users before the rest."""
    first = {kind: entity for entity in reversed(alert.entities) if (kind := entity.kind) in _PRINCIPALS}
    named = [first[kind] for kind in _PRINCIPALS if kind in first] or list(alert.entities)
    by_value = {entity.value.casefold(): entity for entity in reversed(named)}  # a mail address is often the user, too
    return [entity for entity in named if by_value[entity.value.casefold()] is entity]


def _short(text: str, limit: int) -> str:
    """Visible, on one line, and cut with an ellipsis where it is longer than ``limit``."""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _told_whole(change: Change) -> dict[str, Any]:
    return {
        "alert": whole(change.alert),
        "revision": change.revision,
        "seq": change.seq,
        "change": change.kind.value,
        "fetched": _told_time(change.fetched),
        "saved": _told_time(change.saved),
    }


def _told_raw(raw: bytes) -> Any:
    """The vendor's record: its JSON with hidden characters shown; as text where it is no JSON; its size where it is huge."""
    if len(raw) > _RAW_SHOWN:
        return f"{len(raw)} bytes, more than is sent here; the archive holds it whole"
    try:
        return visible_json(msgspec.json.decode(raw))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return visible(raw.decode(errors="replace"))


def _told_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _told_coverage(state: SourceState, now: datetime) -> dict[str, Any]:
    told: dict[str, Any] = {"source": visible(state.source), "state": state.health.state}
    if why := _blindness(state):
        return told | {"state": BLIND, "why": why}
    if (seen := _seen_until(state)) is not None:
        told["age_s"] = max(0, round((now - seen).total_seconds()))
    if state.health.state == "failing":
        told["why"] = _short(state.health.last_error, _ERROR_SHOWN)
    return told


def _blindness(state: SourceState) -> str:
    """Why nothing can be known from this source; empty when something can."""
    health = state.health
    if health.state == "development":
        return "development mode: the vendor is never called"
    if health.last_success is None and not state.coverage:
        return (
            f"never read yet; last error: {_short(health.last_error, _ERROR_SHOWN)}"
            if health.last_error
            else "never read yet"
        )
    return ""


def _seen_until(state: SourceState) -> datetime | None:
    return state.coverage[-1].end if state.coverage else state.health.last_success


def _told_windows(windows: Sequence[Window]) -> list[list[str]]:
    """The newest few."""
    return [[_told_time(window.start), _told_time(window.end)] for window in windows[-_WINDOWS_SHOWN:]]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _told_state(state: SourceState, now: datetime) -> dict[str, Any]:
    health = state.health
    told = _told_coverage(state, now) | {
        "alerts": state.alerts,
        "quarantined": state.quarantined,
        "lag_p50_s": _rounded(state.lag_p50),
        "lag_p99_s": _rounded(state.lag_p99),
        "failures": health.failures,
        "last_error": _short(health.last_error, _ERROR_SHOWN),
        "polled_by": visible(state.lease.holder) if state.lease else None,
        "covered": _told_windows(state.coverage),
        "gaps": _told_windows(state.gaps),
    }
    for name in ("last_attempt", "last_success", "last_error_at", "next_attempt"):
        moment = getattr(health, name)
        told[name] = _told_time(moment) if moment else None
    return {name: value for name, value in told.items() if value not in (None, "", [])}
