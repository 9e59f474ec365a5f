"""A connection that reads: each call sees one moment, of a file whose format this program knows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import apsw

from xdr_mcp.store.sqlite.file import PATIENCE, open_reader, refuse_upgraded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")


class Reader:
    """Call it with what is to be read. Opening and calling raise ``apsw.Error``: call them in ``explained``."""

    def __init__(self, path: Path, known: int, *, patience: float = PATIENCE) -> None:
        self._path = path
        self._known = known
        self._connection = open_reader(path, patience=patience)
        self._seen: int | None = None
        """Which of the file's states had the format that is known: a number that any commit changes."""

    def __call__(self, work: Callable[[apsw.Connection], _T]) -> _T:
        """What ``work`` returns; all its statements see the same moment.

        Raises:
            StoreUnusable: a newer program has upgraded the file.
            apsw.Error: what it may raise; the connection is closed then.
        """
        try:
            self._connection.execute("BEGIN")
            try:
                return self._known_format(work)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
        except apsw.Error:
            self.close()
            raise

    def close(self) -> None:
        """Whatever is under way."""
        self._connection.close(True)  # noqa: FBT003 (apsw's own signature: force)

    def _known_format(self, work: Callable[[apsw.Connection], _T]) -> _T:
        """What ``work`` returns, of the format that is known. Asked afterwards, for only what is read begins the snapshot."""
        try:
            result = work(self._connection)
        except Exception:
            with suppress(apsw.Error):  # what ``work`` raised says more
                refuse_upgraded(self._connection, self._path, self._known)
            raise
        seen = self._connection.data_version()
        if seen != self._seen:
            refuse_upgraded(self._connection, self._path, self._known)
            self._seen = seen
        return result
