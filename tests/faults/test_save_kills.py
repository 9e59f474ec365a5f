"""The power fails at any moment while pages are saved, windows covered, positions moved and the log copied back.

What is found afterwards is the state after the last call that had returned, or after the one under way: nothing else, and
nothing in between.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Generator
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from model_vendor import START, record
from msgspec import Struct
from power_loss import PowerLossDisk, a_power_loss_disk
from truth import every_change

from xdr_mcp.alert import Change, Status
from xdr_mcp.interfaces import Lease, Page, Store, Window
from xdr_mcp.query import Query, Words
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

SEED = 20261123
EVERYTHING = Query()
MINUTE = timedelta(minutes=1)
REVISIONS = range(1, 6)


class Kept(Struct, frozen=True):
    """Everything that a store promises to keep."""

    changes: list[Change]
    coverage: tuple[Window, ...]
    position: int


class Moment(Struct, frozen=True):
    """A call has returned: how long the journal was then, and what was kept."""

    events: int
    kept: Kept


class Script:
    """What is done to the store. ``moments`` are the states that it was in, one after each call."""

    def __init__(self, disk: PowerLossDisk, path: Path) -> None:
        self.disk = disk
        self.path = path
        self.moments: list[Moment] = []
        self._lease: Lease | None = None

    async def run(self) -> None:
        """Two lives of a store, which between them meet each kind of write there is."""
        async with open_store(self.path) as store:
            await self._acquire(store)
            await self._save(store, 1, range(20))
            await self._cover(store, 0, 10)
            await self._save(store, 2, range(10, 25), status=Status.RESOLVED)
            await self._done(store, store.move("archive", 30))
            await self._save(store, 3, range(40), filling=20_000)
            await self._cover(store, 10, 20)
            await self._cover(store, 40, 50)
            self._copy_back()
            await self._save(store, 4, range(30))
            await self._done(store, store.move("archive", 100))
        async with open_store(self.path) as store:
            await self._save(store, 5, range(5, 15))
            await self._cover(store, 20, 40)
            await self._done(store, store.move("archive", await store.last_seq()))
        self.moments.append(Moment(len(self.disk.events), self.moments[-1].kept))

    async def _acquire(self, store: Store) -> None:
        self._lease = await store.acquire("poll:model", "test:1:a", timedelta(hours=1))
        self.moments.append(Moment(len(self.disk.events), await kept(store)))

    async def _done(self, store: Store, call: Awaitable[object]) -> None:
        await call
        self.moments.append(Moment(len(self.disk.events), await kept(store)))

    async def _save(self, store: Store, revision: int, ids: range, filling: int = 10, **fields: Any) -> None:
        assert self._lease
        await self._done(store, store.save("model", page(revision, ids, filling, **fields), self._lease))

    async def _cover(self, store: Store, start: int, end: int) -> None:
        assert self._lease
        window = Window(START + start * MINUTE, START + end * MINUTE)
        await self._done(store, store.cover("model", window, self._lease))

    def _copy_back(self) -> None:
        """As another process does: the next commit begins the log anew, over the old one."""
        connection = apsw.Connection(str(self.path))
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        connection.close()


def page(revision: int, ids: range, filling: int, **fields: Any) -> Page:
    moment = START + revision * MINUTE
    title = f"revision{revision}"
    return Page(
        tuple(record(str(each), moment, title=title, description="x" * filling, **fields) for each in ids), moment
    )


async def kept(store: Store) -> Kept:
    coverage = [state.coverage for state in await store.states() if state.source == "model"]
    return Kept(await every_change(store), coverage[0] if coverage else (), await store.position("archive"))


async def check_that_it_agrees_with_itself(store: Store, found: Kept) -> None:
    """The journal, the heads and the full-text index tell the same, and a position is of a change that exists."""
    heads = {change.alert.id: change.alert for change in found.changes}
    assert {alert.id: alert for alert in (await store.find(EVERYTHING, 1_000)).alerts} == heads
    assert await store.count(EVERYTHING) == len(heads)
    for revision in REVISIONS:
        expected = sum(alert.title == f"revision{revision}" for alert in heads.values())
        assert await store.count(Query(root=Words((f"revision{revision}",)))) == expected
    assert found.position <= await store.last_seq()
    covered = [
        number for number, end in enumerate((20, 50)) if any(w.end > START + end * MINUTE for w in found.coverage)
    ]
    assert len(found.changes) >= (0, 35, 105)[len(covered)]


def check_that_the_file_is_in_order(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO postings (postings) VALUES ('integrity-check')")
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()


@pytest.fixture
def disk() -> Generator[PowerLossDisk, None, None]:
    with a_power_loss_disk() as made:
        yield made


@pytest.fixture
async def script(disk: PowerLossDisk, tmp_path: Path) -> Script:
    """The script, done on a disk that kept a journal of it."""
    folder = tmp_path / "data"
    async with open_store(folder / "store.db"):
        pass
    disk.journal(folder)
    made = Script(disk, folder / "store.db")
    await made.run()
    disk.folder = None
    kinds = {event.kind for event in disk.events}
    assert kinds == {"create", "write", "truncate", "sync", "delete"}
    assert len(made.moments) > 12
    return made


def moments_of(script: Script, states: int) -> list[tuple[int, Random]]:
    """Every moment in turn, each time with other losses."""
    first = script.moments[0].events
    indexes = islice(cycle(range(first, len(script.disk.events) + 1)), states)
    return [(index, Random(f"{SEED}/{number}")) for number, index in enumerate(indexes)]  # noqa: S311 (repeatable)


@pytest.mark.parametrize(
    "states", [pytest.param(200, id="200 states"), pytest.param(2_000, id="2,000 states", marks=pytest.mark.slow)]
)
async def test_a_power_loss_at_any_moment_leaves_what_was_told_whole_and_nothing_half_done(
    script: Script, disk: PowerLossDisk, tmp_path: Path, states: int
) -> None:
    copy = tmp_path / "left"
    for index, chance in moments_of(script, states):
        copy.mkdir()
        disk.leave(disk.events[:index], copy, chance)
        told = max(number for number, moment in enumerate(script.moments) if moment.events <= index)
        possible = [moment.kept for moment in script.moments[told : told + 2]]
        async with open_store(copy / "store.db") as store:
            found = await kept(store)
            assert found in possible, f"after {index} events"
            await check_that_it_agrees_with_itself(store, found)
            lease = await store.acquire("poll:model", "test:1:a", timedelta(hours=1))
            assert lease
            saved = await store.save("model", page(9, range(30), 10), lease)
            assert saved.created + saved.updated == 30
        check_that_the_file_is_in_order(copy / "store.db")
        shutil.rmtree(copy)
