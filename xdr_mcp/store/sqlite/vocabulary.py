"""The values there are of a keyword field: read from the full-text index, whose tokens they are."""

from __future__ import annotations

from functools import partial
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from xdr_mcp.query import fold, spelling
from xdr_mcp.store.sqlite.postings import presence, token, value_of_token
from xdr_mcp.store.sqlite.revisions import alert_of
from xdr_mcp.store.sqlite.where import MOST_VALUES, after_prefix, any_of, indexed_as, is_beginning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw

    from xdr_mcp.query import Pattern

_REPEATS = 32
"""So many postings of one token are stepped over; then the next token is looked up."""


def fitting(connection: apsw.Connection, field: str, pattern: Pattern) -> Sequence[str]:
    """The tokens of all values of ``field`` that fit ``pattern``; they need not all be there.

    Of those that only begin so, no more than tells that they are too many to be named one by one.
    """
    tokens = (found for name in indexed_as(field) for found in _fitting(connection, name, pattern))
    return list(islice(tokens, MOST_VALUES + 1 if is_beginning(pattern) else None))


def known_values(connection: apsw.Connection, field: str, prefix: str, limit: int) -> tuple[str, ...]:
    """The first values of ``field`` that begin with ``prefix``, each as the newest alert that has it spells it."""
    return tuple(islice(_known_values(connection, field, fold(prefix)), max(limit, 0)))


def _fitting(connection: apsw.Connection, field: str, pattern: Pattern) -> Iterable[str]:
    if (exact := pattern.exact) is not None:
        return (token(field, exact),)
    if not any(pattern.pieces):
        return (presence(field),)
    tokens = _tokens(connection, token(field, pattern.pieces[0]))
    return (found for found in tokens if pattern.matches(value_of_token(field, found)))


def _known_values(connection: apsw.Connection, field: str, prefix: str) -> Iterator[str]:
    values = merge(*(_indexed_values(connection, name, prefix) for name in indexed_as(field)), key=partial(token, ""))
    for value, _ in groupby(values):
        body = connection.execute(
            "SELECT c.body FROM postings CROSS JOIN alerts AS a ON a.key = postings.rowid CROSS JOIN changes AS c"
            " ON c.seq = a.seq WHERE postings MATCH ? ORDER BY postings.rowid DESC LIMIT 1",
            (any_of([token(name, value) for name in indexed_as(field)]),),
        ).get
        if body is not None:  # None: an older revision had it
            yield spelling(alert_of(body), field, value)


def _indexed_values(connection: apsw.Connection, name: str, prefix: str) -> Iterator[str]:
    return (value_of_token(name, found) for found in _tokens(connection, token(name, prefix)))


def _tokens(connection: apsw.Connection, prefix: str) -> Iterator[str]:
    """Every token that begins with ``prefix``, ascending. Rare ones are read in a row, the postings of frequent ones skipped."""
    least, end = prefix, after_prefix(prefix)
    while least:
        rows = connection.execute("SELECT term FROM vocabulary WHERE term >= ? AND term < ?", (least, end))
        least = ""
        for found, postings in groupby(map(itemgetter(0), rows)):
            yield found
            if next(islice(postings, _REPEATS, None), None) is not None:
                least = f"{found}\1"
                rows.close()
                break
