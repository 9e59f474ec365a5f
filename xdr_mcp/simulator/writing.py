"""Writing to an alert: ``PATCH /alerts/{id}``, which no public source shows. What is written stays, whatever the story does next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from xdr_mcp.simulator.asked import Refused
from xdr_mcp.simulator.revision import Revision, StoryRevision, milliseconds_of, stamp

STATUSES: Final = ("NEW", "IN_PROGRESS", "ACK_COMPLETE", "ACK_FP", "SUPPRESS")
WRITABLE: Final = {"status", "assignee", "note"}
LONGEST: Final = 5_000
_TIMES: Final = {"createdAt", "lastAggregatedTime", "time", "updatedAt"}


@dataclass(slots=True)
class Written:
    """What was written to one alert since it was created."""

    attributes: dict[str, Any] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def take(self, wanted: Mapping[str, Any], at: int) -> None:
        """Add what a request wrote."""
        for name in ("status", "assignee"):
            if name in wanted:
                self.attributes[name] = wanted[name]
        if "status" in wanted:
            suppressed = wanted["status"] == "SUPPRESS"
            self.attributes |= {"isSuppressed": suppressed, "alertMetadataSuppressed": suppressed}
            self.attributes["suppressedTime"] = stamp(at) if suppressed else None
        if "note" in wanted:
            note = {"author": "api", "createdAt": stamp(at), "note": wanted["note"], "sourceType": "General"}
            self.notes.append(note)

    def over(self, revision: Revision, number: int, at: int) -> Revision:
        """A version with all that was written, under another number and time."""
        record = revision.record["attributes"]
        told = {name: value for name, value in record.items() if name not in _TIMES}
        data = told["supportingData"]
        notes = [*data.get("notes", ()), *self.notes]
        attributes = told | self.attributes | ({"supportingData": {**data, "notes": notes}} if notes else {})
        aggregated = milliseconds_of(datetime.fromisoformat(record["lastAggregatedTime"]))
        return StoryRevision(
            revision.alert_id,
            number,
            revision.created,
            at,
            attributes,
            aggregated,
            revision.events,
            revision.assets,
            revision.contained,
        )


def wanted_attributes(body: Mapping[str, Any], alert_id: str) -> dict[str, Any]:
    """The attributes that a request writes, checked. Raises Refused (422)."""
    data = body.get("data")
    if not isinstance(data, dict) or data.get("id") != alert_id or not isinstance(data.get("attributes"), dict):
        raise _refused("data must be this alert, with the attributes to change")
    wanted: dict[str, Any] = data["attributes"]
    if not wanted or wanted.keys() - WRITABLE:
        raise _refused(f"attributes may hold {', '.join(sorted(WRITABLE))}")
    if "status" in wanted and wanted["status"] not in STATUSES:
        raise _refused(f"status must be one of {', '.join(STATUSES)}")
    if not isinstance(wanted.get("assignee"), str | None):
        raise _refused("assignee must be a text or null")
    note = wanted.get("note", "-")
    if not isinstance(note, str) or not 0 < len(note) <= LONGEST:
        raise _refused(f"note must be a text of 1 to {LONGEST} characters")
    return wanted


def _refused(detail: str) -> Refused:
    return Refused(422, "Unprocessable Entity", detail)
