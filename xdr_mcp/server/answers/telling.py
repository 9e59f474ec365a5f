"""How an alert is told: as a row, or whole. The id is always there, spelled so that it can be given back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert, Change, EntityKind
from xdr_mcp.untrusted import spell, visible, visible_json

RECENT_ROWS = 25

_ROW_BYTES = 225
"""What a compact row may cost on average, so that a page of 25 stays below 6,000 bytes."""
_RAW_SHOWN = 131_072
_PRINCIPALS = (EntityKind.HOST, EntityKind.USER, EntityKind.EMAIL, EntityKind.RESOURCE, EntityKind.IP)


class _Shape(Struct, frozen=True):
    """How much of its texts a compact row shows: characters of the title, entities, characters of each."""

    title: int
    entities: int
    entity: int


_SHAPES = (_Shape(72, 2, 40), _Shape(72, 1, 40), _Shape(48, 1, 32))
"""The roomiest that keeps a page small is taken, the last one in any case."""


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
        "title": short(alert.title, shape.title),
        "created": told_time(alert.created),
    }
    if about := [short(f"{each.kind}:{each.value}", shape.entity) for each in _principals(alert)[: shape.entities]]:
        row["about"] = about
    return row


def _principals(alert: Alert) -> list[Any]:
    """The entities an analyst would name first: one of each kind and value, hosts before users before the rest."""
    first = {kind: entity for entity in reversed(alert.entities) if (kind := entity.kind) in _PRINCIPALS}
    named = [first[kind] for kind in _PRINCIPALS if kind in first] or list(alert.entities)
    by_value = {entity.value.casefold(): entity for entity in reversed(named)}  # a mail address is often the user, too
    return [entity for entity in named if by_value[entity.value.casefold()] is entity]


def short(text: str, limit: int) -> str:
    """Visible, on one line, and cut with an ellipsis where it is longer than ``limit``."""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def told_whole(change: Change) -> dict[str, Any]:
    """One revision of an alert, without the vendor's record."""
    return {
        "alert": whole(change.alert),
        "revision": change.revision,
        "seq": change.seq,
        "change": change.kind.value,
        "fetched": told_time(change.fetched),
        "saved": told_time(change.saved),
    }


def told_raw(raw: bytes) -> Any:
    """The vendor's record: its JSON with hidden characters shown; as text where it is no JSON; its size where it is huge."""
    if len(raw) > _RAW_SHOWN:
        return f"{len(raw)} bytes, more than is sent here; the archive holds it whole"
    try:
        return visible_json(msgspec.json.decode(raw))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return visible(raw.decode(errors="replace"))


def told_time(moment: datetime) -> str:
    """To the second, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
