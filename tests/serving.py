"""A server over a real store, and clients of both eras that talk to it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.server.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.types import ResourceUpdatedNotification

from xdr_mcp.alert import Alert, Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Health, Lease, Page, Record, Store, Triage
from xdr_mcp.server import XdrServer, build_server
from xdr_mcp.store import open_store
from xdr_mcp.triage import Approvals

BOUND = 5.0
"""Seconds that a wait may take before the test fails."""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"k" * 32
ERAS = ("auto", "legacy")


class Clock:
    """The time that a test says it is."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def an_alert(number: int = 1, **changes: Any) -> Alert:
    """Alert number so-and-so: high, new, a minute older than the one before it."""
    created = NOON - timedelta(minutes=number)
    told: dict[str, Any] = {
        "source": "xdr",
        "vendor_id": f"4f9a1c2e-0000-4000-8000-{number:012d}",
        "title": f"Suspicious PowerShell download cradle on web-{number:02d}",
        "created": created,
        "updated": created,
        "severity": Severity.HIGH,
        "status": Status.NEW,
        "entities": (Entity(EntityKind.HOST, f"web-{number:02d}.example.com"), Entity(EntityKind.USER, "alice")),
    }
    return Alert(**told | changes)


async def save(store: Store, *alerts: Alert, raw: bytes = b'{"vendor": "record"}') -> None:
    """Store these as the poller would."""
    for source in dict.fromkeys(alert.source for alert in alerts):
        records = tuple(Record(alert, raw) for alert in alerts if alert.source == source)
        lease = await poller_of(store, source)
        await store.save(source, Page(records, NOON), lease)


async def poller_of(store: Store, source: str) -> Lease:
    lease = await store.acquire(f"poll:{source}", "tests", timedelta(hours=1))
    assert lease is not None
    return lease


async def report(store: Store, state: str, source: str = "xdr", **health: Any) -> None:
    await store.report(source, Health(state=state, **health), None)


@asynccontextmanager
async def a_server(
    folder: Path,
    *already: Alert,
    clock: Clock | None = None,
    proposing: bool = False,
    writable: Mapping[str, Triage] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[XdrServer, Store]]:
    """A running server over a new store that holds these alerts already; ``proposing``, it takes proposals for ``writable``."""
    clock = clock or Clock()
    async with open_store(folder / "xdr.db", clock=clock) as store:
        await save(store, *already)
        if proposing:
            options["approvals"] = Approvals(store, writable or {}, holder="test:1:a", clock=clock)
        server = build_server(store, version="0.0-test", cursor_key=KEY, clock=clock, **options)
        async with server.running():
            yield server, store


def data_of(result: Any) -> dict[str, Any]:
    """The structured content of a call that went well."""
    assert not result.is_error, result.content[0].text
    data: dict[str, Any] = result.structured_content
    return data


def fenced_in(text: str) -> list[str]:
    """What stands between the marks of each fence in a text."""
    return [inside for _, inside in re.findall(r"<<<untrusted ([0-9a-f]{12})\n(.*?)\n\1>>>", text, re.DOTALL)]


def fault_of(result: Any) -> str:
    """The text of a call that did not."""
    assert result.is_error
    text: str = result.content[0].text
    return text


async def read(client: Client, uri: str) -> Any:
    """A resource's JSON."""
    contents = (await client.read_resource(uri)).contents[0]
    assert contents.mime_type == "application/json"
    return json.loads(contents.text)  # type: ignore[union-attr]


class Updates:
    """The URIs a client was notified of, in order, whichever era brought them."""

    def __init__(self) -> None:
        self._arrived, self._uris = anyio.create_memory_object_stream[str](1_000)

    async def on_message(self, message: Any) -> None:
        """Take what the SDK's client hands to its message handler."""
        if isinstance(message, ResourceUpdatedNotification):
            self.add(str(message.params.uri))

    def add(self, uri: str) -> None:
        self._arrived.send_nowait(uri)

    async def next(self) -> str:
        with anyio.fail_after(BOUND):
            return await self._uris.receive()

    def waiting(self) -> list[str]:
        """Those that arrived and were not asked for."""
        uris = []
        while self._uris.statistics().current_buffer_used:
            uris.append(self._uris.receive_nowait())
        return uris

    def close(self) -> None:
        self._arrived.close()
        self._uris.close()


@asynccontextmanager
async def watching(target: Any, era: str, uris: Sequence[str]) -> AsyncIterator[tuple[Client, Updates]]:
    """A client of one era (``auto`` is the newest, ``legacy`` the handshake one) that watches ``uris``."""
    updates = Updates()
    on_message = updates.on_message if era == "legacy" else None
    try:
        async with Client(target, mode=era, message_handler=on_message) as client:
            if era == "legacy":
                for uri in uris:
                    await subscribe(client, uri)
                yield client, updates
                return
            async with client.listen(resource_subscriptions=list(uris)) as stream, anyio.create_task_group() as tasks:

                async def collect() -> None:
                    async for event in stream:
                        assert isinstance(event, ResourceUpdated)
                        updates.add(event.uri)

                tasks.start_soon(collect)
                yield client, updates
                tasks.cancel_scope.cancel()
    finally:
        updates.close()


async def subscribe(client: Client, uri: str) -> None:
    """Ask the way the older era does."""
    with pytest.warns(MCPDeprecationWarning):
        await client.subscribe_resource(uri)


async def unsubscribe(client: Client, uri: str) -> None:
    """Stop what ``subscribe`` began."""
    with pytest.warns(MCPDeprecationWarning):
        await client.unsubscribe_resource(uri)
