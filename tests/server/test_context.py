from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from pydantic import SecretStr
from remembered import Remembered
from serving import ERAS, Clock, a_server, an_alert, data_of, fault_of

from xdr_mcp.errors import Unavailable
from xdr_mcp.interfaces import ContextItems, ContextSource
from xdr_mcp.simulator import DEFAULT_TOKEN, Estate, create_app
from xdr_mcp.sources.xdr import XdrClient, XdrOptions, XdrSource, to_alert

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

EVENT = {"id": "e1", "time": "2026-03-01T11:58:00Z", "name": "process started", "details": {"pid": 4711}}
ASSET = {"id": "a1", "name": "web-01", "type": "host"}


class Vendor:
    """A source that can tell more about an alert."""

    name = "xdr"
    idle_reason = ""
    context_parts: Sequence[str] = ("events", "assets", "intelligence")

    def __init__(self, **parts: ContextItems | Exception) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.parts: dict[str, ContextItems | Exception] = {
            "events": ContextItems((EVENT,), 40),
            "assets": ContextItems((ASSET,), 1),
            "intelligence": ContextItems((), 0),
            **parts,
        }

    async def context(self, vendor_id: str, part: str, limit: int) -> ContextItems:
        self.asked.append((vendor_id, part, limit))
        told = self.parts[part]
        if isinstance(told, Exception):
            raise told
        return told


async def context(client: Client, **arguments: Any) -> dict[str, Any]:
    return data_of(await client.call_tool("alert_context", {"id": an_alert(1).id, **arguments}))


async def test_events_assets_and_intelligence_are_told_beside_what_is_stored(era: str, tmp_path: Path) -> None:
    vendor = Vendor()
    async with (
        a_server(tmp_path, an_alert(1), contexts={"xdr": vendor}) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        told = await context(client)
    assert told["alert"]["id"] == an_alert(1).id
    assert told["events"] == {"items": [EVENT], "total": 40, "age_s": 0}
    assert told["assets"] == {"items": [ASSET], "total": 1, "age_s": 0}
    assert told["intelligence"] == {"items": [], "total": 0, "age_s": 0}
    assert "failed" not in told
    assert {"events", "assets", "intelligence"} <= set(told["untrusted"])
    assert [(asked, part) for asked, part, _ in vendor.asked] == [
        (an_alert(1).vendor_id, part) for part in Vendor.context_parts
    ]


async def test_it_is_fetched_once_in_five_minutes(era: str, tmp_path: Path) -> None:
    vendor, clock = Vendor(), Clock()
    async with (
        a_server(tmp_path, an_alert(1), contexts={"xdr": vendor}, clock=clock) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        await context(client)
        clock.now += timedelta(minutes=5)
        again = await context(client)
        assert len(vendor.asked) == 3
        assert again["events"]["age_s"] == 300
        clock.now += timedelta(seconds=1)
        assert (await context(client))["events"]["age_s"] == 0
    assert len(vendor.asked) == 6


async def test_a_part_that_fails_is_told_costs_no_other_and_is_asked_for_again(era: str, tmp_path: Path) -> None:
    vendor = Vendor(assets=Unavailable("503 \x1b[2J Service Unavailable; try again later"))
    async with (
        a_server(tmp_path, an_alert(1), contexts={"xdr": vendor}) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        result = await client.call_tool("alert_context", {"id": an_alert(1).id})
        told = data_of(result)
        vendor.parts["assets"] = ContextItems((ASSET,), None)
        mended = await context(client)
    assert told["failed"] == {"assets": "503 [U+001B][2J Service Unavailable; try again later"}
    assert told["events"]["items"] == [EVENT]
    assert "not fetched: assets" in result.content[0].text  # type: ignore[union-attr]
    assert mended["assets"] == {"items": [ASSET], "total": 1, "age_s": 0}
    assert [part for _, part, _ in vendor.asked].count("events") == 1


async def test_a_source_that_tells_no_more_says_so_and_what_is_stored_is_told(era: str, tmp_path: Path) -> None:
    idle = Vendor()
    idle.idle_reason = "development mode: the vendor is never called"
    alerts = [an_alert(1), an_alert(2, source="graph")]
    async with (
        a_server(tmp_path, *alerts, contexts={"xdr": idle}) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        unable = await context(client, id=alerts[1].id)
        idling = await context(client)
        fault = fault_of(await client.call_tool("alert_context", {"id": "xdr/nothing"}))
    assert unable["failed"]["all"].startswith("graph tells no more than the alert")
    assert unable["alert"]["about"] == ["host:web-02.example.com", "user:alice"]
    assert idling["failed"] == {"all": "development mode: the vendor is never called"}
    assert idle.asked == []
    assert "No alert has the id" in fault


async def test_progress_is_told_while_the_vendor_is_asked(era: str, tmp_path: Path) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with (
        a_server(tmp_path, an_alert(1), contexts={"xdr": Vendor()}) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        await client.call_tool("alert_context", {"id": an_alert(1).id}, progress_callback=note)
    assert told == [
        (0, 3, "asking xdr for events"),
        (1, 3, "asking xdr for assets"),
        (2, 3, "asking xdr for intelligence"),
        (3, 3, "done"),
    ]


async def test_what_the_vendor_tells_is_contained_bounded_and_within_the_budget(era: str, tmp_path: Path) -> None:
    hostile = {"id": "e\u202e1", "message": "x" * 5_000, "nested": [{"\u200bkey": "\x1b[2J"}]}
    vendor = Vendor(events=ContextItems((hostile,) * 30, None))
    async with (
        a_server(tmp_path, an_alert(1), contexts={"xdr": vendor}) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        roomy = await context(client, budget=50_000)
        tight = await context(client, budget=400)
        least = await context(client, budget=200)
    assert len(roomy["events"]["items"]) == 20
    first = roomy["events"]["items"][0]
    assert first["id"] == "e[U+202E]1"
    assert len(first["message"]) <= 400
    assert first["message"].endswith("]")
    assert first["nested"] == [{"[U+200B]key": "[U+001B][2J"}]
    assert tight["reduced"]
    assert tight["events"]["items"][0] == {"id": "e[U+202E]1"}
    assert least["events"]["total"] == 20


# ---------------------------------------------------------------- the real source, against the simulated vendor


@asynccontextmanager
async def the_source(app: Any) -> AsyncIterator[XdrSource]:
    options = XdrOptions(
        base_url="http://vendor.test/xdr-alert",
        auth_token=SecretStr(DEFAULT_TOKEN),
        preset="trellix",
        requests_per_minute=1_000_000,
    )
    async with XdrClient(options, memory=Remembered(), transport=httpx.ASGITransport(app=app)) as client:
        yield XdrSource("xdr", client, Remembered())


async def test_the_xdr_source_tells_the_events_assets_and_intelligence_of_an_alert(era: str, tmp_path: Path) -> None:
    async with the_source(create_app(Estate(seed=7))) as source:
        vendor = source._client
        record = await with_intelligence(vendor)
        alert = to_alert("xdr", record)
        async with (
            a_server(tmp_path, alert, contexts={"xdr": source}) as (server, _),
            Client(server.mcp, mode=era) as client,
        ):
            told = await context(client, id=alert.id, budget=20_000)
        events = (await vendor.alert_events(alert.vendor_id, sort="-time")).items
    assert isinstance(source, ContextSource)
    assert [item["id"] for item in told["events"]["items"]] == [event["id"] for event in events]
    assert told["events"]["items"][0]["time"] == events[0]["attributes"]["time"]
    assert told["assets"]["items"]
    assert told["intelligence"]["items"]


async def with_intelligence(vendor: XdrClient) -> dict[str, Any]:
    """The record of an alert about which the vendor knows more."""
    for record in (await vendor.alerts(limit=100)).items:
        if (await vendor.alert_events(record["id"])).items and (await vendor.alert_intelligence(record["id"])).items:
            return record
    raise AssertionError("no alert of the simulated company has events and intelligence")
