"""Every call by which the archive changes the disk fails, or is the last thing its process does; so does the power.

The calls are enumerated, not sampled: whatever the archive comes to do is met by these tests as well.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import product
from pathlib import Path

import anyio
import archiving_process
import msgspec
import pytest
from archiving_process import archive_of, deliver
from disk_edge import DiskEdge, Unsynced, lose_power
from model_vendor import START, record
from truth import check_archive, every_change

from xdr_mcp.alert import Change
from xdr_mcp.errors import SinkError
from xdr_mcp.interfaces import Page
from xdr_mcp.sinks.archive import WRITING, file_name
from xdr_mcp.store import open_store

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("no_waiting_for_the_store_s_syncs"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

SEED = 20261123


async def changes_of(folder: Path) -> tuple[list[Change], int]:
    """All changes, and how far they are delivered."""
    async with open_store(folder / "store.db") as store:
        return await every_change(store), await store.position("archive")


async def save(folder: Path, *ids: str, hours: int = 0) -> None:
    """Store one version of each alert."""
    async with open_store(folder / "store.db") as store:
        lease = await store.acquire("poll:model", "test:1:a", timedelta(hours=1))
        assert lease is not None
        moment = START + timedelta(hours=hours)
        records = tuple(record(each, moment, title="x" * 2_000) for each in ids)
        await store.save("model", Page(records, moment), lease)
        await store.release(lease)


async def nothing_yet(template: Path) -> None:
    """Five changes and no archive."""
    await save(template, "a", "b", "../c", "d", "e")


async def some_already(template: Path) -> None:
    """Two were delivered; of five more, one was written before a kill, and another lies half-written."""
    await save(template, "a", "b")
    await deliver(template, archive_of(template))
    await save(template, "b", "../c", "d", hours=1)
    await save(template, "e", "f", hours=2)
    async with open_store(template / "store.db") as store:
        written = await store.kept_changes(2, 1)
    await archive_of(template).send(written)
    (template / "alerts" / WRITING / "1-7").write_bytes(b'{"provenance":{"sou')


async def one_for_a_new_folder(template: Path) -> None:
    """A single change, whose file is the first in a folder of its own."""
    await save(template, "a", "b", "c")
    await deliver(template, archive_of(template))
    await save(template, "d", hours=1)


@pytest.fixture(
    scope="module", params=[nothing_yet, some_already, one_for_a_new_folder], ids=lambda make: make.__name__
)
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    anyio.run(request.param, folder)
    return folder


@pytest.fixture(scope="module")
def killed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder for each call, as it is left by a process that was killed ahead of that call, and one after the last."""
    into = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-W", "error", archiving_process.__file__, str(template), str(into)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    calls = done.stdout.split()
    assert set(calls) >= {"open", "write", "fsync", "rename", "mkdir"}
    folders = [into / str(number) for number in range(1, len(calls) + 2)]
    assert sorted(folders) == sorted(into.iterdir())
    return folders


def copy_of(folder: Path, into: Path) -> tuple[Path, Unsynced]:
    """What was left in a place of its own, and what of it a power loss may take."""
    copy = Path(shutil.copytree(folder, into))
    moved = (copy / "unsynced.json").read_bytes().replace(f"{folder}/".encode(), f"{copy}/".encode())
    return copy, msgspec.json.decode(moved, type=Unsynced)


def archived(folder: Path) -> Iterator[Path]:
    """What goes by the name of an alert."""
    return (path for path in (folder / "alerts").rglob("alert_*.json") if path.parent.name != WRITING)


def check_that_it_is_true(folder: Path, changes: list[Change], position: int) -> None:
    """What was left: no final name on anything half-written, and a file for all that is said to be delivered."""
    by_name = {file_name(change): change for change in changes}
    found = set()
    for path in archived(folder):
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        assert bytes(content["raw"]) == by_name[path.name].raw
        found.add(path.name)
    assert {file_name(change) for change in changes if change.seq <= position} <= found


async def check_after_a_clean_start(folder: Path, changes: list[Change]) -> None:
    """One whole file for each change, nothing else, and a position that says so."""
    await deliver(folder, archive_of(folder))
    check_archive(changes, folder / "alerts")
    assert len(list(archived(folder))) == len(changes)
    assert await changes_of(folder) == (changes, changes[-1].seq)


async def test_killed_at_any_call_every_change_has_one_whole_file_after_the_next_start(
    killed: list[Path], tmp_path: Path
) -> None:
    for folder in killed:
        copy, _ = copy_of(folder, tmp_path / folder.name)
        changes, position = await changes_of(copy)
        check_that_it_is_true(copy, changes, position)
        await check_after_a_clean_start(copy, changes)


@pytest.mark.parametrize(
    "losses", [pytest.param(2, id="2 losses"), pytest.param(20, id="20 losses", marks=pytest.mark.slow)]
)
async def test_a_power_loss_at_any_call_takes_nothing_that_was_said_to_be_delivered(
    killed: list[Path], tmp_path: Path, losses: int
) -> None:
    chance = random.Random(SEED)  # noqa: S311 (repeatable, not secret)
    draws: list[Callable[[], bool]] = [lambda: True, *[lambda: chance.random() < 0.5] * (losses - 1)]
    for folder, (number, lost) in product(killed, enumerate(draws)):
        copy, unsynced = copy_of(folder, tmp_path / f"{folder.name}-{number}")
        lose_power(unsynced, lost)
        changes, position = await changes_of(copy)
        check_that_it_is_true(copy, changes, position)
        await check_after_a_clean_start(copy, changes)


async def test_a_power_loss_after_a_kill_and_another_start_takes_nothing_either(
    killed: list[Path], tmp_path: Path
) -> None:
    for folder in killed:
        copy, unsynced = copy_of(folder, tmp_path / folder.name)
        edge = DiskEdge(copy / "alerts", unsynced=unsynced)
        await deliver(copy, archive_of(copy), edge)
        lose_power(edge.unsynced, lambda: True)
        changes, position = await changes_of(copy)
        assert position == changes[-1].seq
        check_that_it_is_true(copy, changes, position)


@pytest.mark.parametrize(
    ("code", "times"),
    [
        pytest.param(errno.EIO, 1, id="EIO once"),
        pytest.param(errno.ENOSPC, 4, id="ENOSPC for a while"),
        pytest.param(errno.ENOSPC, 1, id="ENOSPC once", marks=pytest.mark.slow),
        pytest.param(errno.EIO, 4, id="EIO for a while", marks=pytest.mark.slow),
        pytest.param(errno.EROFS, 4, id="read-only for a while", marks=pytest.mark.slow),
    ],
)
async def test_a_disk_that_fails_at_any_call_delays_delivery_and_spoils_nothing(
    template: Path, tmp_path: Path, code: int, times: int
) -> None:
    for first in range(1, 1_000):
        folder = Path(shutil.copytree(template, tmp_path / str(first)))
        calls = await deliver_while_failing(folder, range(first, first + times), code)
        changes, position = await changes_of(folder)
        assert position == changes[-1].seq
        await check_after_a_clean_start(folder, changes)
        if calls < first:
            break
    else:
        pytest.fail("it never ran out of calls to fail")
    assert first > 5


async def deliver_while_failing(folder: Path, failing: range, code: int) -> int:
    """Deliver until that succeeds, while calls of certain numbers fail; how many calls it took."""
    calls = 0

    def fail(_number: int, _name: str) -> None:
        nonlocal calls
        calls += 1
        if calls in failing:
            raise OSError(code, os.strerror(code))

    archive = archive_of(folder)
    for _ in range(len(failing) + 1):
        with suppress(SinkError):
            await deliver(folder, archive, DiskEdge(folder / "alerts", fail))
            return calls
        changes, position = await changes_of(folder)
        check_that_it_is_true(folder, changes, position)
    pytest.fail("it does not go on when the disk does")


async def test_a_folder_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    await save(tmp_path, "a")
    await deliver(tmp_path, archive)
    shutil.rmtree(tmp_path / "alerts")
    await save(tmp_path, "b")
    with pytest.raises(SinkError):
        await deliver(tmp_path, archive)
    await deliver(tmp_path, archive)
    assert len(list(archived(tmp_path))) == 1
