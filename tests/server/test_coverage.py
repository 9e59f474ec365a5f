from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from serving import ERAS, NOON, a_server, an_alert, data_of, poller_of, report, save

from xdr_mcp.interfaces import Store, Window
from xdr_mcp.query import parse
from xdr_mcp.server.answers.coverage import Span, caveat, span_of

pytestmark = pytest.mark.anyio
each_era = pytest.mark.parametrize("era", ERAS)

HOUR = timedelta(hours=1)
GAP = ["2026-03-01T05:00:00Z", "2026-03-01T07:00:00Z"]


async def with_a_gap(store: Store) -> None:
    """Read from two days ago until a minute ago, but for 05:00 to 07:00 of today."""
    lease = await poller_of(store, "xdr")
    await store.cover("xdr", Window(NOON - 48 * HOUR, NOON - 7 * HOUR), lease)
    await store.cover("xdr", Window(NOON - 5 * HOUR, NOON - timedelta(minutes=1)), lease)
    await report(store, "ok", last_success=NOON - timedelta(minutes=1))


async def told(client: Client, tool: str, **arguments: Any) -> tuple[dict[str, Any], str]:
    result = await client.call_tool(tool, arguments)
    (coverage,) = data_of(result)["coverage"]
    return coverage, result.content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("query", "gap", "begins"),
    [
        ("", True, True),
        ("since:-24h", True, False),
        ("since:-3d", True, True),
        ("since:-6h", True, False),
        ("since:-4h", False, False),
        ("since:-24h until:-8h", False, False),
        ("since:-24h until:-6h", True, False),
        ("created:2026-03-01", True, False),
        ("updated>-4h", False, False),
        ("until:-8h updated>-4h", False, False),
        ("until:-8h updated>-6h", True, False),
        ("since:-4h or severity:high", True, True),
        ("not since:-4h", True, True),
    ],
)
@each_era
async def test_a_gap_is_told_where_it_can_hide_an_answer(
    era: str, query: str, *, gap: bool, begins: bool, tmp_path: Path
) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, store), Client(server.mcp, mode=era) as client:
        await with_a_gap(store)
        for tool in ("filter_alerts", "count_alerts"):
            coverage, line = await told(client, tool, query=query)
            assert coverage.get("gaps") == ([GAP] if gap else None)
            assert ("Gaps: xdr." in line) == gap
            assert ("begins" in coverage) == begins
            assert coverage["age_s"] == 60


@each_era
async def test_of_many_gaps_the_newest_are_told_and_how_many_more_there_are(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        lease = await poller_of(store, "xdr")
        for number in range(9):
            await store.cover("xdr", Window(NOON - (number * 2 + 1) * HOUR, NOON - number * 2 * HOUR), lease)
        await report(store, "ok", last_success=NOON)
        coverage, _ = await told(client, "list_alerts")
    assert len(coverage["gaps"]) == 5
    assert coverage["more_gaps"] == 3
    assert coverage["gaps"][-1] == ["2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"]


@each_era
async def test_a_source_is_blind_to_a_time_that_it_was_not_read_for(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        lease = await poller_of(store, "xdr")
        await store.cover("xdr", Window(NOON - 9 * HOUR, NOON - 3 * HOUR), lease)
        await report(store, "failing", last_success=NOON - 3 * HOUR, last_error="503")
        after, line = await told(client, "list_alerts", since="-2h")
        before, _ = await told(client, "filter_alerts", query="until:-12h")
        within, _ = await told(client, "list_alerts", since="-4h")
    assert after["state"] == "blind"
    assert after["why"] == "last read 2026-03-01T09:00:00Z, before the time asked about begins"
    assert "No alert matches. Blind: xdr" in line
    assert (before["state"], before["why"]) == (
        "blind",
        "read since 2026-03-01T03:00:00Z only, after the time asked about ends",
    )
    assert (within["state"], within["age_s"]) == ("failing", 3 * 3600)


@each_era
async def test_only_the_sources_that_an_answer_can_come_from_count(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        await report(store, "failing", "graph", last_error="no route")
        await report(store, "ok", "xdr", last_success=NOON)
        named = data_of(await client.call_tool("list_alerts", {"source": "xdr"}))["coverage"]
        wild = data_of(await client.call_tool("filter_alerts", {"query": "source:g* severity:high"}))["coverage"]
        unknown = data_of(await client.call_tool("list_alerts", {"source": "nosuch"}))["coverage"]
    assert [entry["source"] for entry in named] == ["xdr"]
    assert [entry["source"] for entry in wild] == ["graph"]
    assert [entry["source"] for entry in unknown] == ["graph", "xdr"]


@each_era
async def test_the_status_of_the_sources_is_that_of_the_resource(era: str, tmp_path: Path) -> None:
    async with (
        a_server(tmp_path, an_alert(1), facts=lambda: {"archive": "here"}) as (server, store),
        Client(server.mcp, mode=era) as client,
    ):
        await with_a_gap(store)
        await save(store, an_alert(2))  # two minutes late
        status = data_of(await client.call_tool("source_status", {}))
        (coverage,) = data_of(await client.call_tool("list_alerts", {}))["coverage"]
    (source,) = status["sources"]
    assert status["archive"] == "here"
    assert source["gaps"] == [GAP]
    assert source["covered"][-1] == ["2026-03-01T07:00:00Z", "2026-03-01T11:59:00Z"]
    assert (source["state"], source["age_s"], source["alerts"]) == ("ok", 60, 2)
    assert source["lag_p50_s"] == 120.0
    assert coverage["lag_s"] == 120


def test_bounds_count_only_where_every_answer_must_keep_them() -> None:
    def span(text: str) -> Span:
        return span_of(parse(text, now=NOON))

    assert span("") == Span(None, None)
    assert span("since:-1h") == Span(NOON - HOUR, None)
    assert span("since:-1h host:web* updated>-30m").start is not None
    assert span("since:-2h since:-1h") == Span(NOON - HOUR, None)
    assert span("first_seen>-1h") == Span(None, None)


def test_of_many_blind_sources_a_few_are_named() -> None:
    coverage = [{"source": f"s{number}", "state": "blind"} for number in range(9)]
    assert caveat(coverage) == "Blind: s0, s1, s2, s3 and 5 more; what it holds is not known."
