"""Opening the database file: private, of a fixed SQLite, in WAL mode, migrated; and telling what went wrong with it.

The file is never opened by anything but SQLite: closing any other descriptor of it would drop this process's POSIX locks.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import apsw

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.store.sqlite.postings import posted
from xdr_mcp.store.sqlite.revisions import alert_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

APPLICATION_ID = 0x58445231
PAGE_SIZE = 16_384
CHECKPOINT_AT = 1_000
"""Pages in the WAL from which it is copied back after a commit, as far as readers allow."""
PATIENCE = 30.0
"""Seconds to wait for another process's lock."""
_FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""Where the WAL-reset bug is fixed: the first of each line. Before, two processes that write can lose what was committed."""

_REMEDIES: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.NotADBError, "is not a database of xdr-mcp. Name another file, or move this one away"),
    (
        apsw.CorruptError,
        (
            "is damaged. Stop every xdr-mcp process, move the file and its -wal and -shm away, and restore a copy; "
            "or start without one, and history is read again from the vendors"
        ),
    ),
    (apsw.FullError, "cannot grow: the disk is full. Free some space; nothing that was saved is lost"),
    (apsw.ReadOnlyError, "cannot be written. Give its file and its folder to the user who runs xdr-mcp"),
    (apsw.PermissionsError, "cannot be written. Give its file and its folder to the user who runs xdr-mcp"),
    (apsw.CantOpenError, "cannot be opened. Check that its folder exists and belongs to the user who runs xdr-mcp"),
    (apsw.IOError, "cannot be read or written: the disk reports an error. Check the disk and the system's log"),
    (
        apsw.BusyError,
        (
            f"was kept locked by another process for {PATIENCE:.0f} seconds. After an upgrade, that one may be bringing it "
            "up to date, which its log tells and which takes a minute for a million alerts: start again then. "
            "Otherwise find out which one hangs (`fuser` tells who has the file open) and stop it"
        ),
    ),
)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what an operator can mend into StoreUnusable. Anything else is a defect of ours and passes as it is."""
    try:
        yield
    except apsw.Error as error:
        for kind, remedy in _REMEDIES:
            if isinstance(error, kind):
                raise StoreUnusable(f"The store {path} {remedy}. ({error})") from error
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreUnusable(
            f"The store {path} cannot be opened: {reason}. Choose a folder that can be written"
        ) from error


@cache
def migrations() -> tuple[str, ...]:
    """The numbered scripts, in order; read from the package once."""
    folder = files("xdr_mcp.store.sqlite") / "migrations"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(script.read_text(encoding="utf-8") for script in scripts)


def open_writer(path: Path, scripts: Sequence[str]) -> apsw.Connection:
    """The connection that writes, on a file made private and brought up to date.

    Raises:
        StoreUnusable: it cannot be used; the message says why and what to do.
    """
    refuse_sqlite(apsw.sqlite_lib_version())
    with explained(path):
        _make_private(path)
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        try:
            _settle(connection)
            _refuse_stranger(connection, path)
            _migrate(connection, path, scripts)
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(path: Path, *, patience: float = PATIENCE) -> apsw.Connection:
    """A connection that only reads, and leaves checkpoints to the writer. Call it in ``explained``."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    _plan_once(connection)
    connection.set_busy_timeout(int(patience * 1_000))
    for pragma in ("query_only = ON", "wal_autocheckpoint = 0", "temp_store = MEMORY", "cache_size = -8000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def refuse_upgraded(connection: apsw.Connection, path: Path, known: int) -> None:
    """Raise StoreUnusable when the file is not of the ``known`` format: a newer program may have migrated it under us."""
    if connection.pragma("user_version") != known:
        raise StoreUnusable(f"The store {path} was upgraded by a newer xdr-mcp. Restart this one, upgraded")


def refuse_sqlite(version: str) -> None:
    """Raise StoreUnusable when this SQLite can lose what was committed (sqlite.org/wal.html, the WAL-reset bug)."""
    number = tuple(int(part) for part in version.split(".")[:3])
    line = number[:2]
    if number >= _FIXED[-1] or any(line == fixed[:2] and number >= fixed for fixed in _FIXED):
        return
    raise StoreUnusable(
        f"SQLite {version} can lose saved alerts when several processes share the store. "
        "Install a newer apsw: python -m pip install --upgrade apsw"
    )


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):  # exclusive: a descriptor of a file that SQLite has open must never be closed
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for suffix in ("", "-wal", "-shm"):  # SQLite gives the companions the mode of the database
        companion = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            if companion.stat().st_mode & 0o077:
                companion.chmod(0o600)


def _plan_once(connection: apsw.Connection) -> None:
    """Have statements planned without looking at what is bound: else they are planned again for other values, each time."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _settle(connection: apsw.Connection) -> None:
    _plan_once(connection)
    connection.set_busy_timeout(int(PATIENCE * 1_000))
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    # FULL: a sink's position or a coverage must not outlive, in a power loss, the alerts that it speaks of
    for pragma in ("synchronous = FULL", "wal_autocheckpoint = 0", "temp_store = MEMORY", "cache_size = -16000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_AT * PAGE_SIZE}")  # one that had to grow is cut again


def _patiently(step: Callable[[], object]) -> None:
    """Changing the journal mode does not wait for a lock by itself."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            step()
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _refuse_stranger(connection: apsw.Connection, path: Path) -> None:
    owner = connection.pragma("application_id")
    if owner == APPLICATION_ID or (owner == 0 and connection.execute("SELECT count(*) FROM sqlite_master").get == 0):
        return
    raise StoreUnusable(f"The store {path} is the database of another program. Name another file")


def _migrate(connection: apsw.Connection, path: Path, scripts: Sequence[str]) -> None:
    version = connection.pragma("user_version")
    if version == len(scripts):
        return
    if version > len(scripts):
        raise StoreUnusable(
            f"The store {path} was written by a newer xdr-mcp (its format is {version}, this program knows "
            f"{len(scripts)}). Upgrade xdr-mcp, or name another file"
        )
    connection.create_scalar_function("posted", _posted_column, 2, deterministic=True)
    with _told(path, version, len(scripts)):
        _apply(connection, scripts)


@contextmanager
def _told(path: Path, version: int, newest: int) -> Iterator[None]:
    """Say what a start waits for. A store that is new has nothing to wait for."""
    if version == 0:
        yield
        return
    log.warning(
        "bringing the store %s up to date, format %d to %d; a million alerts take half a minute or more, and other processes wait",
        *(path, version, newest),
    )
    begun = time.monotonic()
    yield
    log.info("the store %s is up to date after %.1f seconds", path, time.monotonic() - begun)


def _apply(connection: apsw.Connection, scripts: Sequence[str]) -> None:
    """Apply what is missing in one transaction: killed at any moment, the file has the old version or the new."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.pragma("user_version")  # another process may have been faster
        for script in scripts[version:]:
            connection.execute(script)
        connection.pragma("user_version", len(scripts))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _posted_column(*arguments: Any) -> str:
    """What migrations know as ``posted(body, number)``: a column of the full-text index, as it is of an alert's JSON."""
    body, number = arguments
    column: str = _posted_again(body)[number]
    return column


@lru_cache(1)  # one alert's columns are asked for one after the other
def _posted_again(body: bytes) -> tuple[str, ...]:
    return posted(alert_of(body))
