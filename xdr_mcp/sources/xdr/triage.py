"""Writing status, assignee and a note back to the XDR Alert Management API, in its own dialect.

A guess, and off unless ``write_back`` is set: no public source shows that the API takes it. The status words are those of the
alerts themselves. They say a verdict in one case only, ``ACK_FP``: closed as a false positive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio.to_thread
from msgspec import structs

from xdr_mcp.alert import Alert, Status, Verdict
from xdr_mcp.errors import BadResponse, TriageError
from xdr_mcp.http_client import path_segment
from xdr_mcp.interfaces import Plan, Record, Takes, VendorRequest
from xdr_mcp.proposal import TriageChange
from xdr_mcp.sources.xdr.client import XdrClient, update_body
from xdr_mcp.vendor_json import NORMALISER_FAILURES

_WORDS: Final = {
    Status.NEW: "NEW",
    Status.IN_PROGRESS: "IN_PROGRESS",
    Status.RESOLVED: "ACK_COMPLETE",
    Status.SUPPRESSED: "SUPPRESS",
}
_FALSE_POSITIVE: Final = "ACK_FP"


class XdrTriage:
    """``interfaces.Triage`` of one tenant."""

    takes = Takes(statuses=tuple(_WORDS), verdicts=(Verdict.UNKNOWN, Verdict.FALSE_POSITIVE))

    def __init__(self, client: XdrClient, normalise: Callable[[dict[str, Any]], Alert]) -> None:
        self._client = client
        self._normalise = normalise

    def plan(self, record: Record, change: TriageChange, mark: str) -> Plan:
        """One request with all that is still to change. See ``Triage.plan``."""
        alert = record.alert
        status, verdict = _outcome(alert, change)
        attributes: dict[str, Any] = {}
        if (status, verdict) != (alert.status, alert.verdict):
            attributes["status"] = _FALSE_POSITIVE if verdict is Verdict.FALSE_POSITIVE else _WORDS[status]
        assignee = alert.assignee if change.assignee is None else change.assignee
        if assignee != alert.assignee:
            attributes["assignee"] = assignee or None
        noted = not change.comment or mark.encode() in record.raw
        if not noted:
            attributes["note"] = f"{change.comment}\n[{mark}]"
        after = structs.replace(alert, status=status, verdict=verdict, assignee=assignee)
        if not attributes:
            return Plan((), after)
        request = VendorRequest(
            method="PATCH",
            path=f"/api/v1/alerts/{path_segment(alert.vendor_id)}",
            body=update_body(alert.vendor_id, attributes),
            repeatable=noted,
        )
        return Plan((request,), after)

    async def read(self, vendor_id: str) -> Record:
        """The alert as it is now. See ``Triage.read``."""
        raw, record = await self._client.alert_record(vendor_id)
        try:
            alert = await anyio.to_thread.run_sync(self._normalise, record)
        except NORMALISER_FAILURES as error:
            raise BadResponse(f"the alert {vendor_id!r} cannot be read: {error}") from error
        return Record(alert, raw)

    async def send(self, request: VendorRequest) -> None:
        """Send it. See ``Triage.send``."""
        data = request.body["data"]
        await self._client.update_alert(data["id"], data["attributes"], repeatable=request.repeatable)


def _outcome(alert: Alert, change: TriageChange) -> tuple[Status, Verdict]:
    """Status and verdict as they will be; a verdict goes with the status that said it. Raises TriageError."""
    status = change.status or alert.status
    kept = alert.verdict if status is alert.status else Verdict.UNKNOWN
    verdict = change.verdict if change.verdict is not None else kept
    if verdict is Verdict.FALSE_POSITIVE and status is not Status.RESOLVED:
        raise TriageError(
            "this vendor says false_positive by closing the alert, so it goes with status resolved: give both"
        )
    if status not in _WORDS and status is not alert.status:
        raise TriageError(f"this vendor has no word for the status {status}")
    return status, verdict
