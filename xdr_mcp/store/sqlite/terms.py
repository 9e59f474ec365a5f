"""The dictionary of keyword values: each gets a number once, and its postings are the token of that number."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import apsw

from xdr_mcp.query import fold, spelling
from xdr_mcp.store.sqlite.revisions import alert_of
from xdr_mcp.store.sqlite.where import after_prefix, glob, presence, term_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xdr_mcp.query import Pattern

REMEMBERED = 50_000
"""Values whose numbers are kept in memory; a number never changes, until it is pruned."""


class Numbers(dict[str, int]):
    """Numbers by name, as they stand after ``pruning``: how often values were pruned."""

    def __init__(self, pruning: int) -> None:
        super().__init__()
        self.pruning = pruning


class Dictionary:
    """Numbers for values, of one writing process."""

    def __init__(self) -> None:
        self._known = Numbers(0)

    def number(self, connection: apsw.Connection, names: set[str]) -> Numbers:
        """The number of every name, new ones given out within the caller's transaction.

        They are not remembered yet, for the transaction may fail: see ``remember``.
        """
        if (pruning := _prunings(connection)) != self._known.pruning:
            self._known = Numbers(pruning)
        known = self._known
        numbers = Numbers(pruning)
        numbers.update((name, known[name]) for name in names if name in known)
        if missing := names - numbers.keys():
            numbers.update(
                connection.execute(
                    "SELECT wanted.value, terms.id FROM carray(?) AS wanted JOIN terms ON terms.name = wanted.value",
                    (apsw.carray(tuple(missing)),),
                )
            )
            missing -= numbers.keys()
        if missing:
            last = connection.execute("SELECT coalesce(max(id), 0) FROM terms").get
            fresh = dict(zip(sorted(missing), range(last + 1, last + 1 + len(missing)), strict=True))
            connection.executemany("INSERT INTO terms (name, id) VALUES (?, ?)", fresh.items())
            numbers.update(fresh)
        return numbers

    def remember(self, numbers: Mapping[str, int]) -> None:
        """The transaction that used these numbers was committed."""
        known = self._known
        if not isinstance(numbers, Numbers) or numbers.pruning != known.pruning:
            return
        if len(known) + len(numbers) > REMEMBERED:
            known.clear()
        known.update(numbers)


def prune(connection: apsw.Connection, names: set[str]) -> None:
    """Drop those of the values that no alert has any more. Every process that remembers numbers learns of it."""
    numbers = connection.execute(
        "SELECT terms.id FROM carray(?) AS name JOIN terms ON terms.name = name.value", (apsw.carray(tuple(names)),)
    ).fetchall()
    # the newest first: what went was old, and stepping over it would take long
    unused = [
        (number,)
        for (number,) in numbers
        if connection.execute(
            "SELECT 1 FROM postings WHERE postings MATCH ? ORDER BY rowid DESC LIMIT 1", (f"terms : t{number}",)
        ).get
        is None
    ]
    if unused:
        connection.executemany("DELETE FROM terms WHERE id = ?", unused)
        connection.execute(
            "INSERT OR REPLACE INTO memory (source, key, value) VALUES ('', 'prunings', ?)",
            (str(_prunings(connection) + 1),),
        )


def _prunings(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT value FROM memory WHERE source = '' AND key = 'prunings'").get or 0)


def fitting(connection: apsw.Connection, field: str, pattern: Pattern) -> Sequence[int]:
    """The numbers of all values of ``field`` that fit ``pattern``."""
    if (exact := pattern.exact) is not None:
        return _number_of(connection, term_name(field, exact))
    if not any(pattern.pieces):
        return _number_of(connection, presence(field))
    prefix = term_name(field, pattern.pieces[0])
    rows = connection.execute(
        "SELECT id FROM terms WHERE name >= ? AND name < ? AND name GLOB ?",
        (prefix, after_prefix(prefix), f"{field}:{glob(pattern)}"),
    )
    return [number for (number,) in rows]


def known_values(connection: apsw.Connection, field: str, prefix: str, limit: int) -> tuple[str, ...]:
    """The first values of ``field`` that begin with ``prefix``, each as the newest alert that has it spells it."""
    return tuple(islice(_known_values(connection, field, term_name(field, fold(prefix))), max(limit, 0)))


def _known_values(connection: apsw.Connection, field: str, prefix: str) -> Iterator[str]:
    rows = connection.execute(
        "SELECT id, name FROM terms WHERE name >= ? AND name < ? ORDER BY name", (prefix, after_prefix(prefix))
    )
    for number, name in rows:
        body = connection.execute(
            "SELECT c.body FROM postings CROSS JOIN alerts AS a ON a.key = postings.rowid CROSS JOIN changes AS c"
            " ON c.seq = a.seq WHERE postings MATCH ? ORDER BY postings.rowid DESC LIMIT 1",
            (f"terms : t{number}",),
        ).get
        if body is not None:  # None: an older revision had it
            yield spelling(alert_of(body), field, name.removeprefix(term_name(field, "")))


def _number_of(connection: apsw.Connection, name: str) -> Sequence[int]:
    return [number for (number,) in connection.execute("SELECT id FROM terms WHERE name = ?", (name,))]
