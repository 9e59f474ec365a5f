"""A disk that loses what was not synced: SQLite writes through it, and any moment of that can be made into files again.

Each write, truncation, sync, creation and deletion is journalled. What a power loss leaves of a moment is everything up to
a file's last sync and, of what came after, any subset, some of it torn at a sector; names come and go in order, until the
folder is synced. What a disk never does (losing what it said it had synced) is not done here either.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import apsw
from msgspec import Struct

SECTOR = 512
TORN = 0.1
"""How many of the writes that survive are torn."""


class Event(Struct, frozen=True):
    """Something done to one file. A number stands for a file from its making to its deletion."""

    kind: str
    file: int
    offset: int = 0
    data: bytes = b""


class PowerLossDisk(apsw.VFS):
    """The default VFS of SQLite while it is in place. Journals what is done below ``folder``, while there is one."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.events: list[Event] = []
        self.names: list[str] = []
        """The path of each file, by number."""
        self.before: dict[int, bytes] = {}
        """What files held that were there before the journal began."""
        self._numbers: dict[str, int] = {}
        super().__init__("power-loss", "unix", makedefault=True)

    def journal(self, folder: Path) -> None:
        """Begin: what lies in the folder is on the disk for good."""
        self.folder = folder
        for path in folder.iterdir():
            self.before[self._number_of(str(path))] = path.read_bytes()

    def add(self, kind: str, file: int | None, offset: int = 0, data: bytes = b"") -> None:
        if file is not None and self.folder is not None:
            self.events.append(Event(kind, file, offset, data))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> JournalledFile:  # noqa: N802 (SQLite's name)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        number = None
        if path is not None and self.folder is not None and path.startswith(f"{self.folder}/"):
            known = path in self._numbers
            number = self._number_of(path)
            if not known:
                self.add("create", number)
        return JournalledFile(self, number, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 (SQLite's own signature)
        super().xDelete(filename, syncdir)
        number = self._numbers.pop(filename, None)
        self.add("delete", number)
        if syncdir:
            self.add("sync names", number)

    def _number_of(self, path: str) -> int:
        if path not in self._numbers:
            self._numbers[path] = len(self.names)
            self.names.append(path)
        return self._numbers[path]

    # ---- what is left

    def leave(self, events: Sequence[Event], into: Path, chance: Random) -> None:
        """Make the files that a power loss after ``events`` may leave."""
        here = set(self.before)
        for event in self._surviving_names(events, chance):
            (here.add if event.kind == "create" else here.discard)(event.file)
        for number in sorted(here):
            content = bytearray(self.before.get(number, b""))
            for event in _surviving_writes([event for event in events if event.file == number], chance):
                _apply(event, content)
            (into / Path(self.names[number]).name).write_bytes(content)

    def _surviving_names(self, events: Sequence[Event], chance: Random) -> list[Event]:
        changes, certain, new = [], 0, set()
        for event in events:
            if event.kind in {"create", "delete"}:
                changes.append(event)
                new.add(event.file)
            # the first sync of a write-ahead log syncs its folder as well (os_unix.c, UNIXFILE_DIRSYNC)
            if event.kind == "sync names" or (event.kind == "sync" and event.file in new):
                certain = len(changes)
                new.clear()
        return changes[: chance.randint(certain, len(changes))]


class JournalledFile(apsw.VFSFile):
    """A file whose syncs are only noted: a test that takes the power away itself need not wait for the disk."""

    def __init__(
        self, disk: PowerLossDisk, number: int | None, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._number = number

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 (SQLite's name)
        super().xWrite(data, offset)
        self._disk.add("write", self._number, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 (SQLite's name)
        super().xTruncate(newsize)
        self._disk.add("truncate", self._number, newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802 (SQLite's name)
        self._disk.add("sync", self._number)


def _surviving_writes(events: Sequence[Event], chance: Random) -> list[Event]:
    """All until the last sync; of the rest some, and some of those torn."""
    synced = max((number for number, event in enumerate(events, 1) if event.kind == "sync"), default=0)
    share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    rest = [_torn(event, chance) for event in events[synced:] if chance.random() < share]
    return [*events[:synced], *rest]


def _torn(event: Event, chance: Random) -> Event:
    if event.kind != "write" or len(event.data) <= SECTOR or chance.random() >= TORN:
        return event
    start, end = sorted(chance.randint(0, len(event.data) // SECTOR) * SECTOR for _ in range(2))
    return Event("write", event.file, event.offset + start, event.data[start:end])


def _apply(event: Event, content: bytearray) -> None:
    if event.kind == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
    elif event.kind == "write" and event.data:
        content.extend(bytes(max(0, event.offset - len(content))))
        content[event.offset : event.offset + len(event.data)] = event.data


@contextmanager
def a_power_loss_disk() -> Generator[PowerLossDisk, None, None]:
    """In place while the block runs."""
    disk = PowerLossDisk()
    try:
        yield disk
    finally:
        disk.unregister()
