"""xdr-mcp as people run it: real processes, real sockets."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TOKEN = "simulator-token"
PATIENCE = 30.0
"""Seconds for a process to say what it is waited for; only a hang is ever that slow."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without any XDR_ setting of the developer's, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDR_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


def command(*arguments: str) -> list[str]:
    """The command line of xdr-mcp, by the interpreter that runs the tests."""
    return [sys.executable, "-m", "xdr_mcp", *arguments]


class Running:
    """A process whose output, both streams, is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """The first line from here on that matches; fails with all the output when the process ends before."""
        while True:
            try:
                line = self._queue.get(timeout=patience)
            except queue.Empty:
                raise AssertionError(f"no line like {pattern!r} in {''.join(self.lines)}") from None
            if line is None:
                raise AssertionError(f"it ended without a line like {pattern!r}: {''.join(self.lines)}")
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once, and let the thread that reads its output end too."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)


def finished(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """``xdr-mcp <arguments>`` in ``folder``, run to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@contextmanager
def running(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator[Running]:
    """``xdr-mcp <arguments>`` in ``folder``; killed at the end if it still runs."""
    with subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(**(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=stdin,
        text=True,
    ) as process:
        program = Running(process)
        try:
            yield program
        finally:
            program.kill()


@contextmanager
def simulated(*arguments: str, folder: Path) -> Iterator[str]:
    """The simulator as a process of its own; its base URL."""
    with running("simulate", "--port", "0", "--token", TOKEN, *arguments, folder=folder) as simulator:
        yield simulator.wait_for(r"(http://127\.0\.0\.1:\d+/\S*)")[1].rstrip("'\"")


def settings_for(url: str, folder: Path, **more: str) -> dict[str, str]:
    """The settings that poll the simulator at ``url`` every second into ``folder``."""
    return {
        "XDR_BASE_URL": url,
        "XDR_AUTH_TOKEN": TOKEN,
        "XDR_POLL_INTERVAL": "1",
        "XDR_REQUESTS_PER_MINUTE": "60000",
        "XDR_DATA_DIR": str(folder / "data"),
        "XDR_ALERTS_DIR": str(folder / "alerts"),
        **more,
    }
