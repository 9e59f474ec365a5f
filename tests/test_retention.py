"""What an operator does not want to keep goes; what somebody still needs stays; and nothing is told twice for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import anyio
import anyio.lowlevel
import anyio.to_thread
import apsw
import pytest
from flow import ARCHIVE, STORE, run
from model_vendor import START, ManualClock, ModelVendor, record
from power_loss import PowerLossDisk, a_power_loss_disk
from program import running
from truth import every_change

from xdr_mcp.alert import Change, Entity, EntityKind, Status
from xdr_mcp.errors import BadResponse
from xdr_mcp.history import read_again
from xdr_mcp.interfaces import Forgotten, Keep, Lease, Page, Store, Window, utc_now
from xdr_mcp.lease import TTL
from xdr_mcp.planning import Pace
from xdr_mcp.poller import Poller
from xdr_mcp.query import Query, Words
from xdr_mcp.retention import LEASE, Policy, Retention
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
EVERYTHING = Query()
NOTHING_NEEDED = {"model": ()}


class Estate:
    """A vendor, a store, what polls and what drops, on one clock."""

    def __init__(self, store: Store, clock: ManualClock, path: Path) -> None:
        self.store = store
        self.clock = clock
        self.path = path
        self.vendor = ModelVendor(clock)
        self.pace = Pace()
        self.sinks: tuple[str, ...] = ()

    def poller(self) -> Poller:
        return Poller(self.vendor, self.store, pace=self.pace, holder="test:1:a", clock=self.clock)

    async def poll(self) -> int:
        """How many changes that told."""
        before = await self.store.last_seq()
        await self.poller().once()
        return await self.store.last_seq() - before

    async def poll_for(self, days: int) -> None:
        """As often as it takes to look like a service that runs."""
        for _ in range(days * 2):
            self.clock.advance(hours=12)
            await self.poll()

    async def retain(self, **policy: object) -> Forgotten:
        retention = Retention(
            self.store,
            Policy(**policy),  # type: ignore[arg-type]
            read_again=partial(read_again, self.store, self.pace),
            sinks=self.sinks,
            holder="test:1:a",
            clock=self.clock,
        )
        return await retention.once()

    async def ids(self) -> set[str]:
        return {alert.vendor_id for alert in (await self.store.find(EVERYTHING, 1_000)).alerts}


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncGenerator[Estate, None]:
    clock = ManualClock()
    async with open_store(tmp_path / "store.db", clock=clock) as store:
        yield Estate(store, clock, tmp_path / "store.db")


async def test_closed_alerts_go_when_they_are_old_enough_and_open_ones_never_by_age(estate: Estate) -> None:
    estate.vendor.put("closed", status=Status.RESOLVED)
    estate.vendor.put("open")
    await estate.poll_for(days=5)
    assert await estate.retain(age=6 * DAY) == Forgotten()
    assert await estate.retain(age=4 * DAY) == Forgotten(alerts=1, changes=1)
    assert await estate.ids() == {"open"}


async def test_what_waited_for_a_sink_that_is_forgotten_goes(estate: Estate) -> None:
    estate.vendor.put("closed", status=Status.RESOLVED)
    await estate.store.move("webhook", 0)
    await estate.poll_for(days=5)
    assert await estate.retain(age=4 * DAY) == Forgotten()
    lease = await estate.store.acquire("deliver:webhook", "test:1:a", TTL)
    assert lease is not None
    await estate.store.forget_sink("webhook", lease)
    assert await estate.retain(age=4 * DAY) == Forgotten(alerts=1, changes=1)


async def test_nothing_goes_without_a_policy(estate: Estate) -> None:
    estate.vendor.put("closed", status=Status.RESOLVED)
    await estate.poll_for(days=5)
    assert await estate.retain() == Forgotten()
    assert await estate.ids() == {"closed"}


async def test_after_dropping_all_that_may_go_polling_again_tells_nothing(estate: Estate) -> None:
    for hours in range(0, 24 * 6, 3):
        estate.vendor.put(str(hours), START + timedelta(hours=hours), status=Status.RESOLVED)
    await estate.poll_for(days=6)
    dropped = await estate.retain(alerts=1)
    assert dropped.over
    assert 0 < dropped.alerts < 48
    told = 0
    for _ in range(30):  # the rescan is due in each of these hours
        estate.clock.advance(hours=1)
        told += await estate.poll()
    assert told == 0


async def test_what_a_rescan_that_was_cut_off_will_read_stays(estate: Estate) -> None:
    poller = estate.poller()
    for hour in range(30):
        await poller.once()
        estate.clock.advance(hours=1)
        if hour == 24:
            estate.vendor.put("1", status=Status.RESOLVED)
    estate.vendor.put("2")
    estate.vendor.fail_at = estate.clock.now - timedelta(hours=20)
    failures = 0
    for _ in range(22):
        estate.clock.advance(hours=1)
        try:
            await poller.once()
        except BadResponse:
            failures += 1
    assert failures == 22
    estate.vendor.fail_at = None
    await estate.retain(alerts=1)
    await poller.once()
    assert [change.alert.vendor_id for change in await every_change(estate.store)] == ["1", "2"]
    assert await estate.store.last_seq() == 2


async def test_an_alert_that_changes_after_it_was_chosen_stays(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        assert isinstance(store, SqliteStore)
        polling, dropping = await lease_of(store, "poll:model"), await lease_of(store, LEASE)
        await store.save("model", Page((record("1", START), record("2", START)), START), polling)
        blocker = apsw.Connection(str(path))
        blocker.execute("BEGIN IMMEDIATE")
        writers = store._database._one_writer
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                changed = record("1", START + DAY, created=START)
                group.start_soon(store.save, "model", Page((changed,), START), polling)
                while not writers.borrowed_tokens:
                    await anyio.lowlevel.checkpoint()
                group.start_soon(store.forget, Keep(alerts=0), NOTHING_NEEDED, (), dropping)
                while not writers.statistics().tasks_waiting:  # it has chosen, and waits behind the save
                    await anyio.lowlevel.checkpoint()
                blocker.execute("ROLLBACK")
        blocker.close()
        assert [change.revision for change in await store.changes(0, 100)] == [1, 2]
        assert (await store.find(EVERYTHING, 10)).alerts == (changed.alert,)


async def test_what_lies_in_a_gap_stays_until_the_gap_is_read(estate: Estate) -> None:
    await estate.poll()
    missed = estate.clock.now + timedelta(hours=30)
    for hours in range(24, 48):
        estate.vendor.put(str(hours), START + timedelta(hours=hours), status=Status.RESOLVED)
    estate.vendor.fail_at = missed
    for _ in range(16):
        estate.clock.advance(hours=12)
        with suppress(BadResponse):
            await estate.poll()
    (state,) = await estate.store.states()
    (gap,) = state.gaps
    assert gap.start <= missed <= gap.end
    before = await estate.ids()
    assert (await estate.retain(alerts=1)).over
    estate.vendor.put("late", missed, status=Status.RESOLVED)
    estate.vendor.fail_at = None
    await estate.poll()
    told = Counter(change.alert.vendor_id for change in await every_change(estate.store))
    assert await estate.store.last_seq() == len(before | set(told)), "each was told once"
    assert "late" in told
    await estate.poll_for(days=3)
    assert (await estate.retain(alerts=1)).alerts == len(told) - 1


async def test_an_outage_keeps_what_its_end_will_read_again(estate: Estate) -> None:
    estate.vendor.put("1", START, status=Status.RESOLVED)
    await estate.poll()
    estate.clock.advance(days=30)
    assert await estate.retain(age=DAY, alerts=1, size=1) == Forgotten(over=True)
    assert await estate.poll() == 0
    assert await estate.ids() == {"1"}


async def test_a_clock_that_runs_ahead_makes_nothing_old(estate: Estate) -> None:
    estate.vendor.put("1", status=Status.RESOLVED)
    await estate.poll_for(days=5)
    estate.clock.advance(days=3_650)
    assert await estate.retain(age=30 * DAY) == Forgotten()


async def test_a_source_that_fails_keeps_its_own_alerts_and_no_others(estate: Estate) -> None:
    other = ModelVendor(estate.clock, name="other")
    estate.vendor.put("1", status=Status.RESOLVED)
    other.put("2", status=Status.RESOLVED)
    await Poller(other, estate.store, pace=estate.pace, holder="test:1:a", clock=estate.clock).once()
    await estate.poll_for(days=10)
    assert (await estate.retain(age=DAY)).alerts == 1
    assert await estate.ids() == {"2"}


async def test_nothing_goes_that_the_archive_has_not_taken(estate: Estate) -> None:
    estate.sinks = ("archive",)
    for number in range(4):
        estate.vendor.put(str(number), START + timedelta(seconds=number), status=Status.RESOLVED)
    await estate.poll_for(days=5)
    assert await estate.retain(age=DAY) == Forgotten()
    await estate.store.move("archive", 1)
    taken = (await estate.store.changes(0, 1))[0].alert.vendor_id
    assert (await estate.retain(age=DAY)).alerts == 1
    assert await estate.ids() == {"0", "1", "2", "3"} - {taken}


async def test_while_another_process_drops_this_one_leaves_it_to_that(estate: Estate) -> None:
    estate.vendor.put("1", status=Status.RESOLVED)
    await estate.poll_for(days=5)
    assert await estate.store.acquire(LEASE, "elsewhere:1:b", TTL)
    assert await estate.retain(age=DAY) == Forgotten()
    estate.clock.advance(seconds=10)
    assert (await estate.retain(age=DAY)).alerts == 1


async def test_under_a_limit_of_size_no_more_goes_than_is_too_much(estate: Estate) -> None:
    lease = await lease_of(estate.store, "poll:model")
    records = tuple(record(str(number), START, description="x" * 40_000) for number in range(100))
    await estate.store.save("model", Page(records, START), lease)
    half = (estate.path.stat().st_size + estate.path.with_name("store.db-wal").stat().st_size) // 2
    retention = await lease_of(estate.store, LEASE)
    dropped = await estate.store.forget(Keep(size=half), NOTHING_NEEDED, (), retention)
    assert 30 <= dropped.alerts <= 60


async def test_under_a_limit_of_size_the_file_stops_growing(estate: Estate) -> None:
    limit = 8_000_000
    chance = Random(20261123)  # noqa: S311 (repeatable)
    sizes: list[int] = []
    for day in range(20):
        for number in range(60):
            entities = tuple(Entity(EntityKind.HASH, f"{chance.getrandbits(256):064x}") for _ in range(20))
            filling = f"{chance.getrandbits(4_000):x}"
            estate.vendor.put(
                f"{day}-{number}", entities=entities, description=filling * 4, status=Status.NEW, labels=(filling,)
            )
        await estate.poll_for(days=1)
        estate.vendor.records.clear()
        assert not (await estate.retain(size=limit)).over
        sizes.append(in_use(estate.path))
    assert max(sizes) <= limit
    assert sizes[-1] > limit / 2
    assert len(await estate.ids()) < 20 * 60
    connection = apsw.Connection(str(estate.path))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    a_day = 2_500_000
    assert estate.path.stat().st_size <= limit + a_day


def in_use(path: Path) -> int:
    connection = apsw.Connection(str(path))
    pages: int = connection.pragma("page_count") - connection.pragma("freelist_count")
    size = pages * int(connection.pragma("page_size"))
    connection.close()
    return size


async def test_a_poll_and_a_service_drop_what_the_settings_do_not_keep(tmp_path: Path) -> None:
    path = tmp_path / STORE
    path.parent.mkdir()
    long_ago = utc_now() - 400 * DAY
    async with open_store(path, clock=ManualClock(long_ago)) as store:
        lease = await lease_of(store, "poll:xdr")
        for number in range(3):
            old = record(str(number), long_ago + number * DAY, source="xdr", status=Status.RESOLVED)
            await store.save("xdr", Page((old,), long_ago), lease)
        await store.cover("xdr", Window(long_ago, utc_now()), lease)
        await store.release(lease)
    settings = {
        "XDR_BASE_URL": "http://127.0.0.1:9",
        "XDR_AUTH_TOKEN": "dev-dummy-token",
        "XDR_DATA_DIR": str(path.parent),
        "XDR_ALERTS_DIR": str(tmp_path / ARCHIVE),
    }
    done = await run("poll", "--once", folder=tmp_path, env={**settings, "XDR_KEEP_ALERTS": "2"})
    assert done.returncode == 0, done.stderr
    assert "dropped 1 alerts" in done.stderr
    assert len(await anyio.to_thread.run_sync(lambda: list((tmp_path / ARCHIVE).glob("alert_*.json")))) == 3
    told = await run("status", folder=tmp_path, env={**settings, "XDR_KEEP": "30d"})
    assert "closed alerts for 30 days" in told.stdout
    with running("poll", folder=tmp_path, env={**settings, "XDR_KEEP": "30d"}) as service:
        service.wait_for("dropped 2 alerts")


# ------------------------------------------------------------------------------------------------ sudden death


@pytest.fixture
def disk() -> Generator[PowerLossDisk, None, None]:
    with a_power_loss_disk() as made:
        yield made


async def filled(path: Path) -> list[Change]:
    """A store of 130 alerts of three revisions each."""
    async with open_store(path) as store:
        lease = await lease_of(store, "poll:model")
        for revision in range(3):
            moment = START + timedelta(hours=revision)
            records = tuple(record(str(each), moment, title=f"revision{revision}") for each in range(130))
            await store.save("model", Page(records, moment), lease)
        return await every_change(store)


async def lease_of(store: Store, name: str) -> Lease:
    lease = await store.acquire(name, "test:1:a", timedelta(hours=1))
    assert lease is not None
    return lease


async def test_a_power_loss_at_any_moment_of_dropping_leaves_whole_alerts(disk: PowerLossDisk, tmp_path: Path) -> None:
    path = tmp_path / "data" / "store.db"
    everything = await filled(path)
    disk.journal(path.parent)
    async with open_store(path) as store:
        lease = await lease_of(store, LEASE)
        assert (await store.forget(Keep(alerts=0), NOTHING_NEEDED, (), lease)).alerts == 130
    disk.folder = None
    lefts = set()
    step = max(1, len(disk.events) // 60)
    for index in range(0, len(disk.events) + 1, step):
        copy = tmp_path / str(index)
        copy.mkdir()
        disk.leave(disk.events[:index], copy, Random(index))  # noqa: S311 (repeatable)
        async with open_store(copy / "store.db") as store:
            changes = await every_change(store)
            lefts.add(len(changes))
            heads = {change.alert.id: change.alert for change in changes}
            assert changes == [change for change in everything if change.alert.id in heads]
            assert {alert.id: alert for alert in (await store.find(EVERYTHING, 1_000)).alerts} == heads
            assert await store.count(EVERYTHING) == len(heads)
            assert await store.count(Query(root=Words(("revision2",)))) == len(heads)
            lease = await lease_of(store, LEASE)
            await store.forget(Keep(alerts=0), NOTHING_NEEDED, (), lease)
            assert await every_change(store) == []
        in_order(copy / "store.db")
    assert len(lefts) > 2, "some moments lie between two transactions"


def in_order(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO postings (postings) VALUES ('integrity-check')")
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
