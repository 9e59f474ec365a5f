"""Reads on the event loop, for answers that are known to be short: the way to a thread and back costs more than most of them.

What is read here follows one list in the full-text index, or walks through alerts or tallies, as far as ``MOST_STEPS`` and
``MOST_PAGES``, whatever is stored; or it intersects lists, for ``MOST_SECONDS``. No wildcard. It never waits for a lock.
"""

from __future__ import annotations

from itertools import count
from time import thread_time
from typing import TYPE_CHECKING, TypeVar

import apsw

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.query import Comparison, Moment, Term, Words
from xdr_mcp.store.sqlite.file import migrations
from xdr_mcp.store.sqlite.reader import Reader
from xdr_mcp.store.sqlite.tallies import COLUMNS, tallied
from xdr_mcp.store.sqlite.where import LEVEL_TOKENS, conjuncts, only_levels, refuse_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from xdr_mcp.query import Facet, Node

MOST_ROWS = 100
"""Of a listing that is read on the event loop."""
MOST_COUNTED = 10_000
"""Of a list that is counted there: half a millisecond."""
MOST_STEPS = 75_000
"""Of SQLite's machine: half a millisecond, in which it counts ten thousand of a list. Steps inside the full-text index do not
count."""
MOST_PAGES = 300
"""Of the file, that are copied from the system's cache: a millisecond."""
MOST_SECONDS = 0.001
"""Of the processor, for intersecting lists: what the full-text index does by itself is not told by steps, but it can be stopped
whenever it reads a page."""
LARGEST = 32 * 1024
"""Bytes of a value, such as an alert or its record: of a hundred alerts that are larger, reading alone takes long."""
_LOOK_OFTEN = 20
"""Steps: a few pages of the full-text index."""
_LOOK_EVERY = 1_000
"""Steps. Those of earlier runs of a statement count, so it is the looks since the beginning that say how far this one went."""

_T = TypeVar("_T")


class TooLong(Exception):
    """It is not short after all."""


class Glance:
    """The connection of one process that is used on its event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = len(migrations())
        self._reader: Reader | None = None
        self._closed = False

    def __call__(self, work: Callable[[apsw.Connection], _T]) -> _T:
        """What ``work`` returns; all its statements see the same moment.

        Raises:
            StoreUnusable: it was closed, or a newer program has upgraded the file.
            apsw.BusyError: somebody has the file locked, for a moment.
            TooLong: it would take more than ``MOST_STEPS`` or ``MOST_PAGES``, or a value that is larger than ``LARGEST``.
        """
        if self._closed:
            raise StoreUnusable(f"The store {self._path} was closed. Open it again")
        if self._reader is None:
            self._reader = Reader(self._path, self._known, patience=0)
        try:
            done = self._reader(lambda connection: self._within_bounds(connection, work))
        except apsw.Error:
            self._reader = None
            raise
        if isinstance(done, TooLong):
            raise done
        return done

    def _within_bounds(self, connection: apsw.Connection, work: Callable[[apsw.Connection], _T]) -> _T | TooLong:
        """What ``work`` returns. What went too far is no failure of the connection, so it is returned, not raised."""
        looks, copied = count(1), _copied(connection)

        def too_far() -> bool:
            return next(looks) > MOST_STEPS // _LOOK_EVERY or _copied(connection) - copied > MOST_PAGES

        connection.set_progress_handler(too_far, _LOOK_EVERY)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, LARGEST)
        try:
            return work(connection)
        except (apsw.InterruptError, apsw.TooBigError, TooLong):
            return TooLong()
        finally:
            connection.set_progress_handler(None)

    def close(self) -> None:
        """Nothing is read any more."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def look_often(connection: apsw.Connection, clock: Callable[[], float] = thread_time) -> None:
    """Within a glance: have what follows end after ``MOST_SECONDS`` or ``MOST_PAGES``, for it is to intersect lists."""
    end, copied = clock() + MOST_SECONDS, _copied(connection)
    connection.set_progress_handler(lambda: clock() > end or _copied(connection) - copied > MOST_PAGES, _LOOK_OFTEN)


def short(root: Node | None, limit: int, most: int | None = None) -> bool:
    """Whether a page of this query's listing is likely to be found within bounds, and its total (``most``), too.

    Raises:
        QueryError: it is nested too deeply.
    """
    refuse_depth(root)
    if limit > MOST_ROWS:
        return False
    if tallied(root) is not None:
        return True
    nodes = [node for node in conjuncts(root) if not _since(node)]
    lists = [node for node in nodes if not only_levels(node)]
    if not (lists and all(map(_is_list, lists))):
        return False
    return most is None or (most <= MOST_COUNTED and (len(nodes) == 1 or len(lists) > 1))


def short_count(root: Node | None) -> bool:
    """Whether a count is.

    Raises:
        QueryError: it is nested too deeply.
    """
    refuse_depth(root)
    return tallied(root) is not None or [_is_list(node) for node in conjuncts(root) if not _since(node)] == [True]


def short_summary(root: Node | None, by: Sequence[Facet]) -> bool:
    """Whether counting by something is.

    Raises:
        QueryError: it is nested too deeply.
    """
    refuse_depth(root)
    return all(facet.field in COLUMNS for facet in by) and tallied(root) is not None


def _copied(connection: apsw.Connection) -> int:
    """Pages of the file that were read, ever."""
    return connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0]


def _since(node: Node) -> bool:
    """A bound at which the walk ends, instead of one behind which it begins."""
    return isinstance(node, Moment) and node.field == "created" and node.comparison in {Comparison.GE, Comparison.GT}


def _is_list(node: Node) -> bool:
    match node:
        case Term():
            return node.pattern.exact is not None
        case Words():
            return len(node.words) == 1 and not node.prefix and node.words[0] not in LEVEL_TOKENS
        case _:
            return False
