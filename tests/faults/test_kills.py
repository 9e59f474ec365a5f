"""Polling, exporting, retention, rebuilding and migrating, each killed at any instant, or on a disk that fails at any write.

Ahead of each change to the store's file is enumerated; real kills, at random instants and with another process on the same
file, are sampled. Each ends with the work done again, whole.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import anyio
import apsw
import dying_process
import pytest
from faulty_disk import FailOnce, FaultyDisk, Snapshots, a_faulty_disk
from works import WORKS, Work

from xdr_mcp.errors import StoreUnusable

pytestmark = pytest.mark.anyio

SEED = 20261125
AT_ONCE = 100
"""Folders on the disk at a time."""


@pytest.fixture(scope="module", params=WORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def template(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with work to do."""
    folder = tmp_path_factory.mktemp(name)
    anyio.run(WORKS[name].begin, folder)
    return folder


@pytest.fixture
def work(name: str) -> Work:
    return WORKS[name]


async def check(work: Work, folder: Path) -> None:
    """What was left is true, and the work is done when it is taken up again."""
    await work.check_left(folder)
    await work.do(folder)
    await work.check_done(folder)


@pytest.fixture
def disk() -> Generator[FaultyDisk, None, None]:
    with a_faulty_disk() as made:
        yield made


@pytest.mark.parametrize(
    "step", [pytest.param(5, id="every fifth"), pytest.param(1, id="each", marks=pytest.mark.slow)]
)
async def test_killed_ahead_of_any_change_to_the_disk_work_is_taken_up_again_and_done_once(
    work: Work, template: Path, disk: FaultyDisk, tmp_path: Path, step: int
) -> None:
    folder = Path(shutil.copytree(template, tmp_path / "work"))
    disk.before = snapshots = Snapshots(folder, tmp_path, every=step)
    await work.do(folder)
    disk.before = lambda _: None
    await work.check_done(folder)
    assert snapshots.calls > 15
    for left in snapshots.taken:
        await check(work, left.parent)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(("write", apsw.FullError, 7), id="full at every seventh write"),
        pytest.param(("write", apsw.FullError, 1), id="full at each write", marks=pytest.mark.slow),
        pytest.param(("sync", apsw.IOError, 2), id="every second sync fails"),
        pytest.param(("sync", apsw.IOError, 1), id="each sync fails", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what SQLite can bear apsw still tells
async def test_a_disk_that_fails_at_any_write_or_sync_costs_a_repetition(
    work: Work, template: Path, disk: FaultyDisk, tmp_path: Path, fault: tuple[str, type[apsw.Error], int]
) -> None:
    kind, failure, step = fault
    failed = 0
    for number in range(1, 10_000, step):
        folder = Path(shutil.copytree(template, tmp_path / str(number)))
        disk.before = struck = FailOnce(kind, number, failure)
        with suppress(StoreUnusable, apsw.Error):  # the second as the store is closed, where SQLite itself can bear it
            await work.do(folder)
        disk.before = lambda _: None
        await check(work, folder)
        if not struck.happened:
            break
        failed += 1
    else:
        pytest.fail("it never ran out of calls to fail")
    assert failed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(10, id="10 kills"),
        pytest.param(200, id="200 kills", marks=pytest.mark.slow),
        pytest.param(2_000, id="2,000 kills", marks=pytest.mark.nightly),
    ],
)
async def test_killed_at_any_instant_work_is_taken_up_again_and_done_once(
    work: Work, name: str, template: Path, tmp_path: Path, kills: int
) -> None:
    killed = 0
    for first in range(0, kills, AT_ONCE):
        into = tmp_path / "into"
        into.mkdir()
        number = min(AT_ONCE, kills - first)
        arguments = (name, str(template), str(into), str(number), f"{SEED + first}")
        command = [sys.executable, "-W", "error", dying_process.__file__, *arguments]
        done = await anyio.run_process(command, check=False)
        assert done.returncode == 0, done.stderr.decode()
        killed += int(done.stdout)
        for folder in into.iterdir():
            await check(work, folder)
        shutil.rmtree(into)
    assert killed >= kills / 3
