"""What whoever polls next finds remembered: through the store, for that is where it has to be."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
from model_vendor import START

from xdr_mcp.history import History, read_again
from xdr_mcp.interfaces import Health, Store, Window
from xdr_mcp.planning import END_OF_TIME, Pace
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    async with open_store(tmp_path / "store.db") as store:
        yield store


async def test_history_begins_where_the_first_poll_looked_back_to_whenever_later_polls_ask(store: Store) -> None:
    assert await History(store.memory("a")).origin(START, DAY) == START - DAY
    assert await History(store.memory("a")).origin(START + 9 * DAY, HOUR) == START - DAY


async def test_a_beginning_that_is_still_to_come_is_given_up(store: Store) -> None:
    history = History(store.memory("a"))
    await history.origin(START + 30 * DAY, DAY)
    assert await history.origin(START, DAY) == START - DAY
    assert await history.origin(START + 30 * DAY, DAY) == START - DAY


async def test_the_beginning_is_moved_back_and_never_forward(store: Store) -> None:
    history = History(store.memory("a"))
    await history.reach_back(START - 3 * DAY)
    await history.reach_back(START - DAY)
    assert await history.origin(START, HOUR) == START - 3 * DAY
    await history.reach_back(START - 4 * DAY)
    assert await history.origin(START, HOUR) == START - 4 * DAY


async def test_the_first_poll_counts_as_a_rescan_and_then_the_last_that_was_finished(store: Store) -> None:
    assert await History(store.memory("a")).rescanned(START) == START
    assert await History(store.memory("a")).rescanned(START + HOUR) == START
    await History(store.memory("a")).note_rescan(START + 2 * HOUR)
    assert await History(store.memory("a")).rescanned(START + 3 * HOUR) == START + 2 * HOUR


async def test_each_source_has_a_history_of_its_own(store: Store) -> None:
    pace = Pace(initial_lookback=DAY, longest_look_back=HOUR, rescan_span=HOUR)
    for name in ("a", "b"):
        await store.report(name, Health(), None)
    await History(store.memory("a")).reach_back(START - 9 * DAY)
    assert await read_again(store, pace, START) == {
        "a": (Window(START - 9 * DAY - 2 * HOUR, END_OF_TIME),),
        "b": (Window(START - DAY - 2 * HOUR, END_OF_TIME),),
    }
