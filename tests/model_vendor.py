"""A vendor in memory, for the poller's tests: alerts with updated times, pages of a fixed size, vices on demand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from xdr_mcp.alert import Alert, Status
from xdr_mcp.errors import BadResponse, WindowTooLarge
from xdr_mcp.interfaces import Limits, Page, Record, Window

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class ManualClock:
    """Time that moves when the test says so."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


def record(vendor_id: str, updated: datetime, *, source: str = "model", **fields: object) -> Record:
    """An alert and the vendor's record it would have come from."""
    values: dict[str, object] = {"title": f"alert {vendor_id}", "status": Status.NEW, "created": updated} | fields
    alert = Alert(source=source, vendor_id=vendor_id, updated=updated, **values)  # type: ignore[arg-type]
    return Record(alert, msgspec.json.encode({"id": vendor_id, "updatedAt": updated, **fields}))


class ModelVendor:
    """A source whose alerts the test edits while it is being read. ``before_page`` runs before every page."""

    def __init__(
        self, clock: ManualClock, *, name: str = "model", page_size: int = 10, per_day: int | None = None
    ) -> None:
        self.name = name
        self.limits = Limits(page_size=page_size, per_day=per_day)
        self.ahead = timedelta(0)
        """Of our clock; known to us once the vendor has answered."""
        self.idle_reason = ""
        self.clock = clock
        self.records: dict[str, Record] = {}
        self.windows: list[Window] = []
        self.most_per_window: int | None = None
        self.fail_at: datetime | None = None
        """A window that holds this moment cannot be read."""
        self.before_page: Callable[[], None] = lambda: None

    def put(self, vendor_id: str, updated: datetime | None = None, **fields: object) -> None:
        """The vendor creates or changes an alert; ``updated`` defaults to now."""
        self.records[vendor_id] = record(vendor_id, updated or self.clock.now, source=self.name, **fields)

    async def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:
        self.windows.append(window)
        if self.fail_at is not None and window.start <= self.fail_at <= window.end:
            raise BadResponse("the vendor stumbles over this window")
        inside = [
            record
            for record in self.records.values()
            if window.start <= record.alert.updated and (live or record.alert.updated <= window.end)
        ]
        if self.most_per_window is not None and len(inside) > self.most_per_window:
            raise WindowTooLarge(f"more than {self.most_per_window}")
        inside.sort(key=lambda record: record.alert.updated, reverse=True)
        for start in range(0, len(inside) or 1, self.limits.page_size):
            self.before_page()
            yield Page(tuple(inside[start : start + self.limits.page_size]), self.clock.now)

    async def check(self) -> str:
        return "a vendor in memory"

    def vendor_now(self) -> datetime:
        return self.clock.now + (self.ahead if self.windows else timedelta(0))
