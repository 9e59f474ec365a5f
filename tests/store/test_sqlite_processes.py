"""Several processes on one file, some of which die."""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import apsw
import pytest
import saving_process
from truth import every_change

from xdr_mcp.interfaces import Page, Record, utc_now
from xdr_mcp.query import Query, Words
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import open_reader

pytestmark = pytest.mark.anyio

SIZE = saving_process.PAGE_SIZE
EVERYTHING = Query()


class Saver:
    """A saving process, spoken to line by line."""

    def __init__(self, path: Path, source: str) -> None:
        self.source = source
        command = [sys.executable, saving_process.__file__, str(path), source]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._said = b""

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def answer(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._said:
            ready, _, _ = select.select([self.process.stdout], [], [], 20)
            assert ready, "no answer"
            part = self.process.stdout.read(4_096)
            assert part, "it ended"
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()

    def kill(self) -> list[str]:
        """Kill it, and return what it still managed to say."""
        self.process.kill()
        rest = self._said + self.process.communicate()[0]
        return rest.decode().split("\n")[:-1]


@contextmanager
def saver(path: Path, source: str = "model") -> Iterator[Saver]:
    made = Saver(path, source)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def integrity(path: Path) -> list[str]:
    connection = apsw.Connection(str(path))
    try:
        connection.execute("INSERT INTO postings (postings) VALUES ('integrity-check')")
        return [row[0] for row in connection.execute("PRAGMA integrity_check")]
    finally:
        connection.close()


async def test_a_follower_sees_what_the_poller_saves_and_is_woken(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with saver(path) as poller:
        assert poller.answer() == "ready"
        async with open_store(path) as follower:
            for number in range(3):
                seen = await follower.last_seq()
                poller.tell(f"save {number}")
                assert await follower.wait(seen, 5)
                assert poller.answer() == f"saved {number}"
                assert len(await follower.changes(seen, 1_000)) == SIZE
                assert await follower.count(EVERYTHING) == (number + 1) * SIZE


async def test_processes_that_start_at_once_share_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "store.db"
    savers = [Saver(path, f"source{number}") for number in range(4)]
    try:
        assert [each.answer() for each in savers] == ["ready"] * 4
        for number in range(5):
            for each in savers:
                each.tell(f"save {number}")
        for number in range(5):
            assert [each.answer() for each in savers] == [f"saved {number}"] * 4
    finally:
        for each in savers:
            each.kill()
    async with open_store(path) as store:
        assert await store.count(EVERYTHING) == 4 * 5 * SIZE
        assert [state.alerts for state in await store.states()] == [5 * SIZE] * 4
        seqs = [change.seq for change in await store.changes(0, 10_000)]
        assert seqs == list(range(1, 4 * 5 * SIZE + 1))
    assert integrity(path) == ["ok"]


async def test_of_three_writers_at_once_each_saves_everything_though_one_is_killed(tmp_path: Path) -> None:
    path, pages = tmp_path / "store.db", 25
    with saver(path, "one") as one, saver(path, "other") as other, saver(path, "victim") as victim:
        assert [each.answer() for each in (one, other, victim)] == ["ready"] * 3
        victim.tell("run")
        for number in range(pages):
            one.tell(f"save {number}")
            other.tell(f"save {number}")
        told = [victim.answer() for _ in range(5)] + victim.kill()
        for each in (one, other):
            assert [each.answer() for _ in range(pages)] == [f"saved {number}" for number in range(pages)]
    async with open_store(path) as store:
        held = {state.source: state.alerts // SIZE for state in await store.states()}
        assert (held["one"], held["other"]) == (pages, pages)
        assert held["victim"] in {len(told), len(told) + 1}
        seqs = [change.seq for change in await every_change(store)]
        assert seqs == list(range(1, sum(held.values()) * SIZE + 1))
        assert await store.count(EVERYTHING) == len(seqs)
    assert integrity(path) == ["ok"]


@pytest.mark.parametrize(
    "seconds", [pytest.param(0, id="for 60 MB"), pytest.param(20, id="for 20 seconds", marks=pytest.mark.slow)]
)
async def test_a_reader_that_holds_a_snapshot_sees_it_unchanged_holds_up_nobody_and_leaves_a_small_log(
    seconds: float, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    log = path.with_name("store.db-wal")
    async with open_store(path) as store:
        lease = await store.acquire("poll:model", "me", timedelta(hours=1))
        assert lease is not None
        await store.save("model", large_page(0), lease)
        with closing(open_reader(path)) as reader:
            reader.execute("BEGIN")
            seen = reader.execute("SELECT count(*), max(seq) FROM changes").get
            until, saved = time.monotonic() + seconds, 1
            while log.stat().st_size < 60_000_000 or time.monotonic() < until:
                await store.save("model", large_page(saved), lease)
                saved += 1
            assert reader.execute("SELECT count(*), max(seq) FROM changes").get == seen
            assert await store.count(EVERYTHING) == saved * SIZE
            reader.execute("COMMIT")
        for _ in range(3):
            await store.save("model", large_page(saved), lease)
            saved += 1
        assert log.stat().st_size < 24_000_000
        assert await store.count(EVERYTHING) == saved * SIZE
    assert integrity(path) == ["ok"]


def large_page(number: int) -> Page:
    """Four megabytes of alerts."""
    page = saving_process.page("model", number)
    return Page(tuple(Record(each.alert, each.raw.ljust(100_000)) for each in page.records), page.fetched)


async def test_a_poller_that_was_frozen_past_its_lease_writes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    def later() -> datetime:
        return utc_now() + timedelta(seconds=10)

    with saver(path) as frozen:
        assert frozen.answer() == "ready"
        assert frozen.ask("save 0") == "saved 0"
        frozen.process.send_signal(signal.SIGSTOP)
        async with open_store(path, clock=later) as store:
            lease = await store.acquire("poll:model", "fresh", timedelta(seconds=9))
            assert lease is not None
            await store.save("model", saving_process.page("model", 1), lease)
            frozen.process.send_signal(signal.SIGCONT)
            assert frozen.ask("save 2") == "lost 2"
            assert await store.count(EVERYTHING) == 2 * SIZE


@pytest.mark.parametrize("seed", range(12))
async def test_what_was_saved_survives_a_kill_and_the_rest_is_whole(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store.db"
    moment = random.Random(seed)  # noqa: S311 (when to kill, repeatably)
    with saver(path) as victim:
        assert victim.answer() == "ready"
        victim.tell("run")
        told = [victim.answer() for _ in range(moment.randrange(1, 8))]
        select.select([], [], [], moment.random() / 50)
        told += victim.kill()
    async with open_store(path) as store:
        count = await store.count(EVERYTHING)
        assert count % SIZE == 0
        assert count // SIZE in {len(told), len(told) + 1}
        assert count == await store.count(Query(root=Words(("alert",)))) == len(await store.changes(0, 100_000))
        lease = await store.acquire("poll:model", "model", timedelta(seconds=9))
        assert lease is not None
        for number in range(len(told) + 2):
            saved = await store.save("model", saving_process.page("model", number), lease)
            assert (saved.created, saved.unchanged) in {(SIZE, 0), (0, SIZE)}
        assert await store.count(EVERYTHING) == (len(told) + 2) * SIZE
    assert integrity(path) == ["ok"]
