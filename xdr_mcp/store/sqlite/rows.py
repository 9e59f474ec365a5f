"""Rows written many a statement.

Each time that SQLite is entered Python's lock is given up, and while other threads work it takes long to have it again: a
row a statement would wait a thousand times for a page of alerts. The full-text index, too, empties its memory to the file
with each statement that writes several rows, and later merges what it wrote.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

MOST = 250
"""Rows that one statement writes at most: one of twice as many is longer than what apsw keeps prepared."""


def insert(connection: apsw.Connection, into: str, rows: Sequence[Sequence[Any]], otherwise: str = "") -> None:
    """Write rows, all of one length, with ``into``, which names table and columns; ``otherwise`` is its ON CONFLICT clause."""
    for start in range(0, len(rows), MOST):
        part = rows[start : start + MOST]
        row = f"({', '.join('?' * len(part[0]))})"
        connection.execute(
            f"{into} VALUES {', '.join([row] * len(part))} {otherwise}", tuple(chain.from_iterable(part))
        )
