"""What answering costs, counted rather than timed, so that a regression fails without a clock."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from mcp import Client
from serving import a_server, an_alert, data_of

pytestmark = pytest.mark.anyio

ALERTS = 60


async def called(work: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """How often each function is called on the event loop while ``work`` is awaited: a coroutine once, however often resumed."""
    frames: dict[int, FrameType] = {}  # which they are kept, no two have the same id

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            frames[id(frame)] = frame

    sys.setprofile(note)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return Counter(f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}" for frame in frames.values())


@pytest.mark.parametrize(
    ("query", "hops"),
    [
        ("", 0),
        ("host:web-07.example.com", 0),
        ("severity>=high", 1),
        ("user:alice", 0),
        ("severity>=high and status:new since:-30d", 1),
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
