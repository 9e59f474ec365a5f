"""What changed: the journal from a number on, and waiting for what it will say next.

A change is told with what it did to each field. Its number is the way on: whoever keeps ``next`` and asks again misses
nothing, however long it was away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert, Attack, Change, Entity
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.query import Query, matcher, parse
from xdr_mcp.server.answers.budget import Answer, fitted, most_that_fit
from xdr_mcp.server.answers.coverage import Detail, caveat
from xdr_mcp.server.answers.desk import Desk, Reach
from xdr_mcp.server.answers.faces import face_of
from xdr_mcp.server.answers.storms import Storm
from xdr_mcp.server.answers.telling import (
    ALERT_FIELDS,
    COMPACT,
    FULL,
    Shape,
    one_line,
    told_labels,
    told_row,
    told_time,
)
from xdr_mcp.untrusted import contained_json, spell

CHANGES = 25
"""Changes that are told, where no number was given."""
PER_CHANGE = 60
"""Tokens for each, where no budget was given."""
SCANNED = 5_000
"""Changes that are looked through at most for one answer."""

_BATCH = 500
_ITEMS = 5
"""Entities, labels and the like of one change that are told one by one."""
_OF_ITSELF = frozenset({"id", "source", "vendor_id", "updated"})
"""Fields that cannot change, or always do."""
_OF_WEIGHT = ("severity", "status", "verdict", "assignee")
"""Fields whose change is told even where there is little room."""


class UnknownSeq(XdrMcpError):
    """There is no such place in the journal."""


class _Read(Struct):
    """What was found in a stretch of the journal: the changes that match, and up to where it was read."""

    changes: list[Change]
    seq: int
    more: bool


async def alert_changes(
    desk: Desk, since: int | None, text: str = "", *, limit: int = CHANGES, budget: int | None = None
) -> Answer:
    """What changed after change number ``since``, oldest first. Without it, the number of now.

    Raises:
        QueryError: the query cannot be understood. UnknownSeq: ``since`` lies ahead of the newest change.
    """
    query = parse(text, now=desk.clock())
    reach = await desk.reach(query)
    allowed = budget or PER_CHANGE * max(limit, CHANGES)
    if since is None:
        return _told_changes(_Read([], reach.seq, more=False), reach, allowed)
    _check(since, reach)
    read = await _read(desk, query, since, limit)
    return _told_changes(read, reach, allowed)


async def wait_for_alerts(
    desk: Desk, text: str, seconds: float, since: int | None = None, *, budget: int | None = None
) -> Answer:
    """The first changes, after number ``since`` or from now on, by which an alert matches; or that none came in time.

    Raises:
        QueryError: the query cannot be understood. UnknownSeq: ``since`` lies ahead of the newest change.
    """
    reach = await desk.reach(parse(text, now=desk.clock()))
    after = reach.seq if since is None else since
    _check(after, reach)
    deadline = anyio.current_time() + seconds
    while True:
        query = parse(text, now=desk.clock())  # what is since:-1h moves on
        read = await _read(desk, query, after, CHANGES, first=True)
        left = deadline - anyio.current_time()
        if read.changes or (left <= 0 and read.more) or not (read.more or await desk.store.wait(read.seq, left)):
            return _told_changes(read, await desk.reach(query), budget or PER_CHANGE * CHANGES)
        after = read.seq


def _check(since: int, reach: Reach) -> None:
    if since > reach.seq:
        raise UnknownSeq(
            f"Change {since} is ahead of the newest, {reach.seq}: the number is not from this store, or the store was made "
            f"anew. Go on with since={reach.seq}, or list what is there."
        )


async def _read(desk: Desk, query: Query, after: int, limit: int, *, first: bool = False) -> _Read:
    """Changes whose alert matches, before the change or after it; with ``first``, after it alone, of the first batch."""
    found: list[Change] = []
    scanned = 0
    while len(found) < limit and scanned < SCANNED and not (first and found):
        batch = await desk.store.changes(after, min(_BATCH, SCANNED - scanned))
        if not batch:
            return _Read(found, after, more=False)
        for change in batch:
            after = change.seq
            scanned += 1
            if _matches(query, change, after_only=first):
                found.append(change)
                if len(found) == limit:
                    break
        await anyio.lowlevel.checkpoint()  # a long stretch: let others have a turn
    return _Read(found, after, more=after < await desk.store.last_seq())


def _matches(query: Query, change: Change, *, after_only: bool) -> bool:
    if matcher(change.alert)(query):
        return True
    return not after_only and change.before is not None and matcher(change.before)(query)


# ---------------------------------------------------------------- telling


def _told_changes(read: _Read, reach: Reach, budget: int) -> Answer:
    number = len(read.changes)
    forms = [_full, _compact, _clustered] if number else [_full, _clustered]
    answer = fitted((form(read, reach, number) for form in forms), budget)
    if answer.tokens <= budget or not number:
        return answer
    return _clustered(read, reach, most_that_fit(number, lambda fewer: _clustered(read, reach, fewer).tokens <= budget))


def _full(read: _Read, reach: Reach, number: int) -> Answer:
    """Each change with the row of a new alert, or with what differs in another."""
    rows = [
        _head(change) | (told_row(Storm.of(change.alert), FULL) if change.before is None else _what_differs(change))
        for change in read.changes[:number]
    ]
    return _answer(read, reach, number, rows, Detail.FULL)


def _compact(read: _Read, reach: Reach, number: int) -> Answer:
    """The same in less: of what differs, the work on it and how bad it is; of the rest, which fields."""
    rows = [
        _numbered(change)
        | (told_row(Storm.of(change.alert), COMPACT) if change.before is None else _what_matters(change))
        for change in read.changes[:number]
    ]
    return _answer(read, reach, number, rows, Detail.BRIEF, reduced="compact rows")


def _clustered(read: _Read, reach: Reach, number: int) -> Answer:
    """Changes of one kind to near-duplicates in one row: which, and the ids of the others."""
    groups: dict[Any, dict[str, Any]] = {}
    for change in read.changes[:number]:
        key = (change.kind, *face_of(change.alert).fingerprint)
        if key in groups:
            groups[key].setdefault("ids", []).append(spell(change.alert.id))
        else:
            groups[key] = _numbered(change) | _named(change, COMPACT)
    counts = Counter(change.kind.value for change in read.changes[:number])
    return _answer(
        read,
        reach,
        number,
        list(groups.values()),
        Detail.BARE,
        counts=dict(sorted(counts.items())),
        reduced="clusters of what looks alike" if number else "brief coverage",
    )


def _answer(read: _Read, reach: Reach, number: int, rows: list[dict[str, Any]], detail: Detail, **told: Any) -> Answer:
    left = len(read.changes) - number
    following = read.changes[number - 1].seq if left else read.seq
    if left:
        told["reduced"] = f"{number} of {len(read.changes)} changes, {told['reduced']}"
    data: dict[str, Any] = {"changes": rows, "next": following, "more": read.more or left > 0}
    data |= {name: value for name, value in told.items() if value}
    data |= told_labels(rows, "fields" if any("fields" in row for row in rows) else "")
    data |= reach.told(detail)
    line = f"{number} changes; what comes later: since={following}" + (", there are more" if data["more"] else "")
    return Answer(f"{line}. {caveat(data['coverage'])}".strip(), data)


def _head(change: Change) -> dict[str, Any]:
    return _numbered(change) | {"at": told_time(change.saved)}


def _numbered(change: Change) -> dict[str, Any]:
    return {"seq": change.seq, "kind": change.kind.value}


def _named(change: Change, shape: Shape) -> dict[str, Any]:
    alert = change.alert
    return {
        "id": spell(alert.id),
        "severity": alert.severity.value,
        "title": one_line(alert.title, shape.title),
    }


def _what_differs(change: Change) -> dict[str, Any]:
    assert change.before is not None, "a new alert differs from nothing"
    return _named(change, FULL) | {"fields": told_differences(change.before, change.alert, FULL.title)}


def _what_matters(change: Change) -> dict[str, Any]:
    assert change.before is not None, "a new alert differs from nothing"
    differences = told_differences(change.before, change.alert, COMPACT.title)
    told: dict[str, Any] = {name: differences.pop(name) for name in _OF_WEIGHT if name in differences}
    parts = {"fields": told, "also": sorted(differences)}
    return _named(change, COMPACT) | {name: part for name, part in parts.items() if part}


def told_differences(before: Alert, after: Alert, longest: int) -> dict[str, Any]:
    """``{"status": ["new", "resolved"]}``; of lists, what was added and removed. The vendor's time only where it is all."""
    differing = [name for name in ALERT_FIELDS if getattr(before, name) != getattr(after, name)]
    names = [name for name in differing if name not in _OF_ITSELF] or differing
    return {name: _difference(getattr(before, name), getattr(after, name), longest) for name in names}


def _difference(before: Any, after: Any, longest: int) -> Any:
    if not isinstance(after, tuple):
        return [_value(before, longest), _value(after, longest)]
    told: dict[str, Any] = {}
    for name, items in (("added", _without(after, before)), ("removed", _without(before, after))):
        if items:
            told[name] = [one_line(_said(item), longest) for item in items[:_ITEMS]]
        if len(items) > _ITEMS:
            told[f"more_{name}"] = len(items) - _ITEMS
    return told or "order"


def _value(value: Any, longest: int) -> Any:
    return told_time(value) if isinstance(value, datetime) else contained_json(msgspec.to_builtins(value), longest)


def _without(items: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    return [item for item in items if item not in others]


def _said(item: Entity | Attack | str) -> str:
    match item:
        case Entity():
            return f"{item.kind}:{item.value}"
        case Attack():
            return " ".join(filter(None, (item.technique or item.tactic, item.technique_name or item.tactic_name)))
        case _:
            return item
