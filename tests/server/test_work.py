"""What answering costs, counted rather than timed, so that a regression fails without a clock."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from loop_calls import called
from mcp import Client
from serving import a_server, an_alert, data_of

from xdr_mcp.query import Query

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
    assert told["xdr_mcp.store.sqlite.store.SqliteStore._glance_at"] == 3 - hops


async def test_a_version_of_an_alert_is_contained_once_however_often_it_is_told(tmp_path: Path) -> None:
    hostile = [an_alert(number, title=f"<script>{number}") for number in range(25)]
    async with a_server(tmp_path, *hostile) as (server, _), Client(server.mcp) as client:

        async def ask() -> None:
            data_of(await client.call_tool("filter_alerts", {"query": "severity:high"}))

        first, then = await called(ask), await called(ask)
    name = "xdr_mcp.untrusted.containing.contained_line"
    assert first[name] - then[name] == 25  # the titles; what is left is of the sources


_BUILT = """
import sys, anyio
from xdr_mcp.server import build_server
from xdr_mcp.store import open_store
from xdr_mcp.untrusted import markup

async def build():
    async with open_store(sys.argv[1]) as store:
        build_server(store, version="0", cursor_key=b"k" * 32)

anyio.run(build)
print(sorted({"rich.console", "rich.logging", "httpx"} & set(sys.modules)), markup._markup.cache_info().currsize)
"""


def test_a_server_is_built_without_what_only_draws_calls_or_contains(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _BUILT, str(tmp_path / "store.db")], capture_output=True, text=True, check=True
    )
    assert told.stdout.split("\n")[0] == "[] 0", told.stdout


async def test_what_is_listed_again_is_not_decoded_again(tmp_path: Path) -> None:
    new = [an_alert(number, title=f"Listed in {tmp_path}") for number in range(25)]
    async with a_server(tmp_path, *new) as (_, store):
        first, then = [await called(partial(store.find, Query(), 25)) for _ in range(2)]
    name = "xdr_mcp.alert.Alert.__post_init__"
    assert (first[name], then[name]) == (25, 0)
