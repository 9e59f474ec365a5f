"""The operating system's edge, for the tests of what writes files: every call that changes a folder is counted, and any of
them can be made to fail or to be the last thing the process does.

Nothing of ours is replaced, only what Python offers to reach the disk. Writes are short (half of what was asked), as a
system may make them. Nothing is really synced; instead it is kept what a power loss could still take.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from msgspec import Struct

Before = Callable[[int, str], None]
"""Runs ahead of a call with its number, from 1, and its name; what it raises is what the call raises."""


class Unsynced(Struct):
    """What a power loss may take, oldest first."""

    content: list[str] = []
    """Files written to since they were last synced."""
    names: list[tuple[str, str]] = []
    """Names made since their folder was last synced, with the name that a file had before, or none."""


class DiskEdge:
    """Counts the calls that change what is below ``folder``."""

    def __init__(
        self, folder: Path, before: Before = lambda _number, _name: None, unsynced: Unsynced | None = None
    ) -> None:
        """``unsynced`` is what an earlier process left so."""
        self.calls: list[str] = []
        self.unsynced = unsynced or Unsynced()
        self._folder = str(folder)
        self._before = before
        self._open: dict[int, str] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Stand between Python and the system while the block runs."""
        with (
            patch.multiple(
                os,
                open=self._opening(os.open),
                write=self._writing(os.write),
                fsync=self._syncing(os.fsync),
                mkdir=self._changing(os.mkdir, "mkdir", self._named),
                unlink=self._changing(os.unlink, "unlink", self._unlinked),
                rename=self._renaming(os.rename),
            ),
            patch.object(ctypes, "CDLL", self._libraries(ctypes.CDLL)),
        ):
            yield

    def call(self, name: str) -> None:
        """One call is about to be made."""
        self.calls.append(name)
        self._before(len(self.calls), name)

    # ---- the calls

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if not self._ours(path):
                descriptor = real(path, flags, *more, **named)
                self._open.pop(descriptor, None)  # one of ours had this number, and was closed
                return descriptor
            name = str(path)
            new = bool(flags & os.O_CREAT) and not Path(name).exists()
            if flags & os.O_CREAT:
                self.call("open")
            descriptor = real(path, flags, *more, **named)
            self._open[descriptor] = name
            if new:
                self._named(name)
            return descriptor

        return opened

    def _writing(self, real: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        """The system takes half of what it is given, down to a few bytes."""

        def written(descriptor: int, data: Any) -> int:
            path = self._open.get(descriptor)
            if path is None:
                return real(descriptor, data)
            self.call("write")
            if path not in self.unsynced.content:
                self.unsynced.content.append(path)
            content = bytes(data)
            return real(descriptor, content[: len(content) // 2] if len(content) > 256 else content)

        return written

    def _syncing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def synced(descriptor: int) -> None:
            path = self._open.get(descriptor)
            if path is None:
                real(descriptor)
                return
            self.call("fsync")
            if path in self.unsynced.content:
                self.unsynced.content.remove(path)
            self.unsynced.names = [pair for pair in self.unsynced.names if str(Path(pair[0]).parent) != path]

        return synced

    def _libraries(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The C library, of which only syncfs is asked for."""

        def syncfs(_descriptor: int) -> int:
            try:
                self.call("syncfs")
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
                return -1
            self.unsynced = Unsynced()
            return 0

        return lambda name, **named: real(name, **named) if name else SimpleNamespace(syncfs=syncfs)

    def _changing(self, real: Callable[..., None], name: str, then: Callable[[str], None]) -> Callable[..., None]:
        def changed(path: Any, *more: Any, **named: Any) -> None:
            if self._ours(path):
                self.call(name)
            real(path, *more, **named)
            if self._ours(path):
                then(str(path))

        return changed

    def _renaming(self, real: Callable[..., None]) -> Callable[..., None]:
        def renamed(old: Any, new: Any) -> None:
            if not self._ours(new):
                real(old, new)
                return
            self.call("rename")
            real(old, new)
            self.unsynced.content = [str(new) if path == str(old) else path for path in self.unsynced.content]
            self.unsynced.names = [pair for pair in self.unsynced.names if pair[0] != str(old)]
            self.unsynced.names.append((str(new), str(old)))

        return renamed

    def _ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and str(path).startswith(self._folder)

    def _named(self, path: str) -> None:
        self.unsynced.names.append((path, ""))

    def _unlinked(self, path: str) -> None:
        self.unsynced.content = [each for each in self.unsynced.content if each != path]
        self.unsynced.names = [pair for pair in self.unsynced.names if pair[0] != path]


def lose_power(unsynced: Unsynced, lost: Callable[[], bool]) -> None:
    """Take from the disk what was not synced, where ``lost`` says so."""
    for name in unsynced.content:
        path = Path(name)
        if path.exists() and lost():
            os.truncate(path, path.stat().st_size // 2)
    for name, before in reversed(unsynced.names):
        if not lost():
            continue
        path = Path(name)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists() and before and Path(before).parent.is_dir():
            path.rename(before)
        else:
            with suppress(FileNotFoundError):
                path.unlink()
