"""Everything that writes to a store, each as a piece of work that may be killed at any instant and taken up again.

``begin`` makes the folder that it is done in; ``do`` does it, from wherever a predecessor left it; ``check_left`` asserts what
is true of a folder at every moment, and ``check_done`` what is true of one where it was done whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import apsw
import msgspec
from disk_edge import DiskEdge
from model_vendor import START, ManualClock, ModelVendor, record
from truth import check_archive, every_change

from xdr_mcp.alert import Change
from xdr_mcp.delivery import Delivery
from xdr_mcp.interfaces import Page, Store, Window
from xdr_mcp.planning import Pace
from xdr_mcp.poller import Poller
from xdr_mcp.query import Query, Words
from xdr_mcp.rebuild import rebuild_store
from xdr_mcp.retention import Policy, Retention
from xdr_mcp.sinks.archive import WRITING, Archive, file_name
from xdr_mcp.sinks.archived import ArchivedChanges
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import migrations, open_writer

HOLDER = "test:1:a"
"""Of every life, so that the next one need not wait for the lease of the one before."""
HOUR = timedelta(hours=1)
ALERTS, REVISIONS = 60, 3
EVERYTHING = Query()


class Work(ABC):
    """See the module's docstring."""

    @abstractmethod
    async def begin(self, folder: Path) -> None:
        """Make what there is to work on."""

    @abstractmethod
    async def do(self, folder: Path) -> None:
        """Do all of it, or what is left of it."""

    @abstractmethod
    async def check_left(self, folder: Path) -> None:
        """Assert what is true at every moment."""

    @abstractmethod
    async def check_done(self, folder: Path) -> None:
        """Assert that all of it was done."""


def store_of(folder: Path) -> Path:
    return folder / "store.db"


async def deliver(store: Store, folder: Path) -> None:
    archive = Archive(folder / "alerts", version="1", flat_limit=ALERTS)
    with DiskEdge(folder / "alerts").in_place():  # nothing here waits for the disk
        await Delivery(archive, store, holder=HOLDER).drain()


async def fill(store: Store) -> None:
    """Alerts of some revisions each."""
    lease = await store.acquire("poll:model", HOLDER, HOUR)
    assert lease is not None
    for revision in range(REVISIONS):
        moment = START + revision * HOUR
        records = (record(str(each), moment, title=f"revision{revision}") for each in range(ALERTS))
        await store.save("model", Page(tuple(records), moment), lease)
    await store.release(lease)


async def journal(folder: Path) -> list[Change]:
    """What the store tells, which agrees with itself: the journal, the heads, the full-text index and the counts."""
    async with open_store(store_of(folder)) as store:
        changes = await every_change(store)
        heads = {change.alert.id: change.alert for change in changes}
        assert {alert.id: alert for alert in (await store.find(EVERYTHING, 10_000)).alerts} == heads
        assert await store.count(EVERYTHING) == len(heads)
        assert sum(state.alerts for state in await store.states()) == len(heads)
        for title, number in Counter(alert.title for alert in heads.values() if " " not in alert.title).items():
            assert await store.count(Query(root=Words((title,)))) == number
    with closing(apsw.Connection(str(store_of(folder)))) as connection:
        connection.execute("INSERT INTO postings (postings) VALUES ('integrity-check')")
        assert connection.execute("PRAGMA integrity_check").get == "ok"
    return changes


def filled() -> Counter[tuple[str, str, int]]:
    """What a store that was filled tells, but for the times of saving."""
    return Counter(
        (str(each), f"revision{revision}", revision + 1) for each in range(ALERTS) for revision in range(REVISIONS)
    )


def told(changes: Sequence[Change]) -> Counter[tuple[str, str, int]]:
    return Counter((change.alert.vendor_id, change.alert.title, change.revision) for change in changes)


async def check_files(folder: Path, changes: Sequence[Change]) -> None:
    """No file is half-written, and there is one for all that is said to be delivered."""
    async with open_store(store_of(folder)) as store:
        position = await store.position("archive")
    by_name = {file_name(change): change for change in changes}
    found = set()
    for path in (folder / "alerts").rglob("alert_*.json"):
        if path.parent.name != WRITING:
            content = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
            assert bytes(content["raw"]) == by_name[path.name].raw
            found.add(path.name)
    assert {name for name, change in by_name.items() if change.seq <= position} <= found


# ---------------------------------------------------------------- polling, and what follows it


class Polling(Work):
    """Polls and delivers some times, while alerts are created and change. Goes on at the step that it was killed in."""

    STEPS = 4

    async def begin(self, folder: Path) -> None:
        async with open_store(store_of(folder)):
            pass

    async def do(self, folder: Path) -> None:
        note = folder / "step"
        last = int(note.read_text()) if note.exists() else 0
        clock = ManualClock()
        vendor = ModelVendor(clock)
        async with open_store(store_of(folder), clock=clock) as store:
            for step in range(self.STEPS):
                self._go_on(vendor, clock, step)
                if step < last:
                    continue
                note.with_suffix(".new").write_text(str(step))
                note.with_suffix(".new").replace(note)
                await Poller(vendor, store, pace=Pace(), holder=HOLDER, clock=clock).once()
                await deliver(store, folder)

    async def check_left(self, folder: Path) -> None:
        changes = await journal(folder)
        await check_files(folder, changes)
        kept = Counter((change.alert.vendor_id, change.alert.updated, change.raw) for change in changes)
        assert [version for version, times in kept.items() if times > 1] == []
        async with open_store(store_of(folder)) as store:
            covered = [window for state in await store.states() for window in state.coverage]
        for window in covered:
            assert {version for version in self._versions() if version[1] <= window.end} <= kept.keys()

    async def check_done(self, folder: Path) -> None:
        changes = await journal(folder)
        assert {(change.alert.vendor_id, change.alert.updated, change.raw) for change in changes} == self._versions()
        check_archive(changes, folder / "alerts")

    def _go_on(self, vendor: ModelVendor, clock: ManualClock, step: int) -> None:
        clock.advance(minutes=10)
        for number in range(11):
            vendor.put(f"{step}-{number}")
        for number in range(4 if step else 0):
            vendor.put(f"{step - 1}-{number}", title="changed")

    def _versions(self) -> set[tuple[str, datetime, bytes]]:
        """Every version that there ever is."""
        clock = ManualClock()
        vendor = ModelVendor(clock)
        versions = set()
        for step in range(self.STEPS):
            self._go_on(vendor, clock, step)
            versions |= {(name, each.alert.updated, each.raw) for name, each in vendor.records.items()}
        return versions


class Exporting(Work):
    """Writes a store's archive."""

    async def begin(self, folder: Path) -> None:
        async with open_store(store_of(folder)) as store:
            await fill(store)

    async def do(self, folder: Path) -> None:
        async with open_store(store_of(folder)) as store:
            await deliver(store, folder)

    async def check_left(self, folder: Path) -> None:
        changes = await journal(folder)
        assert told(changes) == filled()
        await check_files(folder, changes)

    async def check_done(self, folder: Path) -> None:
        check_archive(await journal(folder), folder / "alerts")


# ---------------------------------------------------------------- what is done to a store now and then


class Retaining(Work):
    """Drops every alert."""

    async def begin(self, folder: Path) -> None:
        async with open_store(store_of(folder)) as store:
            await fill(store)

    async def do(self, folder: Path) -> None:
        async with open_store(store_of(folder)) as store:
            await Retention(store, Policy(alerts=0), read_again=self._nothing, sinks=(), holder=HOLDER).once()

    async def _nothing(self, _now: datetime) -> Mapping[str, Sequence[Window]]:
        return {"model": ()}

    async def check_left(self, folder: Path) -> None:
        found = told(await journal(folder))
        left = {vendor_id for vendor_id, _, _ in found}
        assert found == Counter(version for version in filled() if version[0] in left)

    async def check_done(self, folder: Path) -> None:
        assert await journal(folder) == []


class Rebuilding(Work):
    """Makes a store from an archive."""

    async def begin(self, folder: Path) -> None:
        async with open_store(folder / "old.db") as store:
            await fill(store)
            await deliver(store, folder)
        (folder / "old.db").unlink()

    async def do(self, folder: Path) -> None:
        def tell(path: str, reason: str) -> None:
            raise AssertionError(f"{path} is left out: {reason}")

        async with open_store(store_of(folder)) as store:
            with closing(ArchivedChanges(folder / "alerts", tell)) as archived:
                await rebuild_store(archived, store, lambda _: None)

    async def check_left(self, folder: Path) -> None:
        changes = await journal(folder)
        assert [change.seq for change in changes] == list(range(1, len(changes) + 1))
        assert told(changes) <= filled()

    async def check_done(self, folder: Path) -> None:
        changes = await journal(folder)
        assert told(changes) == filled()
        check_archive(changes, folder / "alerts")


class Migrating(Work):
    """Brings a store of the first format to the newest, and on to one that changes every row of a table and copies another."""

    NEXT = """
        ALTER TABLE alerts ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;
        UPDATE alerts SET copied = seq;
        CREATE TABLE changes_by_saved AS SELECT saved, seq, body FROM changes ORDER BY saved;
        CREATE INDEX changes_saved ON changes_by_saved (saved, seq);
    """
    TABLES = ("sources", "alerts", "changes", "leases")
    """What is as it was in the first format; the rest is made of it."""

    async def begin(self, folder: Path) -> None:
        async with open_store(folder / "new.db") as store:
            await fill(store)
        with closing(open_writer(store_of(folder), migrations()[:1])) as connection:
            connection.execute("ATTACH ? AS new", (str(folder / "new.db"),))
            for table in self.TABLES:
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM new.{table}")  # noqa: S608 (named above)
        (folder / "new.db").unlink()

    async def do(self, folder: Path) -> None:
        open_writer(store_of(folder), (*migrations(), self.NEXT)).close()

    async def check_left(self, folder: Path) -> None:
        with closing(apsw.Connection(str(store_of(folder)))) as connection:
            version = connection.pragma("user_version")
            made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            assert connection.execute("PRAGMA integrity_check").get == "ok"
        assert version in {1, len(migrations()) + 1}
        assert (made & {"tallies", "changes_by_saved", "changes_saved"} != set()) == (version > 1)

    async def check_done(self, folder: Path) -> None:
        with closing(apsw.Connection(str(store_of(folder)))) as connection:
            assert connection.execute("SELECT count(*) FROM alerts WHERE copied = seq").get == ALERTS
            assert connection.execute("SELECT count(*) FROM changes_by_saved").get == ALERTS * REVISIONS
            connection.pragma("user_version", len(migrations()))  # that it can be asked by the program of today
        assert told(await journal(folder)) == filled()


WORKS: dict[str, Work] = {
    "polling": Polling(),
    "exporting": Exporting(),
    "retaining": Retaining(),
    "rebuilding": Rebuilding(),
    "migrating": Migrating(),
}
