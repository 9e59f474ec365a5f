"""``alerts/``: one JSON file for each revision of an alert, whole or absent.

A batch is written under temporary names, flushed to disk once, and only then given its names; a kill at any instant leaves
whole files and leftovers that the next start removes. Names never contain the vendor's id as it came: ids are hostile.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from msgspec import Meta, Struct, json

from xdr_mcp.alert import Alert, Change, ChangeKind, KeptChange
from xdr_mcp.errors import ChangeRefused, SinkError

log = logging.getLogger(__name__)

FLAT_LIMIT = 10_000
"""Up to this many files lie directly in the folder; later ones go to ``<day>/<hour>/`` folders, by updated time (UTC)."""
WRITING = ".writing"
"""The folder, inside the archive's, where files lie until they are whole."""

PREFIX = "alert_"
"""What the name of each of the archive's files begins with."""
LARGEST_SEQ = 2**53
"""A file that claims more is not believed: a seq is never used again, and the store must not run out of them."""

Moment = Annotated[datetime, Meta(tz=True)]

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_FEW = 3
"""So many are flushed one by one (an hour's folder and those above it are three): the whole file system may hold much of others'."""
_FOUR_DIGITS = 1_000
_BINARY = getattr(os, "O_BINARY", 0)
"""Windows would turn line ends into its own."""
_FLUSHING = os.O_RDWR | _BINARY if sys.platform == "win32" else os.O_RDONLY
"""Windows flushes only what may be written; elsewhere a folder can only be opened for reading."""


class Provenance(Struct, frozen=True, gc=False):
    """What is told of where an alert came from."""

    source: str
    revision: Annotated[int, Meta(ge=1, le=LARGEST_SEQ)]
    change: ChangeKind
    seq: Annotated[int, Meta(ge=1, le=LARGEST_SEQ)]
    fetched_at: Moment
    saved_at: Moment


class _Signed(Provenance, frozen=True, gc=False):
    """The same as it is written."""

    written_by: str


class _Named(Struct, frozen=True, gc=False):
    """What of an alert its file's name and provenance tell."""

    source: str
    vendor_id: str
    id: str
    updated: datetime


_encode = json.Encoder().encode
_named = json.Decoder(_Named).decode


class Archive:
    """The sink that writes the files. One process at a time may feed a folder (delivery's lease sees to it)."""

    name = "archive"

    def __init__(self, folder: Path, *, version: str, flat_limit: int = FLAT_LIMIT) -> None:
        self._folder = folder
        self._root = f"{folder}/"
        self._signature = f"xdr-mcp {version}"
        self._flat_limit = flat_limit
        self._ready = False
        """The folder is made, and what a killed writer left is removed."""
        self._flat: set[str] | None = None
        """The names of the files that lie directly in the folder; None when it must be looked at first."""
        self._by_hour = False
        """Files may lie in other folders, too."""
        self._own = secrets.token_hex(6)
        """What its temporary files are called: a process that was frozen, and taken for dead, must not meet them."""

    def begin(self) -> None:
        """Look at the folder again before anything is written."""
        self._flat = None

    async def send(self, changes: Sequence[KeptChange]) -> None:
        """Write what is not there yet.

        Raises:
            ChangeRefused: one of them is of a time that no file name can tell.
            SinkError: the folder cannot be written; the message names the remedy.
        """
        await anyio.to_thread.run_sync(self._write, changes)

    def _write(self, changes: Sequence[KeptChange]) -> None:
        ready, flat = self._ready, self._flat
        self._ready, self._flat = False, None  # after a failure the folder is made, and looked at, again
        try:
            if not ready:
                self._prepare()
            if flat is None:
                flat = self._look()
            self._write_batch(changes, flat)
        except OverflowError as error:
            raise ChangeRefused(f"no file name can tell when it was updated: {error}") from error
        except OSError as error:
            raise SinkError(
                f"cannot write alerts to {self._folder}: {error.strerror or error}; "
                "free disk space, or point XDR_ALERTS_DIR at a folder that can be written"
            ) from error
        self._ready, self._flat = True, flat

    def _prepare(self) -> None:
        """Make the folder, and remove what a killed writer left."""
        writing = self._folder / WRITING
        _make_folder(writing)
        for leftover in writing.iterdir():
            leftover.unlink(missing_ok=True)

    def _look(self) -> set[str]:
        """The names of the files that lie flat."""
        with os.scandir(self._folder) as entries:
            names = {entry.name for entry in entries}
        self._by_hour = any(map(_DAY.fullmatch, names))
        return {name for name in names if name.startswith(PREFIX)}

    def _place(self, name: str, updated: datetime, flat: set[str]) -> tuple[str, bool]:
        """The folder, below the archive's, of a revision's file, and whether it is there. A new one lies flat while there is room."""
        if name in flat:
            return "", True
        if not self._by_hour and len(flat) < self._flat_limit:
            flat.add(name)
            return "", False
        hour = f"{updated.astimezone(UTC).isoformat()[:13].replace('T', '/')}/"
        if os.path.exists(f"{self._root}{hour}{name}"):  # noqa: PTH110 (an object a path costs more than the system's answer; thousands of files a minute)
            return hour, True
        if len(flat) < self._flat_limit:
            flat.add(name)
            return "", False
        self._by_hour = True
        return hour, False

    def _write_batch(self, changes: Sequence[KeptChange], flat: set[str]) -> None:
        """Write what is not there: content first, one flush, then the names, then a flush of the folders that hold them."""
        written: list[tuple[str, str, KeptChange]] = []
        folders: set[str] = set()
        named = 0
        try:
            for change in changes:
                alert = _named(change.body)
                name = _file_name(alert, change.revision)
                folder, there = self._place(name, alert.updated, flat)
                if folder not in folders:
                    _make_folder(Path(self._root, folder))
                    folders.add(folder)
                if not there:
                    temporary = f"{self._root}{WRITING}/{self._own}-{len(written)}"
                    written.append((temporary, f"{self._root}{folder}{name}", change))
                    _write_new(temporary, self._content(change, alert.source))
            _flush([temporary for temporary, _, _ in written])
            told = log.isEnabledFor(logging.DEBUG)
            for temporary, path, change in written:
                os.rename(temporary, path)  # noqa: PTH104 (as above)
                named += 1
                if told:
                    log.debug("wrote %s: %s", path.rpartition("/")[2], _summary(change))
        finally:
            for temporary, _, _ in written[named:]:
                Path(temporary).unlink(missing_ok=True)
        # those above too: one may have been made by a process that was killed before it flushed what names it
        _flush_folders({above for folder in folders for above in self._with_those_above(Path(self._root, folder))})

    def _with_those_above(self, folder: Path) -> Sequence[Path]:
        """A folder, and those that it lies in, up to the archive's."""
        above = [folder, *folder.parents]
        return above[: above.index(self._folder) + 1]

    def _content(self, change: KeptChange, source: str) -> bytes:
        """Three members, a line each; the alert stands as the bytes it is kept as, the vendor's record as those it came in."""
        provenance = _Signed(
            source, change.revision, change.kind, change.seq, change.fetched, change.saved, self._signature
        )
        return b'{"provenance":%b,\n"alert":%b,\n"raw":%b}\n' % (_encode(provenance), change.body, change.raw)


def _summary(change: KeptChange) -> str:
    alert = change.alert
    return f"{change.kind} {alert.severity} {alert.status} {alert.id} {alert.title}"


def file_name(change: Change | KeptChange) -> str:
    """``alert_{id}_{timestamp}.json``: the id as a safe slug and a hash, the time the vendor updated it, UTC.

    A second revision with the vendor's time unchanged must not meet the first: from the second on, ``-r2`` follows.
    """
    return _file_name(change.alert, change.revision)


def _file_name(alert: Alert | _Named, number: int) -> str:
    slug = _UNSAFE.sub("-", alert.vendor_id.lower())[:48].strip("-")
    digest = blake2b(alert.id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    revision = "" if number == 1 else f"-r{number}"
    return f"{PREFIX}{slug or 'id'}-{digest}_{_stamp(alert.updated)}{revision}.json"


def _stamp(moment: datetime) -> str:
    """``20261125T193000.000000Z``. OverflowError for a time that UTC has not."""
    at = moment.astimezone(UTC)
    if moment.year < _FOUR_DIGITS:  # which systems write with fewer, and so it has been named
        return at.strftime("%Y%m%dT%H%M%S.%fZ")
    parts = at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond
    return "%04d%02d%02dT%02d%02d%02d.%06dZ" % parts  # noqa: UP031 (half the time of an f-string, or of isoformat)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, and flush each folder that now names a new one."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _flush_folders({folder.parent})


def _write_new(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _flush(paths: Sequence[Path | str]) -> None:
    """Bring the content of files and folders to the disk: one call for the whole file system where they are many and the kernel has it."""
    sync_file_system = _syncfs() if len(paths) > _FEW else None
    if sync_file_system is not None:
        _with_descriptor(paths[0], sync_file_system)
        return
    for path in paths:
        _with_descriptor(path, os.fsync)


def _flush_folders(folders: set[Path]) -> None:
    if sys.platform != "win32":  # a folder cannot be opened there, and NTFS journals names itself
        _flush(list(folders))


def _with_descriptor(path: Path | str, act: Callable[[int], None]) -> None:
    descriptor = os.open(path, _FLUSHING)
    try:
        act(descriptor)
    finally:
        os.close(descriptor)


def _syncfs() -> Callable[[int], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None

    def sync(descriptor: int) -> None:
        if function(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return sync
