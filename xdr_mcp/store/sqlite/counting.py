"""Alerts that a query finds, counted by what they have in common.

What stands in columns of its own is counted by SQLite. Keyword values are read from the alerts, newest first, and of each of
them no more than is counted: an index knows values folded only, and with the forms that an alert is found by but not counted under.
"""

from __future__ import annotations

from heapq import nsmallest
from itertools import starmap
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct
from msgspec.json import Decoder

from xdr_mcp.errors import QueryError
from xdr_mcp.interfaces import Group, Grouped
from xdr_mcp.query import LEVELS, Facet, Grouping, bucket, name_of
from xdr_mcp.store.sqlite.tallies import COLUMNS, HOUR

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import apsw

    from xdr_mcp.alert import Alert
    from xdr_mcp.store.sqlite.listing import Asked

MOST_GROUPS = 100_000
"""What is kept in memory while counting: 46 MB of file hashes."""
MOST_NAMED = 30_000_000
"""Characters of the groups' values, folded and as they are spelled: a value may have thousands."""
MOST_SAID = 2_000_000
"""What is kept besides, of different things that alerts say: characters, and a hundred for each value."""

_Values: TypeAlias = tuple[str | None, ...]


def grouped(connection: apsw.Connection, asked: Asked, by: Sequence[Facet], limit: int) -> Grouped:
    """The largest groups, and how many are left out."""
    tally = _Tally(by)
    if all(facet.unit or facet.field in LEVELS for facet in by):
        _by_columns(connection, asked, tally)
    else:
        _by_bodies(connection, asked, tally)
    for key, _, alert in asked.overtaken(connection):
        tally.add(alert, key)
    return tally.told(limit)


class _Group(Struct):
    count: int
    key: int
    """Of the newest alert in it."""
    shown: _Values
    """How that one spells it."""


class _Said(Struct):
    """Alerts that say the same."""

    count: int
    key: int
    """Of the newest."""


class _Tally:
    """Counts so far: of what alerts say, which is brought into groups when it has become much, and at the end."""

    def __init__(self, by: Sequence[Facet]) -> None:
        self.by = by
        self.grouping = Grouping(by)
        self.total = 0
        self._said: dict[tuple[Hashable, ...], _Said] = {}
        self._held = 0
        self._groups: dict[_Values, _Group] = {}
        self._named = 0

    def add(self, alert: Alert, key: int) -> None:
        self.total += 1
        own = self.grouping.own(alert)
        said = self._said.get(own)
        if said is None:
            self._said[own] = _Said(1, key)
            self._held += 100 + sum(
                [100 * len(values) + len("".join(values)) for values in own if type(values) is tuple]
            )
            if self._held >= MOST_SAID:
                self._bring_into_groups()
        else:
            said.count += 1
            said.key = max(said.key, key)

    def put(self, group: _Values, count: int) -> None:
        """So many alerts at once, of values that are spelled in one way only."""
        self.total += count
        self._put(group, count, 0, group)

    def _bring_into_groups(self) -> None:
        for own, said in self._said.items():
            for group, shown in self.grouping.groups(own):
                self._put(group, said.count, said.key, shown)
        self._said.clear()
        self._held = 0

    def _put(self, group: _Values, count: int, key: int, shown: _Values) -> None:
        known = self._groups.get(group)
        if known is not None:
            known.count += count
            if known.key < key:
                self._name(_size(shown) - _size(known.shown))
                known.key, known.shown = key, shown
            return
        if len(self._groups) == MOST_GROUPS:
            raise self._refusal(f"There are more than {MOST_GROUPS} groups")
        self._name(_size(group) + _size(shown))
        self._groups[group] = _Group(count, key, shown)

    def _name(self, characters: int) -> None:
        self._named += characters
        if self._named > MOST_NAMED:
            raise self._refusal(f"There are more than {MOST_NAMED} characters in the groups")

    def _refusal(self, reason: str) -> QueryError:
        named = ", ".join(facet.name for facet in self.by)
        return QueryError("", 0, 0, f"{reason} by {named}; ask about fewer alerts, such as those since:-24h")

    def told(self, limit: int) -> Grouped:
        self._bring_into_groups()
        every = (
            (-found.count, [(value is None, value or "") for value in group], found.shown)
            for group, found in self._groups.items()
        )
        groups = tuple(Group(shown, -count) for count, _, shown in nsmallest(limit, every))
        return Grouped(groups, len(self._groups) - len(groups), self.total)


def _size(values: _Values) -> int:
    return sum([len(value) for value in values if value])


def _by_bodies(connection: apsw.Connection, asked: Asked, tally: _Tally) -> None:
    heads = asked.selection()
    rows = connection.execute(
        f"SELECT a.key, c.body FROM {heads.tables} CROSS JOIN changes AS c ON c.seq = a.seq WHERE {heads.conditions}"  # noqa: S608 (our own words; values are bound)
        f" ORDER BY {heads.key} DESC",
        heads.parameters,
    )
    part_of = Decoder(tally.grouping.part).decode
    for key, body in rows:
        tally.add(part_of(body), key)


def _by_columns(connection: apsw.Connection, asked: Asked, tally: _Tally) -> None:
    for count, *numbers in _summed(connection, asked, tally.by):
        tally.put(tuple(starmap(_named, zip(tally.by, numbers, strict=True))), count)


def _summed(connection: apsw.Connection, asked: Asked, by: Sequence[Facet]) -> Iterator[tuple[Any, ...]]:
    """How many have the same numbers in all columns, and the numbers."""
    told = [COLUMNS.get(facet.field, "") for facet in by]
    if all(told) and (tally := asked.tally):
        return tally.sums(connection, told, by_hour=any(facet.unit == "hour" for facet in by))
    heads = asked.selection()
    return connection.execute(
        f"SELECT count(*), {', '.join(map(_column, by))} FROM {heads.tables} WHERE {heads.conditions}"  # noqa: S608 (our own words; values are bound)
        f" GROUP BY {', '.join(str(number) for number in range(2, len(by) + 2))}",
        heads.parameters,
    )


def _column(facet: Facet) -> str:
    """What SQLite groups by: a level's number, or hours since 1970, rounded down before it, too."""
    column = f"a.{facet.field}"
    return f"({column} - ({column} % {HOUR} + {HOUR}) % {HOUR}) / {HOUR}" if facet.unit else column


def _named(facet: Facet, number: int | None) -> str | None:
    if number is None:
        return None
    return bucket(number, facet.unit) if facet.unit else name_of(facet.field, number)
