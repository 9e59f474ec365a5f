"""The archive rebuilds the store and the store the archive; what is damaged is told, and hinders nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_vendor import START, ManualClock, ModelVendor, record
from msgspec import structs
from program import PATIENCE, environment
from strategies import alerts, storable_texts
from truth import check_archive, every_change

from xdr_mcp.alert import Alert, Change, Status
from xdr_mcp.cli import main
from xdr_mcp.delivery import Delivery
from xdr_mcp.errors import SettingsError, StoreError
from xdr_mcp.interfaces import Page, Record, Store
from xdr_mcp.planning import Pace
from xdr_mcp.poller import Poller
from xdr_mcp.rebuild import Rebuilt, rebuild_store
from xdr_mcp.sinks.archive import Archive, file_name
from xdr_mcp.sinks.archived import ArchivedChanges
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

HOSTILE_IDS = (
    "../../etc/passwd",
    "a/b",
    "con",
    "A",
    "a",
    "x" * 300,
    "\u202egpj.exe",
    "日本語",
    "é",
    "e\u0301",
    "",
    "-rf",
    "%00",
)
HOUR = timedelta(hours=1)


class Ticking(ManualClock):
    """A clock that goes on by a second and a bit whenever it is looked at."""

    def __call__(self) -> datetime:
        self.advance(seconds=1.000001)
        return self.now


def silent(_: object) -> None:
    """No progress is shown."""


async def put(store: Store, source: str, *records: Record, number: int = 0) -> None:
    """Save one page and let the lease go, as a poller that ended."""
    lease = await store.acquire(f"poll:{source}", "test:1:a", HOUR)
    assert lease is not None
    await store.save(source, Page(records, START + number * timedelta(seconds=7)), lease)
    await store.release(lease)


async def fill(store: Store) -> tuple[Change, ...]:
    """Alerts of two sources with hostile ids and up to four versions each, some with the vendor's time unmoved."""
    first = [record(each, START) for each in HOSTILE_IDS]
    await put(store, "model", *first)
    await put(store, "other", *(record(each, START, source="other") for each in HOSTILE_IDS[:5]), number=1)
    await put(store, "model", *(record(each, START, title="same time") for each in HOSTILE_IDS[::2]), number=2)
    await put(
        store, "model", *(record(each, START + HOUR, status=Status.RESOLVED) for each in HOSTILE_IDS[::3]), number=3
    )
    again = [record(each, START + 2 * HOUR, created=START - HOUR) for each in HOSTILE_IDS[::6]]
    await put(store, "model", *again, number=4)
    spelled = Record(record("as it came", START).alert, b'{"id" : "as it came",\n\n "n": 1.50, "u": "\\u00e9\xc3\xa9"}')
    await put(store, "model", spelled, number=5)
    return await store.changes(0, 1_000)


@asynccontextmanager
async def filled(folder: Path, *, flat_limit: int = 10_000) -> AsyncIterator[tuple[Store, tuple[Change, ...]]]:
    """A store that was archived whole."""
    async with open_store(folder / "store.db", clock=Ticking(START + HOUR)) as store:
        changes = await fill(store)
        assert await delivery(store, folder, flat_limit=flat_limit).drain() == len(changes)
        check_archive(list(changes), folder / "alerts")
        yield store, changes


def delivery(store: Store, folder: Path, *, flat_limit: int = 10_000) -> Delivery:
    return Delivery(Archive(folder / "alerts", version="1", flat_limit=flat_limit), store, holder="test:1:a")


class Told(dict[str, str]):
    """What was left out, and why."""

    def __call__(self, path: str, reason: str) -> None:
        assert path not in self
        self[path] = reason


async def rebuild(folder: Path, store: Store, told: Told | None = None) -> Rebuilt:
    left_out = Told()
    with closing(ArchivedChanges(folder, left_out if told is None else told)) as archived:
        rebuilt = await rebuild_store(archived, store, silent)
    assert left_out == {}
    return rebuilt


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("alert_*.json")}


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("flat_limit", [10_000, 5])
async def test_a_store_rebuilt_from_its_archive_tells_the_same_changes(tmp_path: Path, flat_limit: int) -> None:
    async with filled(tmp_path, flat_limit=flat_limit) as (store, changes), open_store(tmp_path / "again.db") as again:
        assert await rebuild(tmp_path / "alerts", again) == Rebuilt(len(changes), len(changes), changes[-1].seq)
        assert await again.changes(0, 1_000) == changes
        for change in changes:
            assert await again.get(change.alert.id) == await store.get(change.alert.id)


@given(drawn=st.lists(alerts(storable_texts), max_size=6))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_can_be_stored_survives_the_round_trip(
    drawn: list[Alert], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    async with open_store(folder / "store.db") as store, open_store(folder / "again.db") as again:
        for number, alert in enumerate(drawn):
            await put(store, alert.source, Record(alert, b'{"n": %d}' % number))
        await delivery(store, folder).drain()
        if drawn:
            await rebuild(folder / "alerts", again)
        assert await again.changes(0, 1_000) == await store.changes(0, 1_000)


async def test_an_archive_rebuilt_from_its_store_has_the_same_files(tmp_path: Path) -> None:
    async with filled(tmp_path, flat_limit=5) as (store, changes):
        before = files(tmp_path / "alerts")
        shutil.rmtree(tmp_path / "alerts")
        assert await delivery(store, tmp_path, flat_limit=5).redeliver(silent) == len(changes)
        assert files(tmp_path / "alerts") == before
        assert await store.position("archive") == changes[-1].seq


async def test_only_the_files_that_are_missing_are_written(tmp_path: Path) -> None:
    async with filled(tmp_path) as (store, changes):
        before = files(tmp_path / "alerts")
        lost, kept = sorted((tmp_path / "alerts").glob("alert_*.json"))[:2]
        lost.unlink()
        written = kept.stat().st_mtime_ns
        await delivery(store, tmp_path).redeliver(silent)
        assert files(tmp_path / "alerts") == before
        assert kept.stat().st_mtime_ns == written
        check_archive(list(changes), tmp_path / "alerts")


async def test_round_and_round_nothing_changes(tmp_path: Path) -> None:
    async with filled(tmp_path) as (_, changes), open_store(tmp_path / "again.db") as again:
        await rebuild(tmp_path / "alerts", again)
        (tmp_path / "second").mkdir()
        await delivery(again, tmp_path / "second").redeliver(silent)
        assert files(tmp_path / "second" / "alerts") == files(tmp_path / "alerts")
        async with open_store(tmp_path / "third.db") as third:
            await rebuild(tmp_path / "second" / "alerts", third)
            assert await third.changes(0, 1_000) == changes


async def test_polling_after_a_rebuild_tells_nothing_twice_and_goes_on(tmp_path: Path) -> None:
    clock = ManualClock()
    vendor = ModelVendor(clock)
    for number in range(25):
        vendor.put(f"{number}")
    async with open_store(tmp_path / "store.db", clock=clock) as store:
        await Poller(vendor, store, pace=Pace(), holder="test:1:a", clock=clock).once()
        await delivery(store, tmp_path).drain()
        changes = await store.changes(0, 100)
    async with open_store(tmp_path / "again.db", clock=clock) as again:
        await rebuild(tmp_path / "alerts", again)
        clock.advance(minutes=5)
        vendor.put("7", title="changed meanwhile")
        vendor.put("new")
        await Poller(vendor, again, pace=Pace(), holder="test:1:b", clock=clock).once()
        told = await again.changes(0, 100)
        assert told[:25] == changes
        assert {(change.alert.vendor_id, change.revision) for change in told[25:]} == {("7", 2), ("new", 1)}


# ---------------------------------------------------------------- interrupted


async def test_a_rebuild_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    async with filled(tmp_path) as (_, changes), open_store(tmp_path / "again.db") as again:
        await again.restore(changes[:9])
        assert await rebuild(tmp_path / "alerts", again) == Rebuilt(len(changes), len(changes) - 9, changes[-1].seq)
        assert await again.changes(0, 1_000) == changes
        assert (await rebuild(tmp_path / "alerts", again)).restored == 0


KILLED = """
import os, signal, sys
from pathlib import Path
import anyio
from xdr_mcp.rebuild import rebuild_store
from xdr_mcp.sinks.archived import ArchivedChanges
from xdr_mcp.store import open_store

class OneByOne(ArchivedChanges):
    def batches(self):
        ones = (change for batch in super().batches() for change in batch)
        for number, change in enumerate(ones):
            if number == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield (change,)

async def main():
    async with open_store(Path(sys.argv[1]) / ".xdr-mcp" / "xdr-mcp.db") as store:
        await rebuild_store(OneByOne(Path(sys.argv[1]) / "alerts", print), store, lambda _: None)

Path(sys.argv[1], ".xdr-mcp").mkdir()
anyio.run(main)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no signals that kill here")
@pytest.mark.parametrize("after", [0, 1, 17])
@pytest.mark.usefixtures("_no_settings")
def test_a_rebuild_that_is_killed_in_the_middle_is_whole_after_the_next(tmp_path: Path, after: int) -> None:
    changes = archived(tmp_path)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(after)], env=environment(), timeout=PATIENCE, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert held(tmp_path)[0] == changes[:after]
    done = typed("--from", "alerts")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{len(changes) - after} changes restored" in done.stdout
    assert held(tmp_path) == (changes, changes[-1].seq)


# ---------------------------------------------------------------- what is not whole


async def test_every_way_a_file_can_be_damaged_is_told_and_all_else_is_restored(tmp_path: Path) -> None:
    async with filled(tmp_path) as (_, changes), open_store(tmp_path / "again.db") as again:
        folder = tmp_path / "alerts"
        paths = [folder / file_name(change) for change in changes]
        paths[0].write_bytes(b"")
        paths[1].write_bytes(paths[1].read_bytes()[:-40])
        paths[2].write_bytes(paths[2].read_bytes().replace(b"alert", b"al\xffrt"))
        paths[3].write_bytes(b"\0" * 4096)
        paths[4].write_bytes(b"[" * 100_000)
        paths[5].write_bytes(b'{"provenance": 1, "alert": [], "raw": NaN}')
        paths[6].write_bytes(paths[7].read_bytes())
        paths[8].write_bytes(paths[8].read_bytes().replace(b'"source":"model"', b'"source":"other"', 1))
        paths[9].write_bytes(paths[9].read_bytes().replace(b'"revision":1', b'"revision":99999999999999999999', 1))
        paths[10].write_bytes(paths[10].read_bytes().replace(b'"seq":', b'"seq":-', 1))
        paths[11].unlink()
        paths[11].symlink_to(paths[12])
        with paths[13].open("r+b") as file:
            file.truncate(2**40)
        left = {path: path.read_bytes() for path in paths[:11]}
        (folder / "notes.txt").write_text("mine")
        (folder / "README.md").write_text("the project's")
        (folder / ".gitignore").write_text("*")
        (folder / "2026-11-01" / "12").mkdir(parents=True)
        copy = shutil.copy(paths[14], folder / "2026-11-01" / "12")
        (folder / ".writing" / "half").write_bytes(paths[14].read_bytes()[:50])
        told = Told()
        rebuilt = await rebuild(folder, again, told)
        named = {path.removeprefix("2026-11-01/12/") for path in told}
        assert named == {*(path.name for path in paths[:7]), *(p.name for p in paths[8:12]), paths[13].name} | {
            "notes.txt",
            Path(copy).name,
        }
        assert told[paths[6].name].endswith(paths[7].name)
        assert "cut short" in told[paths[1].name]
        assert "copy" in told[next(path for path in told if path.endswith(Path(copy).name))]
        assert all(path.read_bytes() == content for path, content in left.items())
        kept = tuple(change for change in changes if change.seq - 1 not in {*range(7), *range(8, 12), 13})
        assert rebuilt.restored == len(kept)
        restored = await again.changes(0, 1_000)
        assert [without_before(change) for change in restored] == [without_before(change) for change in kept]


def without_before(change: Change) -> Change:
    return structs.replace(change, before=None)


async def test_what_no_store_would_keep_or_live_with_is_left_out_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store, open_store(tmp_path / "again.db") as again:
        await put(store, "model", *(record(each, START, count=7) for each in ("many", "late", "elsewhere", "good")))
        await delivery(store, tmp_path).drain()
        many, late, elsewhere, good = (
            tmp_path / "alerts" / file_name(change) for change in await store.changes(0, 100)
        )
        many.write_bytes(many.read_bytes().replace(b'"count":7', b'"count":%d' % 2**63))
        late.write_bytes(late.read_bytes().replace(b'"seq":2', b'"seq":%d' % (2**63 - 1)))
        elsewhere.rename(tmp_path / elsewhere.name)
        elsewhere.symlink_to(tmp_path / elsewhere.name)
        told = Told()
        await rebuild(tmp_path / "alerts", again, told)
        assert told.keys() == {many.name, late.name, elsewhere.name}
        assert "regular" in told[elsewhere.name]
        assert [file_name(change) for change in await again.changes(0, 100)] == [good.name]


async def test_large_records_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        raw = b'{"x": "%b"}' % (b"x" * 3_000_000)
        await put(store, "model", *(Record(record(f"{number}", START).alert, raw) for number in range(5)))
        await delivery(store, tmp_path).drain()
    with closing(ArchivedChanges(tmp_path / "alerts", Told())) as archived:
        assert list(archived.scan()) == [5]
        assert [len(batch) for batch in archived.batches()] == [3, 2]


async def test_a_file_cut_short_at_any_byte_is_recognised(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store, open_store(tmp_path / "again.db") as again:
        await put(store, "model", Record(record("a", START).alert, b'{"id": "a",\n "in": {"n": [1, {}]}\n}'))
        await delivery(store, tmp_path).drain()
        (path,) = (tmp_path / "alerts").glob("alert_*.json")
        whole = path.read_bytes()
        for length in range(len(whole) - 1):  # the line end is no part of what it says
            path.write_bytes(whole[:length])
            told = Told()
            assert (await rebuild(tmp_path / "alerts", again, told)).changes == 0
            assert list(told) == [path.name]
        path.write_bytes(whole)
        assert (await rebuild(tmp_path / "alerts", again)).restored == 1


async def test_an_archive_that_two_stores_fed_is_numbered_anew_by_time_of_saving(tmp_path: Path) -> None:
    clock = ManualClock()
    for name, versions in (("first", (0, 1)), ("second", (1, 2))):
        async with open_store(tmp_path / f"{name}.db", clock=clock) as store:
            for version in versions:
                clock.advance(seconds=1)
                await put(store, "model", record("a", START + version * HOUR), record(f"{name}-{version}", START))
            await delivery(store, tmp_path).drain()
    async with open_store(tmp_path / "again.db") as again:
        await rebuild(tmp_path / "alerts", again)
        told = await again.changes(0, 100)
        assert [(change.alert.updated, change.revision) for change in told if change.alert.vendor_id == "a"] == [
            (START, 1),
            (START + HOUR, 2),
            (START + 2 * HOUR, 3),
        ]
        assert [change.saved for change in told] == sorted(change.saved for change in told)
        assert (await rebuild(tmp_path / "alerts", again)).restored == 0


# ---------------------------------------------------------------- what is refused


async def test_a_store_that_holds_other_alerts_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with filled(tmp_path), open_store(tmp_path / "again.db") as again:
        await put(again, "model", record("mine", START))
        before = await again.changes(0, 100)
        with pytest.raises(SettingsError, match="--data-dir"):
            await rebuild(tmp_path / "alerts", again)
        assert await again.changes(0, 100) == before


async def test_a_store_that_differs_in_a_record_s_bytes_alone_is_refused(tmp_path: Path) -> None:
    async with filled(tmp_path) as (_, changes), open_store(tmp_path / "again.db") as again:
        await again.restore([structs.replace(changes[0], raw=b'{"another": "store"}')])
        with pytest.raises(SettingsError, match="--data-dir"):
            await rebuild(tmp_path / "alerts", again)


async def test_a_store_that_is_being_polled_is_refused(tmp_path: Path) -> None:
    async with filled(tmp_path), open_store(tmp_path / "again.db") as again:
        lease = await again.acquire("poll:model", "test:1:a", HOUR)
        assert lease is not None
        await again.save("model", Page((), START), lease)
        with pytest.raises(StoreError, match="polls model"):
            await rebuild(tmp_path / "alerts", again)


# ---------------------------------------------------------------- the command


@pytest.fixture
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("XDR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("rebuild", *arguments))


def archived(folder: Path) -> list[Change]:
    async def fill_and_archive() -> list[Change]:
        async with filled(folder) as (_, changes):
            return list(changes)

    return anyio.run(fill_and_archive)


def held(folder: Path) -> tuple[list[Change], int]:
    async def ask() -> tuple[list[Change], int]:
        async with open_store(folder / ".xdr-mcp" / "xdr-mcp.db") as store:
            return await every_change(store), await store.position("archive")

    return anyio.run(ask)


@pytest.mark.usefixtures("_no_settings")
def test_the_command_rebuilds_the_store_and_then_the_archive(tmp_path: Path) -> None:
    changes = archived(tmp_path)
    done = typed("--from", "alerts")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{len(changes)} changes restored" in done.stdout
    assert held(tmp_path) == (changes, changes[-1].seq)
    before = files(tmp_path / "alerts")
    (tmp_path / "alerts").rename(tmp_path / "before")
    done = typed("--archive")
    assert (done.exit_code, done.stderr) == (0, "")
    after = files(tmp_path / "alerts")
    assert after.keys() == before.keys()
    assert {name: body.partition(b"written_by")[2].partition(b"\n")[2] for name, body in after.items()} == {
        name: body.partition(b"written_by")[2].partition(b"\n")[2] for name, body in before.items()
    }


@pytest.mark.usefixtures("_no_settings")
def test_an_archive_from_elsewhere_is_yet_to_be_written_here(tmp_path: Path) -> None:
    changes = archived(tmp_path)
    (tmp_path / "alerts").rename(tmp_path / "backup")
    assert typed("--from", "backup").exit_code == 0
    assert held(tmp_path) == (changes, 0)


@pytest.mark.usefixtures("_no_settings")
def test_the_command_ends_with_1_and_names_what_is_damaged(tmp_path: Path) -> None:
    changes = archived(tmp_path)
    (tmp_path / "alerts" / "alert_\x1b[2J.json").write_text("{}")
    (tmp_path / "alerts" / "notes.txt").write_text("mine")
    for arguments in (("--from", "alerts"), ("--archive",)):
        done = typed(*arguments)
        assert done.exit_code == 1
        assert r"left out: alert_\x1b[2J.json" in done.stderr
        assert "notes.txt" in done.stderr
        assert "1 damaged" in done.stderr
    assert held(tmp_path)[0] == changes
    (tmp_path / "alerts" / "alert_\x1b[2J.json").unlink()
    assert typed("--from", "alerts").exit_code == 0


@pytest.mark.usefixtures("_no_settings")
def test_wrong_usage_ends_with_2_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, told in (
        ((), "either --from"),
        (("--archive", "--from", "alerts"), "either --from"),
        (("--from", "nowhere"), "no such folder"),
        (("--from", "empty"), "no file of an archive"),
    ):
        done = typed(*arguments)
        assert done.exit_code == 2, arguments
        assert told in done.stderr
    assert typed("--archive", "--data-dir", "nowhere").exit_code == 5
