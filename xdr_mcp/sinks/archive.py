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
from typing import Any

import anyio.to_thread
import msgspec

from xdr_mcp.alert import Change
from xdr_mcp.errors import ChangeRefused, SinkError

log = logging.getLogger(__name__)

FLAT_LIMIT = 10_000
"""Up to this many files lie directly in the folder; later ones go to ``<day>/<hour>/`` folders, by updated time (UTC)."""
WRITING = ".writing"
"""The folder, inside the archive's, where files lie until they are whole."""

_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_NO_MARKS = str.maketrans("", "", "-:")
_FOUR_DIGITS = 1_000
_BINARY = getattr(os, "O_BINARY", 0)
"""Windows would turn line ends into its own."""


class Archive:
    """The sink that writes the files. One process at a time may feed a folder (delivery's lease sees to it)."""

    name = "archive"

    def __init__(self, folder: Path, *, version: str, flat_limit: int = FLAT_LIMIT) -> None:
        self._folder = folder
        self._root = str(folder)
        self._version = version
        self._flat_limit = flat_limit
        self._flat: int | None = None
        self._own = secrets.token_hex(6)
        """What its temporary files are called: a process that was frozen, and taken for dead, must not meet them."""
        self._encode = msgspec.json.Encoder().encode

    async def send(self, changes: Sequence[Change]) -> None:
        """Write what is not there yet.

        Raises:
            ChangeRefused: one of them is of a time that no file name can tell.
            SinkError: the folder cannot be written; the message names the remedy.
        """
        await anyio.to_thread.run_sync(self._write, tuple(changes))

    def _write(self, changes: tuple[Change, ...]) -> None:
        try:
            if self._flat is None:
                self._flat = self._prepare()
            self._write_batch(changes)
        except OverflowError as error:
            self._flat = None
            raise ChangeRefused(f"no file name can tell when it was updated: {error}") from error
        except OSError as error:
            self._flat = None
            raise SinkError(
                f"cannot write alerts to {self._folder}: {error.strerror or error}; "
                "free disk space, or point XDR_ALERTS_DIR at a folder that can be written"
            ) from error

    def _prepare(self) -> int:
        """Make the folder, remove what a killed writer left, and count the files that lie flat."""
        writing = self._folder / WRITING
        _make_folder(writing)
        for leftover in writing.iterdir():
            leftover.unlink(missing_ok=True)
        with os.scandir(self._folder) as entries:
            return sum(entry.name.startswith("alert_") for entry in entries)

    def _place(self, change: Change) -> tuple[str, bool]:
        """Where this revision's file is, or is to be, and whether it is there. A new one is counted: flat while there is room."""
        name = file_name(change)
        flat = f"{self._root}/{name}"
        if os.path.exists(flat):  # noqa: PTH110 (an object a path costs more than the system's answer; thousands of files a minute)
            return flat, True
        day_and_hour = _iso(change.alert.updated)[:13].replace("T", "/")
        hour = f"{self._root}/{day_and_hour}/{name}"
        if os.path.exists(hour):  # noqa: PTH110 (as above)
            return hour, True
        if (self._flat or 0) >= self._flat_limit:
            return hour, False
        self._flat = (self._flat or 0) + 1
        return flat, False

    def _write_batch(self, changes: Sequence[Change]) -> None:
        """Write what is not there: content first, one flush, then the names, then a flush of the folders that hold them."""
        written: list[tuple[str, str, Change]] = []
        folders: set[str] = set()
        try:
            for number, change in enumerate(changes):
                path, there = self._place(change)
                folder = path.rpartition("/")[0]
                if folder not in folders:
                    _make_folder(Path(folder))
                    folders.add(folder)
                if not there:
                    temporary = f"{self._root}/{WRITING}/{self._own}-{number}"
                    written.append((temporary, path, change))
                    _write_new(temporary, self._content(change))
            _flush([temporary for temporary, _, _ in written])
            while written:
                temporary, path, change = written[-1]
                os.rename(temporary, path)  # noqa: PTH104 (as above)
                written.pop()
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("wrote %s: %s", path.rpartition("/")[2], _summary(change))
        finally:
            for temporary, _, _ in written:
                Path(temporary).unlink(missing_ok=True)
        # those above too: one may have been made by a process that was killed before it flushed what names it
        _flush_folders({above for folder in folders for above in self._with_those_above(Path(folder))})

    def _with_those_above(self, folder: Path) -> Sequence[Path]:
        """A folder, and those that it lies in, up to the archive's."""
        above = [folder, *folder.parents]
        return above[: above.index(self._folder) + 1]

    def _content(self, change: Change) -> bytes:
        """Three members, a line each; the vendor's record stands as the bytes it came in."""
        provenance: dict[str, Any] = {
            "source": change.alert.source,
            "revision": change.revision,
            "change": change.kind,
            "seq": change.seq,
            "fetched_at": change.fetched,
            "saved_at": change.saved,
            "written_by": f"xdr-mcp {self._version}",
        }
        return b'{"provenance":%b,\n"alert":%b,\n"raw":%b}\n' % (
            self._encode(provenance),
            self._encode(change.alert),
            change.raw,
        )


def _summary(change: Change) -> str:
    alert = change.alert
    return f"{change.kind} {alert.severity} {alert.status} {alert.id} {alert.title}"


def file_name(change: Change) -> str:
    """``alert_{id}_{timestamp}.json``: the id as a safe slug and a hash, the time the vendor updated it, UTC.

    A second revision with the vendor's time unchanged must not meet the first: from the second on, ``-r2`` follows.
    """
    alert = change.alert
    slug = _UNSAFE.sub("-", alert.vendor_id.lower())[:48].strip("-")
    digest = blake2b(alert.id.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    revision = "" if change.revision == 1 else f"-r{change.revision}"
    return f"alert_{slug or 'id'}-{digest}_{_stamp(alert.updated)}{revision}.json"


def _stamp(moment: datetime) -> str:
    if moment.year < _FOUR_DIGITS:  # which systems write with fewer, and so it has been named
        return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return _iso(moment)[:26].translate(_NO_MARKS) + "Z"


def _iso(moment: datetime) -> str:
    """``2026-11-25T19:30:00.000000``, UTC. OverflowError for a time that UTC has not."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


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


def _flush(paths: Sequence[str]) -> None:
    """Bring the files' content to the disk: one call for the whole file system where the kernel has it, else file by file."""
    sync_file_system = _syncfs() if len(paths) > 1 else None
    if sync_file_system is not None:
        _with_descriptor(paths[0], sync_file_system)
        return
    for path in paths:
        _with_descriptor(path, os.fsync)


def _flush_folders(folders: set[Path]) -> None:
    if sys.platform != "win32":  # a folder cannot be opened there, and NTFS journals names itself
        for folder in folders:
            _with_descriptor(folder, os.fsync)


def _with_descriptor(path: Path | str, act: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
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
