"""One connection that writes, a few that read, each call in a thread: the event loop never waits for the disk.

Every write is one immediate transaction, every read one snapshot. A cancelled caller waits until its call has ended, so a
connection is never left in the middle of anything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import apsw
from anyio import CancelScope, CapacityLimiter, to_thread

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.store.sqlite.file import CHECKPOINT_AT, PATIENCE, explained, migrations, open_writer, refuse_upgraded
from xdr_mcp.store.sqlite.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READERS = 4
RESET_AT = 8_000
"""Pages in the WAL from which a commit also waits, briefly, for readers to let it be emptied."""
_RESET_PATIENCE = 200

_T = TypeVar("_T")


class Database:
    """The connections of one process to one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scripts = migrations()
        self._writer: apsw.Connection | None = None
        self._readers: list[Reader] = []
        self._one_writer = CapacityLimiter(1)
        self._few_readers = CapacityLimiter(READERS)
        self._closed = False
        self._wal_pages = 0

    async def open(self) -> None:
        """Create or migrate the file. Raises StoreUnusable."""
        await to_thread.run_sync(self._open_writer, limiter=self._one_writer)

    async def write(self, work: Callable[[apsw.Connection], _T]) -> _T:
        """What ``work`` returns, its writes committed; nothing of it when it raises."""
        return await to_thread.run_sync(self._write, work, limiter=self._one_writer)

    async def read(self, work: Callable[[apsw.Connection], _T]) -> _T:
        """What ``work`` returns; all its statements see the same moment."""
        return await to_thread.run_sync(self._read, work, limiter=self._few_readers)

    async def compute(self, work: Callable[[], _T]) -> _T:
        """What ``work``, which needs no connection, returns: done in a thread, too."""
        return await to_thread.run_sync(work)

    async def close(self) -> None:
        """Close every connection, after the calls that are under way."""
        with CancelScope(shield=True):
            await to_thread.run_sync(self._close, limiter=self._one_writer)

    def _open_writer(self) -> apsw.Connection:
        if self._closed:
            raise StoreUnusable(f"The store {self._path} was closed. Open it again")
        if self._writer is None:
            self._writer = open_writer(self._path, self._scripts)
            self._writer.set_wal_hook(self._count_wal_pages)
        return self._writer

    def _count_wal_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _write(self, work: Callable[[apsw.Connection], _T]) -> _T:
        with explained(self._path):
            connection = self._open_writer()
            try:
                connection.execute("BEGIN IMMEDIATE")
                refuse_upgraded(connection, self._path, len(self._scripts))  # what is written might break it
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException as error:
                self._abandon(connection, error)
                raise
            self._checkpoint(connection)
            return result

    def _abandon(self, connection: apsw.Connection, error: BaseException) -> None:
        """Undo. After a failed write or fsync nothing that the connection remembers of the file can be believed."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            error = apsw.IOError()
        if isinstance(error, (apsw.IOError, apsw.CorruptError)):
            self._writer = None
            connection.close(True)  # noqa: FBT003 (apsw's own signature: force)

    def _checkpoint(self, connection: apsw.Connection) -> None:
        """Keep the WAL bounded. What is committed is safe already, so a checkpoint that cannot be made is made later."""
        if self._wal_pages < CHECKPOINT_AT:
            return
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if self._wal_pages >= RESET_AT:
                connection.set_busy_timeout(_RESET_PATIENCE)
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.FullError):
            pass
        except apsw.IOError as error:
            self._abandon(connection, error)
        finally:
            if self._writer is not None:
                connection.set_busy_timeout(int(PATIENCE * 1_000))

    def _read(self, work: Callable[[apsw.Connection], _T]) -> _T:
        with explained(self._path):
            reader = self._take_reader()
            try:
                result = reader(work)
            except apsw.Error:  # it is closed
                raise
            except BaseException:
                self._give_back(reader)
                raise
            self._give_back(reader)
            return result

    def _take_reader(self) -> Reader:
        if self._closed:
            raise StoreUnusable(f"The store {self._path} was closed. Open it again")
        try:
            return self._readers.pop()
        except IndexError:
            return Reader(self._path, len(self._scripts))

    def _give_back(self, reader: Reader) -> None:
        self._readers.append(reader)
        if self._closed:
            self._close_readers()

    def _close(self) -> None:
        self._closed = True
        self._close_readers()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _close_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()
