"""Writing back to Microsoft Defender XDR through Graph: ``PATCH security/alerts_v2/{id}``, and ``POST …/comments``.

Both need the application permission ``SecurityAlert.ReadWrite.All``; reading alone does not. Names and values: Microsoft's
reference of ``microsoft.graph.security`` v1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio.to_thread
import msgspec
from msgspec import structs

from xdr_mcp.alert import Alert, Status, Verdict
from xdr_mcp.errors import AuthenticationError, BadResponse
from xdr_mcp.http_client import HttpClient, path_segment
from xdr_mcp.interfaces import Plan, Record, Takes, VendorRequest
from xdr_mcp.proposal import TriageChange
from xdr_mcp.vendor_json import NORMALISER_FAILURES

PATH: Final = "security/alerts_v2"
PERMISSION: Final = "SecurityAlert.ReadWrite.All"

_STATUSES: Final = {Status.NEW: "new", Status.IN_PROGRESS: "inProgress", Status.RESOLVED: "resolved"}
_VERDICTS: Final[Mapping[Verdict, Mapping[str, str]]] = {
    Verdict.UNKNOWN: {"classification": "unknown", "determination": "unknown"},
    Verdict.TRUE_POSITIVE: {"classification": "truePositive", "determination": "other"},
    Verdict.FALSE_POSITIVE: {"classification": "falsePositive", "determination": "other"},
    Verdict.BENIGN: {"classification": "informationalExpectedActivity", "determination": "other"},
    Verdict.TEST: {"classification": "informationalExpectedActivity", "determination": "securityTesting"},
}
"""``other`` is what every version of Graph knows and what contradicts no classification."""


class MicrosoftTriage:
    """``interfaces.Triage`` of one tenant."""

    takes = Takes(statuses=tuple(_STATUSES), verdicts=tuple(_VERDICTS))

    def __init__(self, client: HttpClient, normalise: Callable[[dict[str, Any]], Alert]) -> None:
        self._client = client
        self._normalise = normalise

    def plan(self, record: Record, change: TriageChange, mark: str) -> Plan:
        """The fields in one request, the comment in another. See ``Triage.plan``."""
        alert = record.alert
        fields: dict[str, str | None] = {}
        if change.status is not None and change.status is not alert.status:
            fields["status"] = _STATUSES[change.status]
        if change.verdict is not None and change.verdict is not alert.verdict:
            fields |= _VERDICTS[change.verdict]
        if change.assignee is not None and change.assignee != alert.assignee:
            fields["assignedTo"] = change.assignee or None
        path = f"{PATH}/{path_segment(alert.vendor_id)}"
        requests: list[VendorRequest] = []
        if fields:
            requests.append(VendorRequest(method="PATCH", path=path, body=fields, repeatable=True))
        if change.comment and mark.encode() not in record.raw:
            comment = {"@odata.type": "microsoft.graph.security.alertComment", "comment": f"{change.comment}\n[{mark}]"}
            requests.append(VendorRequest(method="POST", path=f"{path}/comments", body=comment, repeatable=False))
        wanted: dict[str, Any] = {
            name: value for name in ("status", "verdict", "assignee") if (value := getattr(change, name)) is not None
        }
        return Plan(tuple(requests), structs.replace(alert, **wanted))

    async def read(self, vendor_id: str) -> Record:
        """The alert as it is now, with its comments. See ``Triage.read``."""
        answer = await self._client.request("GET", f"{PATH}/{path_segment(vendor_id)}")
        try:
            alert = await anyio.to_thread.run_sync(self._decoded, answer.body)
        except NORMALISER_FAILURES as error:
            raise BadResponse(f"the alert {vendor_id!r} cannot be read: {error}") from error
        return Record(alert, answer.body)

    async def send(self, request: VendorRequest) -> None:
        """Send it. See ``Triage.send``."""
        try:
            await self._client.request(request.method, request.path, json=request.body, repeatable=request.repeatable)
        except AuthenticationError as error:
            if error.status != 403:  # noqa: PLR2004 (Forbidden: the token is good, the permission is missing)
                raise
            remedy = f"grant the app registration the application permission {PERMISSION}, with admin consent"
            raise AuthenticationError(f"{error}; {remedy}", status=error.status) from error

    def _decoded(self, body: bytes) -> Alert:
        return self._normalise(msgspec.json.decode(body, type=dict[str, Any]))
