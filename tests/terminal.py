"""A command at a terminal of its own, and somebody who reads what it says and types."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from program import PATIENCE, command, environment

_AT_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The person's end."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.shown = ""
        self._bytes = b""
        self._descriptor = descriptor
        self._seen = 0

    async def reads(self, pattern: str) -> re.Match[str]:
        """Read until something matches that was not matched before."""
        with anyio.fail_after(PATIENCE):
            while not (found := re.compile(pattern).search(self.shown, self._seen)):
                assert await self._read(), f"it ended without {pattern!r}:\n{self.shown}"
        self._seen = found.end()
        return found

    def types(self, line: str) -> None:
        os.write(self._descriptor, line.encode() + b"\n")

    async def approves(self) -> None:
        """Type the number that is asked for."""
        self.types((await self.reads(r"To approve, type (\d{4}): "))[1])

    async def ended(self) -> int:
        """Read to the end; the exit code."""
        with anyio.fail_after(PATIENCE):
            while await self._read():
                pass
            return await anyio.to_thread.run_sync(self.process.wait)

    async def _read(self) -> bool:
        """Take what was written next; False when nobody can write any more."""
        await anyio.wait_readable(self._descriptor)
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self._bytes += data  # a read may end within a character, or between \r and \n
        self.shown = self._bytes.decode(errors="ignore").replace("\r\n", "\n").removesuffix("\r")
        return bool(data)


@contextmanager
def at_a_terminal(*arguments: str, folder: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """``xdr-mcp <arguments>`` with a controlling terminal; killed at the end if it still runs."""
    ours, its = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AT_THE_TERMINAL, *command(*arguments)],
        cwd=folder,
        env=environment(**env, TERM="dumb", COLUMNS="200"),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)
