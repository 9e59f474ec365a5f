"""The archive read back: the changes that its files tell, in the order they were saved.

What is no whole file of the archive is told by name with the reason, left where it is, and stops nothing. The order of a
million files is kept in a temporary file of SQLite's, not in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import Struct, structs

from xdr_mcp.alert import Alert, Change
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.sinks.archive import PREFIX, Provenance, file_name

STEP = 500
"""Files looked at, and changes read, at a time."""
BATCH_BYTES = 8 * 1024 * 1024
"""A batch ends early when its records have grown this large."""
LARGEST_FILE = 128 * 1024 * 1024
"""Several times what an answer of a vendor may hold; nothing larger was written by the archive."""
_COUNT = 2**63 - 1
_OURS = frozenset({"README.md"})

Tell = Callable[[str, str], None]
"""Told of each file that is left out: its path below the folder, and why."""


class _File(Struct, frozen=True):
    provenance: Provenance
    alert: Alert
    raw: msgspec.Raw


_decode = msgspec.json.Decoder(_File).decode


class NotArchived(XdrMcpError):
    """This is no whole file of the archive."""


class ArchivedChanges:
    """The changes of one archive. ``scan`` first, to its end; used by one thread at a time."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self._folder = folder
        self._tell = tell
        self._order = apsw.Connection("")
        self._order.execute(
            "PRAGMA cache_size = -32768;"
            "CREATE TABLE found (name TEXT PRIMARY KEY, path TEXT, seq INTEGER, saved TEXT) WITHOUT ROWID;"
            "CREATE TABLE files (seq INTEGER PRIMARY KEY, path TEXT)"
        )

    def scan(self) -> Iterator[int]:
        """Read every file once; how many so far, every so often and at the end."""
        number = 0
        self._order.execute("BEGIN")
        for number, path in enumerate(self._paths(), 1):
            self._note(path)
            if number % STEP == 0:
                yield number
        self._put_in_order()
        self._order.execute("COMMIT")
        yield number

    @property
    def count(self) -> int:
        """How many changes there are."""
        number: int = self._one("SELECT count(*) FROM files")
        return number

    def at(self, seq: int) -> Change | None:
        """The change of this seq."""
        path = self._one("SELECT path FROM files WHERE seq = ?", seq)
        return None if path is None else self._read(seq, path)

    def batches(self) -> Iterator[tuple[Change, ...]]:
        """All changes, in order, some at a time: their seqs ascend, and none is empty."""
        batch: list[Change] = []
        size = 0
        for seq, path in self._order.execute("SELECT seq, path FROM files ORDER BY seq"):
            change = self._read(seq, path)
            if change is not None:
                batch.append(change)
                size += len(change.raw)
            if len(batch) >= STEP or size >= BATCH_BYTES:
                yield tuple(batch)
                batch, size = [], 0
        if batch:
            yield tuple(batch)

    def close(self) -> None:
        """Let go of the temporary file."""
        self._order.close()

    # ---- finding

    def _paths(self) -> Iterator[str]:
        """Every regular file, as a path below the folder. Links are not followed: they lead out, or round in circles."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._folder / folder) as entries:
                    for entry in entries:
                        path = f"{folder}{entry.name}"
                        if entry.name.startswith(".") or path in _OURS:
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{path}/")
                        elif not entry.name.startswith(PREFIX):
                            self._tell(path, "is not named as the archive names its files")
                        elif not entry.is_file(follow_symlinks=False):
                            self._tell(path, "is no regular file")
                        else:
                            yield path
            except OSError as error:
                self._tell(folder or ".", f"cannot be read: {error.strerror or error}")

    def _note(self, path: str) -> None:
        try:
            change = read_file(self._folder / path)
            values = (Path(path).name, path, change.seq, change.saved.isoformat(timespec="microseconds"))
            self._order.execute("INSERT INTO found (name, path, seq, saved) VALUES (?, ?, ?, ?)", values)
        except NotArchived as error:
            self._tell(path, str(error))
        except apsw.ConstraintError:
            self._tell(path, "is a copy: the same file lies in another folder, too")

    def _put_in_order(self) -> None:
        """By seq. Where two stores fed one archive a seq may stand twice: then by time of saving, and all are numbered anew."""
        if self._one("SELECT count(*) = count(DISTINCT seq) FROM found"):
            self._order.execute("INSERT INTO files (seq, path) SELECT seq, path FROM found")
        else:
            self._order.execute("INSERT INTO files (path) SELECT path FROM found ORDER BY saved, seq, name")
        self._order.execute("DELETE FROM found")

    # ---- reading

    def _read(self, seq: int, path: str) -> Change | None:
        try:
            return structs.replace(read_file(self._folder / path), seq=seq)
        except NotArchived as error:  # it was whole when it was looked at first
            self._tell(path, str(error))
            return None

    def _one(self, query: str, *values: int) -> Any:
        return self._order.execute(query, values).get


def read_file(path: Path) -> Change:
    """The change that a file tells; ``before`` is not in it.

    Raises:
        NotArchived: it was cut short, changed, renamed, or never was a file of the archive; or it cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise NotArchived("is larger than any file of the archive")
        content = path.read_bytes()
    except OSError as error:
        raise NotArchived(f"cannot be read: {error.strerror or error}") from error
    try:
        file = _decode(content)
        change = _change(file)
        _check(change)
        name = file_name(change)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise NotArchived(f"was cut short or changed: {error}") from error
    if file.provenance.source != file.alert.source:
        raise NotArchived("contradicts itself: its alert is of another source than its provenance")
    if name != path.name:
        raise NotArchived(f"was renamed or changed: its content belongs into {name}")
    return change


def _change(file: _File) -> Change:
    provenance = file.provenance
    return Change(
        seq=provenance.seq,
        kind=provenance.change,
        revision=provenance.revision,
        alert=file.alert,
        before=None,
        raw=bytes(file.raw),
        fetched=provenance.fetched_at.astimezone(UTC),
        saved=provenance.saved_at.astimezone(UTC),
    )


def _check(change: Change) -> None:
    """Raise OverflowError for what no store ever kept."""
    if change.alert.count > _COUNT:
        raise OverflowError(f"count {change.alert.count} is out of range")
