"""One alert, whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xdr_mcp.alert import Alert, Change
from xdr_mcp.server.answers.budget import BYTES_PER_TOKEN, Answer, fitted
from xdr_mcp.server.answers.coverage import Detail, caveat
from xdr_mcp.server.answers.desk import Desk, Reach
from xdr_mcp.server.answers.faces import face_of
from xdr_mcp.server.answers.storms import Storm
from xdr_mcp.server.answers.telling import (
    BRIEF,
    COMPACT,
    FULL,
    Shape,
    one_line,
    told_labels,
    told_raw,
    told_revision,
    told_row,
    told_time,
    whole,
)

BUDGET = 3_000
"""Tokens of an alert, where no budget was given; twice as many beside the vendor's record."""

_RAW_TRIED = 4
"""A record of up to so many times the budget may fit once its blanks are gone; containing a larger one would be work for nothing."""

_LONGER = ("description", "entities", "attacks", "labels", "recommended_actions", "url")
"""What an alert can do without, in the order in which it is left out when all of it together is too long."""


async def one_alert(
    desk: Desk, told_id: str, *, raw: bool = False, as_of: str | None = None, budget: int | None = None
) -> Answer:
    """One alert whole, as of its newest revision, or as of a moment; on request with the vendor's record.

    Raises:
        UnknownAlert: with the ids that come closest. QueryError: ``as_of`` is no time.
    """
    moment = desk.as_of(as_of, desk.clock())
    reach = await desk.reach()
    change = await desk.alert(told_id, moment)
    reach = reach.of(change.alert.source)
    asked = {"as_of": told_time(moment)} if moment else {}
    allowed = budget or (2 * BUDGET if raw else BUDGET)
    readable = raw and len(change.raw) <= _RAW_TRIED * BYTES_PER_TOKEN * allowed
    forms = _forms(change, raw=raw, readable=readable)
    return fitted((_told(form | asked, change, reach) for form in forms), allowed)


def _forms(change: Change, *, raw: bool, readable: bool) -> Iterator[dict[str, Any]]:
    """From the whole alert, with the record, down to a row."""
    told = whole(change.alert)
    if readable:
        yield {"alert": told, "record": told_raw(change.raw)}
    record = {"raw": f"{len(change.raw)} bytes"} if raw else {}
    if raw:
        yield {"alert": told, "reduced": "without the vendor's record; ask with a larger budget"} | record
    else:
        yield {"alert": told}
    left_out: list[str] = []
    for name in sorted((name for name in _LONGER if name in told), key=lambda name: (-_size(told[name]), name)):
        left_out.append(name)
        kept = {key: value for key, value in told.items() if key not in left_out}
        yield {"alert": kept, "reduced": f"without {', '.join(left_out)}"} | record
    for shape in (FULL, COMPACT, BRIEF):
        yield {"alert": _row(change.alert, shape), "reduced": "a row of it"} | record


def _row(alert: Alert, shape: Shape) -> dict[str, Any]:
    """What a row tells, under the names that an alert has: clients check an answer against the tool's schema."""
    row = told_row(Storm.of(alert), shape)
    row.pop("about", None)
    named = [
        {"kind": entity.kind.value, "value": one_line(entity.value, shape.entity)}
        for entity in face_of(alert).principals[: shape.entities]
    ]
    return row | ({"entities": named} if named else {})


def _size(value: Any) -> int:
    return len(str(value))


def _told(form: dict[str, Any], change: Change, reach: Reach) -> Answer:
    alert, raw = form["alert"], form.pop("record", None)
    data = form | told_revision(change) | told_labels([alert], "raw" if raw is not None else "")
    data |= reach.told(Detail.BARE if "reduced" in form else Detail.FULL)
    line = f"{alert['severity']}, {alert['status']}, revision {change.revision}."
    return Answer(f"{line} {caveat(data['coverage'])}".strip(), data, raw)
