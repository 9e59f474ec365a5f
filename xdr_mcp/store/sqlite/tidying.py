"""The full-text index put in order: each save leaves a piece of it behind, and a question looks for its values in each piece.

Saving merges pieces, too, four of a size into one, as few times as it can: it has no time for more. Here two are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import apsw

PAGES = 200
"""Of 4 KB, that are merged at once: some 5 ms."""
_TOGETHER = 2
"""Pieces of a size that are merged into one."""


def merge_some(connection: apsw.Connection, pages: int = PAGES) -> bool:
    """Merge a little; whether there may be more."""
    if connection.execute("SELECT v FROM postings_config WHERE k = 'usermerge'").get != _TOGETHER:
        connection.execute("INSERT INTO postings (postings, rank) VALUES ('usermerge', ?)", (_TOGETHER,))
    before = connection.total_changes()
    connection.execute("INSERT INTO postings (postings, rank) VALUES ('merge', ?)", (pages,))
    return connection.total_changes() - before > 1  # the statement itself counts as one
