from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from serving import ERAS, NOON, Clock, a_server, an_alert, data_of, fault_of, poller_of, report, save

from xdr_mcp.alert import Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Window

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]


async def test_alerts_are_counted_over_the_whole_store_and_never_over_a_page(era: str, tmp_path: Path) -> None:
    alerts = [
        an_alert(number, severity=Severity.CRITICAL if number % 3 == 0 else Severity.LOW, rule_id=str(number % 2))
        for number in range(1, 301)
    ]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:

        async def counted(**arguments: Any) -> dict[str, Any]:
            return data_of(await client.call_tool("count_alerts", arguments))

        every = await counted()
        by_severity = await counted(by=["severity"])
        both = await counted(query="severity:low", by="severity, rule")
        by_day = await counted(by=["created:day"])
    assert every["total"] == 300
    assert "groups" not in every
    assert by_severity["groups"] == [{"severity": "low", "count": 200}, {"severity": "critical", "count": 100}]
    assert by_severity["others"] == 0
    assert both["total"] == 200
    assert both["groups"] == [
        {"severity": "low", "rule": "0", "count": 100},
        {"severity": "low", "rule": "1", "count": 100},
    ]
    assert by_day["groups"] == [{"created:day": "2026-03-01", "count": 300}]


async def test_alerts_are_counted_by_how_many_events_they_aggregate(era: str, tmp_path: Path) -> None:
    alerts = [an_alert(number, count=7 if number == 1 else 2) for number in range(1, 4)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        told = data_of(await client.call_tool("count_alerts", {"by": ["count"]}))
    assert told["groups"] == [{"event_count": "2", "count": 2}, {"event_count": "7", "count": 1}]


async def test_what_has_no_value_is_counted_too_and_what_is_left_out_is_said(era: str, tmp_path: Path) -> None:
    domain = "a-rather-long-domain.in-a-rather-long-domain.europe.example.com"
    alerts = [
        an_alert(number, entities=(Entity(EntityKind.HOST, f"h{number % 6}.{domain}"),)) for number in range(1, 30)
    ]
    async with (
        a_server(tmp_path, *alerts, an_alert(30, entities=())) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        few = data_of(await client.call_tool("count_alerts", {"by": ["host"], "limit": 2}))
        every = data_of(await client.call_tool("count_alerts", {"by": ["host"]}))
        tight = data_of(await client.call_tool("count_alerts", {"by": ["host"], "budget": 200}))
    assert few["groups"] == [{"host": f"h1.{domain}", "count": 5}, {"host": f"h2.{domain}", "count": 5}]
    assert few["others"] == 5
    assert every["groups"][-1] == {"host": None, "count": 1}
    assert every["untrusted"] == ["groups"]
    assert 1 <= len(tight["groups"]) < 7
    assert len(tight["groups"]) + tight["others"] == 7
    assert tight["reduced"] == f"{len(tight['groups'])} of 7 groups"
    assert tight["total"] == 30


async def test_what_cannot_be_counted_by_is_refused_with_what_can(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        fault = fault_of(await client.call_tool("count_alerts", {"by": ["hots"]}))
    assert "hots" in fault
    assert "host" in fault.replace("hots", "")


async def test_an_empty_count_of_a_blind_source_says_that_it_is_blind(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        await report(store, "failing", last_error="no route")
        result = await client.call_tool("count_alerts", {"query": "severity:critical"})
    assert data_of(result)["total"] == 0
    assert data_of(result)["coverage"][0]["state"] == "blind"
    assert "Blind: xdr" in result.content[0].text  # type: ignore[union-attr]


# ---------------------------------------------------------------- what was known at a moment


async def test_everything_can_be_asked_as_of_a_moment(era: str, tmp_path: Path) -> None:
    clock = Clock(NOON - timedelta(hours=3))
    first = an_alert(1, created=NOON - timedelta(hours=5), updated=NOON - timedelta(hours=5))
    async with a_server(tmp_path, first, clock=clock) as (server, store), Client(server.mcp, mode=era) as client:
        clock.now = NOON
        await save(store, an_alert(1, created=first.created, status=Status.RESOLVED, updated=NOON), an_alert(2))

        async def asked(tool: str, **arguments: Any) -> dict[str, Any]:
            return data_of(await client.call_tool(tool, arguments))

        for as_of in ("-2h", "2026-03-01T10:00Z"):
            then = await asked("list_alerts", as_of=as_of)
            assert [(row["id"], row["status"]) for row in then["alerts"]] == [(first.id, "new")]
            assert then["total"] == 1
            assert then["as_of"].startswith("2026-03-01T10:00:")
            assert (await asked("filter_alerts", query="status:resolved", as_of=as_of))["alerts"] == []
            assert (await asked("get_alert", id=first.id, as_of=as_of))["alert"]["status"] == "new"
            assert (await asked("count_alerts", query="status:new", as_of=as_of, by=["status"]))["groups"] == [
                {"status": "new", "count": 1}
            ]
        assert (await asked("list_alerts"))["total"] == 2
        assert (await asked("get_alert", id=first.id))["alert"]["status"] == "resolved"
        fault = fault_of(await client.call_tool("get_alert", {"id": an_alert(2).id, "as_of": "-2h"}))
        assert "was not known at 2026-03-01T10:00:00" in fault
        assert "is no time" in fault_of(await client.call_tool("list_alerts", {"as_of": "yore"}))


async def test_of_a_moment_before_anything_was_stored_nothing_is_said_to_be_known(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, store), Client(server.mcp, mode=era) as client:
        await store.cover("xdr", Window(NOON - timedelta(days=30), NOON), await poller_of(store, "xdr"))
        for tool in ("list_alerts", "count_alerts"):
            then = await client.call_tool(tool, {"as_of": "-7d"})
            (told,) = data_of(then)["coverage"]
            assert (data_of(then)["total"], told["state"]) == (0, "blind")
            assert told["why"] == "nothing was stored before 2026-03-01T12:00:00Z"
            assert "Blind: xdr" in then.content[0].text  # type: ignore[union-attr]
            (now,) = data_of(await client.call_tool(tool, {"as_of": NOON.isoformat()}))["coverage"]
            assert now["state"] != "blind"


async def test_pages_of_a_moment_lead_through_what_was_known_then(era: str, tmp_path: Path) -> None:
    clock = Clock(NOON - timedelta(hours=3))
    early = [an_alert(number + 400) for number in range(9)]
    async with a_server(tmp_path, *early, clock=clock) as (server, store), Client(server.mcp, mode=era) as client:
        clock.now = NOON
        await save(store, *(an_alert(number) for number in range(1, 9)))
        seen: list[str] = []
        arguments: dict[str, Any] = {"as_of": "-1h", "limit": 2}
        while True:
            page = data_of(await client.call_tool("list_alerts", arguments))
            seen += [row["id"] for row in page["alerts"]]
            clock.now += timedelta(hours=1)  # a moment that was relative stays where it was
            if "next_cursor" not in page:
                break
            arguments["cursor"] = page["next_cursor"]
        refused = await client.call_tool("list_alerts", {**arguments, "as_of": "-2h"})
    assert seen == [alert.id for alert in early]
    assert "next_cursor on unchanged" in fault_of(refused)
