"""A disk under SQLite that fails when a test says so, and tells of each write and sync before it is done."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw


class FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._vfs = vfs

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 (SQLite's name)
        self._vfs.before("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802 (SQLite's name)
        self._vfs.before("sync")  # the power stays on, so nothing need wait for the disk itself

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 (SQLite's name)
        self._vfs.before("truncate")
        super().xTruncate(newsize)


class FaultyDisk(apsw.VFS):
    """A disk that calls ``before`` ahead of each change to it and each sync; what that raises is what the disk reports."""

    def __init__(self) -> None:
        self.before: Callable[[str], None] = lambda _: None
        self.opened = 0
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> FaultyFile:  # noqa: N802 (SQLite's name)
        self.opened += 1
        return FaultyFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 (SQLite's own signature)
        self.before("delete")
        super().xDelete(filename, syncdir)


class FailOnce:
    """Fails the call of a given number, among the calls of one kind."""

    def __init__(self, kind: str, number: int, failure: type[apsw.Error]) -> None:
        self.kind = kind
        self.left = number
        self.failure = failure

    def __call__(self, kind: str) -> None:
        if kind == self.kind:
            self.left -= 1
            if self.left == 0:
                raise self.failure

    @property
    def happened(self) -> bool:
        return self.left <= 0


class Snapshots:
    """What a kill would leave behind, ahead of every change to the disk and every sync, or of every so many."""

    def __init__(self, folder: Path, into: Path, *, every: int = 1) -> None:
        self._folder = folder
        self._into = into
        self._every = every
        self.calls = 0
        self.taken: list[Path] = []

    def __call__(self, _kind: str) -> None:
        self.calls += 1
        if self.calls % self._every:
            return
        copy = self._into / str(len(self.taken))
        # another process copies: closing a file of this process's own would drop SQLite's locks on it
        subprocess.run(["cp", "-r", str(self._folder), str(copy)], check=True)  # noqa: S607
        (copy / "store.db-shm").unlink(missing_ok=True)
        self.taken.append(copy / "store.db")


@contextmanager
def a_faulty_disk() -> Generator[FaultyDisk, None, None]:
    """In place while the block runs."""
    made = FaultyDisk()
    try:
        yield made
    finally:
        made.unregister()
