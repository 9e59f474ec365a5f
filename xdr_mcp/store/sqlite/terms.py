"""The dictionary of keyword values: each gets a number once, and its postings are the token of that number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from xdr_mcp.store.sqlite.where import after_prefix, glob, presence, term_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xdr_mcp.query import Pattern

REMEMBERED = 50_000
"""Values whose numbers are kept in memory; a number never changes."""


class Dictionary:
    """Numbers for values, of one writing process."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def number(self, connection: apsw.Connection, names: set[str]) -> dict[str, int]:
        """The number of every name, new ones given out within the caller's transaction.

        They are not remembered yet, for the transaction may fail: see ``remember``.
        """
        numbers = {name: self._known[name] for name in names if name in self._known}
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
        if len(self._known) + len(numbers) > REMEMBERED:
            self._known.clear()
        self._known.update(numbers)


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


def _number_of(connection: apsw.Connection, name: str) -> Sequence[int]:
    return [number for (number,) in connection.execute("SELECT id FROM terms WHERE name = ?", (name,))]
