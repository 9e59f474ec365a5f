"""The XDR Alert Management API as a source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import BaseModel

from xdr_mcp.alert import Alert
from xdr_mcp.interfaces import (
    Clock,
    ContextItems,
    Limits,
    Memory,
    Page,
    Quarantined,
    Record,
    Source,
    Window,
    utc_now,
)
from xdr_mcp.sources.xdr.client import IDLE_REASON, XdrClient
from xdr_mcp.sources.xdr.entities import referred_by
from xdr_mcp.sources.xdr.mapping import to_alert
from xdr_mcp.sources.xdr.options import XdrOptions
from xdr_mcp.sources.xdr.paging import Included, Reader
from xdr_mcp.sources.xdr.triage import XdrTriage
from xdr_mcp.vendor_json import normalised, page_of


class XdrSource:
    """One tenant. Alerts aggregate there: the same alert comes again, with a later updated time, as it grows."""

    Options: ClassVar[type[BaseModel]] = XdrOptions
    context_parts: Sequence[str] = ("events", "assets", "intelligence")

    def __init__(self, name: str, client: XdrClient, memory: Memory, clock: Clock = utc_now) -> None:
        self.name = name
        self.limits: Limits = client.options.limits
        self.idle_reason = IDLE_REASON if client.options.development else ""
        self._client = client
        self._reader = Reader(partial(client.alerts_as, self._taken), memory, self.limits.page_size, clock)
        self._clock = clock
        able = client.options.write_back and not client.options.development
        self.triage = XdrTriage(client, self._normalise) if able else None
        """Its ability to be written to (``interfaces.Triage``)."""

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str, options: XdrOptions, memory: Memory) -> AsyncIterator[Source]:
        """Connect lazily: entering makes no request.

        Raises:
            SettingsError: the base URL or the credential is missing or wrong.
        """
        async with XdrClient(options, memory=memory) as client:
            yield cls(name, client, memory)

    async def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:
        """Every alert whose updatedAt lies in ``window``; see ``Source.pages``."""
        async with aclosing(self._reader.window(window, live=live)) as listings:
            async for listing in listings:
                yield page_of(listing.items, listing.quarantined, self._clock())

    async def check(self) -> str:
        """Read one alert and say what was reached."""
        if self.idle_reason:
            return self.idle_reason
        listing = await self._client.alerts(limit=1)
        count = f"{listing.total:,} alerts" if listing.total is not None else "its alerts"
        return f"the alert API at {self._client.options.base_url} takes the credential and shows {count}"

    async def context(self, vendor_id: str, part: str, limit: int) -> ContextItems:
        """What the API knows about an alert beside it; see ``ContextSource.context``."""
        if part == "events":
            listing = await self._client.alert_events(vendor_id, sort="-time", limit=limit)
        elif part == "assets":
            listing = await self._client.alert_assets(vendor_id, sort="-updatedAt", limit=limit)
        else:
            listing = await self._client.alert_intelligence(vendor_id, limit=limit)
        return ContextItems(tuple(map(_flat, listing.items)), listing.total)

    def vendor_now(self) -> datetime:
        """The vendor's clock as its last answer told it; ours before."""
        return self._client.vendor_now()

    def _taken(self, raw: bytes, record: dict[str, Any], included: Included) -> Record | Quarantined:
        return normalised(self._normalise, raw, record, included)

    def _normalise(self, record: dict[str, Any], included: Included = MappingProxyType({})) -> Alert:
        beside = [included[reference] for reference in referred_by(record) if reference in included] if included else []
        return to_alert(self.name, record, beside)


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    """An object of JSON:API as one plain object: its id beside its attributes."""
    attributes = item.get("attributes")
    return {"id": item.get("id"), **attributes} if isinstance(attributes, dict) else item
