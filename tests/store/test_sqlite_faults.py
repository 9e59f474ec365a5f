"""Every write and every sync of a commit fails once, or is the last thing the process does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from faulty_disk import FailOnce, FaultyDisk, Snapshots, a_faulty_disk
from model_vendor import START, record
from truth import every_change

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.interfaces import Lease, Page, Record, Saved, Store
from xdr_mcp.query import Pattern, Query, Term, Words
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

EVERYTHING = Query()
SIZE = 20


@pytest.fixture
def disk() -> Generator[FaultyDisk, None, None]:
    with a_faulty_disk() as made:
        yield made


@pytest.fixture
async def store(disk: FaultyDisk, tmp_path: Path) -> AsyncGenerator[Store, None]:
    async with open_store(tmp_path / "store.db") as opened:
        yield opened
        disk.before = lambda _: None


def page(number: int, filling: int = 100) -> Page:
    """Records that are ``filling`` bytes long."""
    alerts = [record(f"{number}-{part}", START, title="alert").alert for part in range(SIZE)]
    return Page(tuple(Record(alert, alert.id.encode() + b"x" * filling) for alert in alerts), START)


async def lease_of(store: Store) -> Lease:
    lease = await store.acquire("poll:model", "me", timedelta(hours=1))
    assert lease is not None
    return lease


async def sound(store: Store, path: Path, pages: int) -> None:
    """The store holds so many pages, whole, in every table, and its file is in order."""
    assert await store.count(EVERYTHING) == pages * SIZE
    assert await store.count(Query(root=Words(("alert",)))) == pages * SIZE
    assert [change.seq for change in await every_change(store)] == list(range(1, pages * SIZE + 1))
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()


@pytest.mark.parametrize("kind", ["write", "sync"])
@pytest.mark.parametrize("failure", [apsw.FullError, apsw.IOError])
async def test_a_save_that_fails_at_any_write_or_sync_did_nothing_and_can_be_repeated(
    store: Store, disk: FaultyDisk, tmp_path: Path, kind: str, failure: type[apsw.Error]
) -> None:
    lease = await lease_of(store)
    for number in range(1, 100):
        before = await store.last_seq()
        disk.before = fault = FailOnce(kind, number, failure)
        try:
            saved = await store.save("model", page(number, 2_000), lease)
        except StoreUnusable:
            assert fault.happened
            disk.before = lambda _: None
            assert await store.last_seq() == before
            saved = await store.save("model", page(number, 2_000), lease)
        assert saved == Saved(created=SIZE, last_seq=number * SIZE)
        if not fault.happened:
            break
    else:
        pytest.fail("it never ran out of calls to fail")
    assert number > 1
    await sound(store, tmp_path / "store.db", number)


@pytest.mark.parametrize("failure", [apsw.FullError, apsw.IOError])
async def test_a_checkpoint_that_fails_costs_nothing_that_was_saved(
    store: Store, disk: FaultyDisk, tmp_path: Path, failure: type[apsw.Error]
) -> None:
    lease = await lease_of(store)
    for number in range(1, 12):
        disk.before = fault = FailOnce("sync", number, failure)
        with suppress(StoreUnusable):
            await store.save("model", page(number, 1_000_000), lease)
        disk.before = lambda _: None
        saved = await store.save("model", page(number, 1_000_000), lease)
        assert saved.created + saved.unchanged == SIZE
        if not fault.happened:
            break
    assert 3 < number < 11
    await sound(store, tmp_path / "store.db", number)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(apsw.FullError, "disk is full", id="full"),
        pytest.param(apsw.ReadOnlyError, "cannot be written", id="read-only"),
        pytest.param(apsw.IOError, "disk reports an error", id="made read-only by the system"),
    ],
)
async def test_a_disk_that_takes_no_more_is_told_as_such_and_reading_goes_on(
    store: Store, disk: FaultyDisk, failure: type[apsw.Error], told: str
) -> None:
    lease = await lease_of(store)
    await store.save("model", page(0), lease)

    def refuse(kind: str) -> None:
        if kind == "write":
            raise failure

    disk.before = refuse
    for _ in range(3):
        with pytest.raises(StoreUnusable, match=told):
            await store.save("model", page(1), lease)
        assert await store.count(EVERYTHING) == SIZE
    disk.before = lambda _: None
    assert (await store.save("model", page(1), lease)).created == SIZE


async def test_after_a_failed_sync_the_file_is_opened_anew(store: Store, disk: FaultyDisk) -> None:
    lease = await lease_of(store)
    disk.before = FailOnce("sync", 1, apsw.IOError)
    with pytest.raises(StoreUnusable, match="disk reports an error"):
        await store.save("model", page(0), lease)
    opened = disk.opened
    assert (await store.save("model", page(0), lease)).created == SIZE
    assert disk.opened > opened


async def test_terms_of_a_failed_save_are_not_taken_for_known(store: Store, disk: FaultyDisk) -> None:
    lease = await lease_of(store)
    await store.save("model", page(0), lease)
    disk.before = FailOnce("write", 1, apsw.FullError)
    with pytest.raises(StoreUnusable):
        await store.save("model", page(1), lease)
    await store.save("model", page(2), lease)
    await store.save("model", page(1), lease)
    for number in range(3):
        assert await store.count(Query(root=Term("id", Pattern((f"{number}-7",))))) == 1


async def test_a_save_syncs_once_however_large_its_page(store: Store, disk: FaultyDisk) -> None:
    lease = await lease_of(store)
    for number in range(3):
        told: list[str] = []
        disk.before = told.append
        await store.save("model", page(number, 20_000), lease)
        disk.before = lambda _: None
        assert told.count("sync") == 1


# ------------------------------------------------------------------------------------------------ sudden death


async def test_killed_at_any_write_a_save_is_whole_or_was_never_begun(disk: FaultyDisk, tmp_path: Path) -> None:
    path = tmp_path / "data" / "store.db"
    async with open_store(path) as store:
        lease = await lease_of(store)
        await store.save("model", page(0), lease)
        disk.before = snapshots = Snapshots(path.parent, tmp_path)
        await store.save("model", page(1), lease)
        disk.before = lambda _: None
    assert len(snapshots.taken) > 5
    for copy in snapshots.taken:
        async with open_store(copy) as survivor:
            pages = await survivor.count(EVERYTHING) // SIZE
            assert pages in {1, 2}
            await sound(survivor, copy, pages)
            saved = await survivor.save("model", page(1), lease)
            assert saved.created == (2 - pages) * SIZE
            await sound(survivor, copy, 2)


async def test_killed_at_any_write_of_its_making_a_store_can_be_made(disk: FaultyDisk, tmp_path: Path) -> None:
    path = tmp_path / "data" / "store.db"
    disk.before = snapshots = Snapshots(path.parent, tmp_path)
    async with open_store(path):
        disk.before = lambda _: None
    assert len(snapshots.taken) > 5
    for copy in snapshots.taken:
        async with open_store(copy) as survivor:
            await survivor.save("model", page(0), await lease_of(survivor))
            await sound(survivor, copy, 1)


# ------------------------------------------------------------------------------------------------ bounds


async def test_the_write_ahead_log_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        lease = await lease_of(store)
        for number in range(20):
            await store.save("model", page(number, 200_000), lease)
        assert path.with_name("store.db-wal").stat().st_size < 24_000_000
        assert path.stat().st_size > 50_000_000
    assert not path.with_name("store.db-wal").exists()
