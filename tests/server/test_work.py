"""What answering costs, counted rather than timed, so that a regression fails without a clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from loop_calls import called
from mcp import Client
from serving import a_server, an_alert, data_of

pytestmark = pytest.mark.anyio

ALERTS = 60


@pytest.mark.parametrize(
    ("query", "hops"),
    [
        ("", 0),
        ("host:web-07.example.com", 0),
        ("severity>=high", 0),
        ("user:alice", 0),
        ("severity>=high and status:new since:-30d", 0),
        ("title:power* and not user:bob", 1),
    ],
)
async def test_a_page_and_its_total_are_one_question_to_the_store_in_one_thread_or_none(
    tmp_path: Path, query: str, hops: int
) -> None:
    async with a_server(tmp_path, *map(an_alert, range(ALERTS))) as (server, _), Client(server.mcp) as client:

        async def ask() -> None:
            data_of(await client.call_tool("filter_alerts", {"query": query}))

        await ask()  # what is done once in a process is done
        told = await called(ask)
    assert told["xdr_mcp.store.sqlite.store.SqliteStore.find"] == 1
    assert told["xdr_mcp.store.sqlite.store.SqliteStore.count"] == 0
    assert told["anyio.to_thread.run_sync"] == hops


async def test_a_version_of_an_alert_is_contained_once_however_often_it_is_told(tmp_path: Path) -> None:
    hostile = [an_alert(number, title=f"<script>{number}") for number in range(25)]
    async with a_server(tmp_path, *hostile) as (server, _), Client(server.mcp) as client:

        async def ask() -> None:
            data_of(await client.call_tool("filter_alerts", {"query": "severity:high"}))

        first, then = await called(ask), await called(ask)
    name = "xdr_mcp.untrusted.containing.contained_line"
    assert first[name] - then[name] == 25  # the titles; what is left is of the sources
