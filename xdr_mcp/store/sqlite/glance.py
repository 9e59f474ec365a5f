"""Reads on the event loop, for answers that are known to be short: the way to a thread and back costs more than most of them.

What is read here touches a bounded number of rows, found by index, whatever is stored: no wildcard, no intersection, no count by
walking far. It never waits for a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import apsw

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.query import Comparison, Moment, Term, Words
from xdr_mcp.store.sqlite.file import migrations
from xdr_mcp.store.sqlite.reader import Reader
from xdr_mcp.store.sqlite.tallies import tallied
from xdr_mcp.store.sqlite.where import LEVEL_TOKENS, conjuncts, one_level, refuse_depth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xdr_mcp.query import Node

MOST_ROWS = 100
"""Of a listing that is read on the event loop."""
MOST_COUNTED = 10_000
"""Of a list that is counted there: a third of a millisecond. Tallies have a row for each day and level, so they may take longer."""

_T = TypeVar("_T")


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
        """
        if self._closed:
            raise StoreUnusable(f"The store {self._path} was closed. Open it again")
        if self._reader is None:
            self._reader = Reader(self._path, self._known, patience=0)
        try:
            return self._reader(work)
        except apsw.Error:
            self._reader = None
            raise

    def close(self) -> None:
        """Nothing is read any more."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def short(root: Node | None, limit: int, most: int | None = None) -> bool:
    """Whether a page of this query's listing is found by walking one list from its newest end, and its total (``most``) is.

    Raises:
        QueryError: it is nested too deeply.
    """
    refuse_depth(root)
    lists = [node for node in conjuncts(root) if not _since(node)]
    if limit > MOST_ROWS or len(lists) > 1 or not all(map(_one_list, lists)):
        return False
    return root is None or most is None or (most <= MOST_COUNTED and tallied(root) is None)


def _since(node: Node) -> bool:
    """A bound at which the walk ends, instead of one behind which it begins."""
    return isinstance(node, Moment) and node.field == "created" and node.comparison in {Comparison.GE, Comparison.GT}


def _one_list(node: Node) -> bool:
    match node:
        case Term():
            return node.pattern.exact is not None
        case Words():
            return len(node.words) == 1 and not node.prefix and node.words[0] not in LEVEL_TOKENS
        case _:
            return one_level(node) is not None
