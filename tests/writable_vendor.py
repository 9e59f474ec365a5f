"""A vendor in memory that can be written to, and that fails as a test wishes."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from model_vendor import ManualClock, record
from msgspec import structs

from xdr_mcp.alert import Status, Verdict
from xdr_mcp.errors import NotFound
from xdr_mcp.interfaces import Plan, Record, Takes, VendorRequest
from xdr_mcp.proposal import TriageChange


class Killed(Exception):
    """The process ends here."""


class Writable:
    """A vendor in memory: fields in one request, a comment in another. ``trouble`` is what the next sendings meet."""

    takes = Takes(statuses=(Status.NEW, Status.RESOLVED), verdicts=(Verdict.UNKNOWN, Verdict.FALSE_POSITIVE))

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.records: dict[str, Record] = {}
        self.reads = 0
        self.sent: list[str] = []
        self.trouble: deque[tuple[str, Exception] | None] = deque()
        """``before`` or ``after`` the deed, and what happens then."""
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What else happens while the vendor is being told."""

    def put(self, vendor_id: str, **fields: Any) -> Record:
        made = record(vendor_id, self.clock.now, **fields)
        self.records[vendor_id] = made
        return made

    def plan(self, record: Record, change: TriageChange, mark: str) -> Plan:
        alert = record.alert
        wanted: dict[str, Any] = {
            name: value
            for name in ("status", "verdict", "assignee")
            if (value := getattr(change, name)) is not None and value != getattr(alert, name)
        }
        requests = [VendorRequest(method="PATCH", path=alert.vendor_id, body=wanted, repeatable=True)] if wanted else []
        if change.comment and mark.encode() not in record.raw:
            text = f"{change.comment} [{mark}]"
            requests.append(VendorRequest(method="POST", path=alert.vendor_id, body=text, repeatable=False))
        return Plan(tuple(requests), structs.replace(alert, **wanted))

    async def read(self, vendor_id: str) -> Record:
        self.reads += 1
        if vendor_id not in self.records:
            raise NotFound("no such alert")
        return self.records[vendor_id]

    async def send(self, request: VendorRequest) -> None:
        trouble = self.trouble.popleft() if self.trouble else None
        if trouble and trouble[0] == "before":
            raise trouble[1]
        known = self.records[request.path]
        self.sent.append(request.method)
        moment = max(self.clock.now, known.alert.updated + timedelta(microseconds=1))
        if request.method == "POST":
            changed = Record(structs.replace(known.alert, updated=moment), known.raw + str(request.body).encode())
        else:
            changed = Record(structs.replace(known.alert, updated=moment, **request.body), known.raw)
        self.records[request.path] = changed
        if self.meanwhile:
            await self.meanwhile()
        if trouble:
            raise trouble[1]
