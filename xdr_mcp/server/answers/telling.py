"""How an alert is told: as a row, or whole. The id is always there, spelled so that it can be given back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from xdr_mcp.alert import UNTRUSTED_FIELDS, Alert, Change, Entity
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.server.answers.faces import Face
from xdr_mcp.server.answers.storms import Storm, members_query
from xdr_mcp.untrusted import contained, contained_json, contained_line, ordinary, spell

_OF_OTHERS = frozenset({*UNTRUSTED_FIELDS, "about", "query"})
"""Names in rows and alerts that hold texts of others: fields of the model, and what is made of them."""
_VALUE_SHOWN = 4_096
"""Characters of one text of a whole alert; a longer one is in the vendor's record."""

_time = msgspec.json.Encoder().encode
"""A datetime as JSON: in a tenth of the time that ``isoformat`` takes."""

ALERT_FIELDS = tuple(field.name for field in msgspec.structs.fields(Alert))


class UnknownField(XdrMcpError):
    """An alert has no such field."""


class Shape(Struct, frozen=True):
    """How much of its texts a row shows: characters of the title, entities, characters of each."""

    title: int
    entities: int
    entity: int


FULL = Shape(title=240, entities=2, entity=120)
COMPACT = Shape(title=72, entities=1, entity=48)
BRIEF = Shape(title=48, entities=1, entity=30)


def check_fields(fields: Sequence[str]) -> None:
    """Raises ``UnknownField`` where an alert has no such field, with those that it has."""
    if unknown := [contained(name, 60) for name in fields if name not in ALERT_FIELDS]:
        raise UnknownField(f"No such field: {', '.join(unknown)}. An alert has {', '.join(ALERT_FIELDS)}")


def told_row(storm: Storm, shape: Shape, asked: str = "") -> dict[str, Any]:
    """An alert in a few fields. One that stands for a storm says how large it is, and who belongs to it."""
    rows = storm.face.rows
    if (row := rows.get(shape)) is None:
        row = rows[shape] = _row(storm.alert, storm.face, shape)
    return row | told_storm(storm, asked)


def _row(alert: Alert, face: Face, shape: Shape) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": spell(alert.id),
        "severity": alert.severity.value,
        "status": alert.status.value,
        "title": one_line(alert.title, shape.title),
        "created": told_time(alert.created),
    }
    if about := [told_entity(entity, shape.entity) for entity in face.principals[: shape.entities]]:
        row["about"] = about
    return row


def told_storm(storm: Storm, asked: str) -> dict[str, Any]:
    """How many alerts a row stands for, when they were created, and which ones they are; nothing where it is only one."""
    if storm.count == 1:
        return {}
    told: dict[str, Any] = {"count": storm.count, "first": told_time(storm.first), "last": told_time(storm.last)}
    if storm.named:
        return told | {"ids": [spell(alert_id) for alert_id in storm.ids]}
    return told | {"query": members_query(storm, asked)}


def told_fields(alert: Alert, fields: Sequence[str]) -> dict[str, Any]:
    """The id and the fields asked for, whole, as far as they have a value."""
    told = whole(alert)
    return {"id": told["id"]} | {name: told[name] for name in fields if name in told}


def told_counts(storms: Sequence[Storm]) -> dict[str, dict[str, int]]:
    """How many alerts there are of each severity and each status."""
    severities: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for storm in storms:
        severities[storm.alert.severity.value] += storm.count
        statuses[storm.alert.status.value] += storm.count
    return {"severity": dict(sorted(severities.items())), "status": dict(sorted(statuses.items()))}


def whole(alert: Alert) -> dict[str, Any]:
    """Every field of an alert that has a value."""
    told: dict[str, Any] = contained_json(msgspec.to_builtins(alert), _VALUE_SHOWN)
    return told | {"id": spell(alert.id), "severity": alert.severity.value, "status": alert.status.value}


def told_revision(change: Change) -> dict[str, Any]:
    """Which revision of an alert this is, and when it came."""
    return {
        "revision": change.revision,
        "change": change.kind.value,
        "fetched": told_time(change.fetched),
        "saved": told_time(change.saved),
    }


def told_raw(raw: bytes) -> Any:
    """The vendor's record: its JSON, every text in it contained; as text where it is no JSON."""
    try:
        return contained_json(msgspec.json.decode(raw))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return contained(raw.decode(errors="replace"))


def told_labels(rows: Iterable[Mapping[str, Any]], *more: str) -> dict[str, list[str]]:
    """Which names in these rows, and what else, hold texts of others; nothing where none does."""
    named = {name for row in rows for name in row if name in _OF_OTHERS}
    labels = [*sorted(named), *filter(None, more)]
    return {"untrusted": labels} if labels else {}


def told_entity(entity: Entity, longest: int) -> str:
    """``host:web-01``."""
    told = entity.kind + ":" + entity.value  # formatting an enum takes longer than all the rest
    return told if len(told) <= longest and ordinary(entity.value) else one_line(told, longest)


def one_line(text: str, longest: int) -> str:
    """Contained, on one line; where it is longer, the mark says how much of it is not shown."""
    return contained_line(text, longest)


def told_time(moment: datetime) -> str:
    """To the second, UTC."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return f"{_time(utc)[1:20].decode()}Z"
