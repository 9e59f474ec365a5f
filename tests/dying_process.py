"""A process that does a piece of work again and again, each time killed at some moment of it.

``dying_process.py <work> <template> <folder> <kills> <seed>`` copies the template to ``<folder>/1``, works there in a child that is
killed, goes on with ``<folder>/2``, and so on. While every second one dies, another process has the store open, reads it
after that, and is the last to close it. It prints how many were killed before they were done.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import anyio
from power_loss import a_power_loss_disk
from works import WORKS, store_of

from xdr_mcp.store.sqlite.file import open_reader


def _child(task: Callable[[int], None], spoken: int) -> int:
    """Fork a child that runs ``task``, given where it may speak; return its number."""
    number = os.fork()
    if number == 0:
        try:
            task(spoken)
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    return number


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class _Bystander:
    """Reads the store of somebody who dies."""

    def __init__(self, folder: Path) -> None:
        self._go_on, let_go = os.pipe()
        self._let_go = let_go
        hear, say = os.pipe()
        self._child = _child(lambda spoken: self._read(folder, spoken), say)
        assert os.read(hear, 1)
        for end in (hear, say, self._go_on):
            os.close(end)

    def _read(self, folder: Path, spoken: int) -> None:
        os.close(self._let_go)
        with closing(open_reader(store_of(folder))) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            os.write(spoken, b".")
            os.read(self._go_on, 1)
            assert connection.execute("PRAGMA quick_check").get == "ok"

    def end(self) -> None:
        os.close(self._let_go)
        assert _ended(self._child) == 0


def _kill_once(work: str, folder: Path, after: float, *, watched: bool) -> bool:
    """Whether it was killed before it was done."""
    bystander = _Bystander(folder) if watched and store_of(folder).exists() else None
    hear, say = os.pipe()

    def do(spoken: int) -> None:
        os.write(spoken, b".")
        anyio.run(WORKS[work].do, folder)

    child = _child(do, say)
    os.close(say)
    assert os.read(hear, 1)
    select.select([hear], [], [], after)  # it is closed when the child ends
    os.kill(child, signal.SIGKILL)
    os.close(hear)
    ended = _ended(child)
    assert ended in {0, -signal.SIGKILL}, ended
    if bystander:
        bystander.end()
    return ended != 0


def _main(work: str, template: Path, into: Path, kills: int, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 (moments, nothing secret)
    shutil.copytree(template, into / "unharmed")
    began = time.monotonic()
    assert not _kill_once(work, into / "unharmed", 60, watched=False)
    length = time.monotonic() - began
    killed = 0
    for number in range(1, kills + 1):
        folder = into / str(number)
        shutil.copytree(template, folder)
        killed += _kill_once(work, folder, chance.uniform(0, length), watched=number % 2 == 0)
    sys.stdout.write(str(killed))


if __name__ == "__main__":
    with a_power_loss_disk():  # its power stays on: nothing here waits for the store's syncs
        _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
