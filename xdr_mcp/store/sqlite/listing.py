"""Alerts that a query finds: listed newest first, or counted; as they are, or as they were known at a moment."""

from __future__ import annotations

from array import array
from functools import partial
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any

import apsw
from msgspec import Struct

from xdr_mcp.interfaces import Found, Position
from xdr_mcp.query import Query, matches
from xdr_mcp.store.sqlite.keys import LARGEST
from xdr_mcp.store.sqlite.past import overtaken, seq_at
from xdr_mcp.store.sqlite.revisions import bounded, listed_alert
from xdr_mcp.store.sqlite.tallies import Tallied, share, tallied
from xdr_mcp.store.sqlite.vocabulary import fitting
from xdr_mcp.store.sqlite.where import Where, compile_where

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from xdr_mcp.alert import Alert


FEW = 500
"""What several lists have in common since some time is read whole, when it is no more."""


class Asked(Struct, frozen=True):
    """A query, ready to be asked of one snapshot."""

    query: Query
    where: Where
    seq: int | None = None
    """The newest that counts; None for all."""

    @property
    def everything(self) -> bool:
        """All alerts as they are."""
        return not (self.where.match or self.where.conditions) and self.seq is None

    @property
    def tally(self) -> Tallied | None:
        """It as a question that tallies answer, if they do."""
        return tallied(self.query.root) if self.seq is None else None

    def selection(self, largest: int = LARGEST, *, table: bool = True) -> Selection:
        """The heads it finds, up to a key. Without ``table``, ``alerts AS a`` is left out where it is not needed."""
        where = self.where
        keys = (where.least_key, min(where.largest_key, largest))
        conditions, parameters = where.conditions, where.parameters
        if self.seq is not None:
            conditions, parameters = (*conditions, "a.seq <= ?"), (*parameters, self.seq)
        if not where.match:
            text = " AND ".join(("a.key BETWEEN ? AND ?", *conditions))
            return Selection("alerts AS a", "a.key", text, (*keys, *parameters))
        # the full-text index leads: in SQLite, CROSS JOIN keeps order
        joined = " CROSS JOIN alerts AS a ON a.key = postings.rowid" if table or conditions else ""
        if keys != (0, LARGEST):  # compared row by row
            conditions, parameters = ("postings.rowid BETWEEN ? AND ?", *conditions), (*keys, *parameters)
        text = " AND ".join(("postings MATCH ?", *conditions))
        return Selection(f"postings{joined}", "postings.rowid", text, (where.match, *parameters))

    def overtaken(
        self, connection: apsw.Connection, least: int = 0, largest: int = LARGEST
    ) -> Iterator[tuple[int, int, Alert]]:
        """Versions that it finds besides: newest at ``seq``, and overtaken since. In no order."""
        if self.seq is None:
            return
        least, largest = max(least, self.where.least_key), min(largest, self.where.largest_key)
        for key, seq, alert in overtaken(connection, self.seq, least, largest):
            if matches(self.query, alert):
                yield key, seq, alert


class Selection(Struct, frozen=True):
    """Parts of a statement; what is asked for is always bound."""

    tables: str
    key: str
    conditions: str
    parameters: tuple[int | float | str, ...]


def asked(connection: apsw.Connection, query: Query, as_of: datetime | None = None, *, walking: bool = False) -> Asked:
    """The query, compiled for this snapshot; ``walking`` is as for ``compile_where``. Raises QueryError."""
    where = compile_where(query.root, partial(fitting, connection), partial(share, connection), walking=walking)
    return Asked(query, where, None if as_of is None else seq_at(connection, as_of))


def listed(
    connection: apsw.Connection, asked: Asked, limit: int, after: Position | None, most: int | None = None
) -> Found:
    """A page of the listing; with ``most``, also how many there are in all, counted only where the page does not tell."""
    largest = LARGEST if after is None else max(after.key, 0) - 1
    rows = _bodies(connection, asked, limit, largest) if asked.seq is None else _past(connection, asked, limit, largest)
    page = [(key, listed_alert(body)) for key, body in islice(bounded(rows), limit)]
    alerts = tuple(alert for _, alert in page)
    following = Position(alerts[-1].created, page[-1][0]) if page and next(rows, None) is not None else None
    whole = limit > 0 and after is None and following is None
    total = None if most is None else len(alerts) if whole else counted(connection, asked, most)
    return Found(alerts, following, total)


def counted(connection: apsw.Connection, asked: Asked, most: int | None = None) -> int:
    """How many alerts it finds; ``most + 1`` may stand for all that are more."""
    if asked.everything:
        every: int = connection.execute("SELECT coalesce(sum(alerts), 0) FROM sources").get
        return every
    if tally := asked.tally:
        return sum(number for number, _ in tally.sums(connection, (), by_hour=False))
    heads = asked.selection(table=False)
    limit = LARGEST if most is None else most + 1
    found: int = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {heads.tables} WHERE {heads.conditions} LIMIT ?)",  # noqa: S608 (our own words; values are bound)
        (*heads.parameters, limit),
    ).get
    return found if found == limit else found + sum(1 for _ in asked.overtaken(connection))


def _bodies(connection: apsw.Connection, asked: Asked, limit: int, largest: int) -> Iterator[tuple[int, bytes]]:
    """Key and body of one more than ``limit``."""
    if asked.where.lists > 1 and asked.where.least_key > 0:
        keys = _few_keys(connection, asked, largest)
        if len(keys) <= FEW:
            return _bodies_of(connection, asked, limit, keys)
    heads = asked.selection(largest)
    return connection.execute(
        f"SELECT a.key, c.body FROM {heads.tables} CROSS JOIN changes AS c ON c.seq = a.seq WHERE {heads.conditions}"  # noqa: S608 (our own words; values are bound)
        f" ORDER BY {heads.key} DESC LIMIT ?",
        (*heads.parameters, limit + 1),
    )


def _few_keys(connection: apsw.Connection, asked: Asked, largest: int) -> list[int]:
    """Keys that the full-text index gives, oldest first; one more than ``FEW`` when there are more.

    Lists are intersected to their ends, whatever key is the last that is asked for: from the oldest that is wanted on there is
    little left of them, and stepping forward is half as dear as backward.
    """
    where = asked.where
    rows = connection.execute(
        "SELECT rowid FROM postings WHERE postings MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?",
        (where.match, where.least_key, min(where.largest_key, largest), FEW + 1),
    )
    return [key for (key,) in rows]


def _bodies_of(
    connection: apsw.Connection, asked: Asked, limit: int, keys: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Key and body of one more than ``limit`` of these that meet the other conditions, the last first."""
    if not keys:
        return iter(())
    conditions = " AND ".join(asked.where.conditions)
    return connection.execute(
        "SELECT a.key, c.body FROM carray(?) AS wanted CROSS JOIN alerts AS a ON a.key = wanted.value"  # noqa: S608 (our own words; values are bound)
        f" CROSS JOIN changes AS c ON c.seq = a.seq WHERE {conditions} LIMIT ?",
        (apsw.carray(array("q", reversed(keys))), *asked.where.parameters, limit + 1),
    )


def _past(connection: apsw.Connection, asked: Asked, limit: int, largest: int) -> Iterator[tuple[int, bytes]]:
    """The same, as it was. Two versions never stood in one place at the same time."""
    heads = asked.selection(largest)
    found: list[tuple[Any, ...]] = connection.execute(
        f"SELECT a.key, a.seq FROM {heads.tables} WHERE {heads.conditions} ORDER BY {heads.key} DESC LIMIT ?",  # noqa: S608 (our own words; values are bound)
        (*heads.parameters, limit + 1),
    ).fetchall()
    least = found[-1][0] if len(found) > limit else 0
    found += [(key, seq) for key, seq, _ in asked.overtaken(connection, least, largest)]
    page = nlargest(limit + 1, found)
    if not page:
        return iter(())
    bodies = connection.execute(
        "SELECT c.body FROM carray(?) AS wanted CROSS JOIN changes AS c ON c.seq = wanted.value",
        (apsw.carray(array("q", [seq for _, seq in page])),),
    )
    return ((key, body) for (key, _), (body,) in zip(page, bodies, strict=True))
