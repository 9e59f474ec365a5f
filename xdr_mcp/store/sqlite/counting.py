"""Alerts that a query finds, counted by what they have in common.

What stands in columns of its own is counted by SQLite. Keyword values are read from the alerts, newest first: an index knows
them folded only, and with the forms that an alert is found by but not counted under.
"""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest
from itertools import starmap
from typing import TYPE_CHECKING, Any, TypeAlias

from xdr_mcp.interfaces import Group, Grouped
from xdr_mcp.query import LEVELS, Facet, bucket, combinations, name_of
from xdr_mcp.store.sqlite import tallies
from xdr_mcp.store.sqlite.revisions import alert_of
from xdr_mcp.store.sqlite.tallies import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apsw

    from xdr_mcp.alert import Alert
    from xdr_mcp.store.sqlite.listing import Asked

_Values: TypeAlias = tuple[str | None, ...]
_TALLIED = {name: name for name in tallies.LEVELS} | {"created": "start"}
"""Columns that tallies have."""


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


class _Tally:
    """Counts so far."""

    def __init__(self, by: Sequence[Facet]) -> None:
        self.by = by
        self.total = 0
        self.counts: Counter[_Values] = Counter()
        self._spelled: dict[_Values, tuple[int, _Values]] = {}
        """How the newest alert of a group spells it, and its key."""

    def add(self, alert: Alert, key: int) -> None:
        self.total += 1
        for group, shown in combinations(self.by, alert):
            self.counts[group] += 1
            if group not in self._spelled or self._spelled[group][0] < key:
                self._spelled[group] = key, shown

    def told(self, limit: int) -> Grouped:
        shown = {group: spelled for group, (_, spelled) in self._spelled.items()}
        every = (
            (-count, [(value is None, value or "") for value in group], group) for group, count in self.counts.items()
        )
        largest = nsmallest(limit, every)
        groups = tuple(Group(shown.get(group, group), -count) for count, _, group in largest)
        return Grouped(groups, len(self.counts) - len(groups), self.total)


def _by_bodies(connection: apsw.Connection, asked: Asked, tally: _Tally) -> None:
    heads = asked.selection()
    rows = connection.execute(
        f"SELECT a.key, c.body FROM {heads.tables} CROSS JOIN changes AS c ON c.seq = a.seq WHERE {heads.conditions}"  # noqa: S608 (our own words; values are bound)
        f" ORDER BY {heads.key} DESC",
        heads.parameters,
    )
    for key, body in rows:
        tally.add(alert_of(body), key)


def _by_columns(connection: apsw.Connection, asked: Asked, tally: _Tally) -> None:
    for count, *numbers in _summed(connection, asked, tally.by):
        tally.counts[tuple(starmap(_named, zip(tally.by, numbers, strict=True)))] += count
        tally.total += count


def _summed(connection: apsw.Connection, asked: Asked, by: Sequence[Facet]) -> Iterator[tuple[Any, ...]]:
    """How many have the same numbers in all columns, and the numbers."""
    told = [_TALLIED.get(facet.field, "") for facet in by]
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
