"""Row keys that follow created time, so that the newest alerts are the largest keys and inserts append.

A key is a unit of time and a slot in it. A unit is a microsecond between 1970 and 2106, a second outside (vendors send
0001-01-01 and 9999-12-31 for "unknown"). When more alerts share a unit than it has slots, they go on into the next ones:
order is exact but for alerts created within microseconds of such a crowd.
"""

from __future__ import annotations

from array import array
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOTS = 2_048
"""Alerts that can share one unit of time."""
LARGEST = 2**63 - 1
"""No key is larger; nor any other integer in SQLite."""

_SECOND = 1_000_000
_FINE_END = 2**32 * _SECOND
_OFFSET = 2**36
_CROWD = _SECOND * SLOTS
"""No crowd spills further than this: two thousand million alerts of one unit."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The time that is ``value`` microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=value)


def first_key(created: int) -> int:
    """The least key an alert created then (microseconds) can have."""
    if 0 <= created < _FINE_END:
        unit = created
    elif created < 0:
        unit = created // _SECOND
    else:
        unit = _FINE_END + (created - _FINE_END) // _SECOND
    return (unit + _OFFSET) * SLOTS


def last_key(created: int) -> int:
    """A key that no alert created then, or before, exceeds."""
    return first_key(created) + _CROWD


class Slots:
    """Hands out free keys within one transaction."""

    def __init__(self, connection: apsw.Connection, created: Iterable[int]) -> None:
        self._connection = connection
        self._free: dict[int, int] = {}
        if units := {first_key(moment) for moment in created}:
            taken = connection.execute(
                "SELECT value, last FROM (SELECT value,"
                " (SELECT max(key) FROM alerts WHERE key >= unit.value AND key < unit.value + ?) AS last"
                " FROM carray(?) AS unit) WHERE last IS NOT NULL",
                (SLOTS, apsw.carray(array("q", units))),
            )
            self._free = {unit: unit for unit in units} | {unit: last + 1 for unit, last in taken}

    def take(self, created: int) -> int:
        """A key that nobody has."""
        unit = first_key(created)
        while (key := self._free[unit] if unit in self._free else self._look_up(unit)) >= unit + SLOTS:
            unit += SLOTS
        self._free[unit] = key + 1
        return key

    def _look_up(self, unit: int) -> int:
        """The first that is free of a unit, if any is."""
        last: int | None = self._connection.execute(
            "SELECT max(key) FROM alerts WHERE key >= ? AND key < ?", (unit, unit + SLOTS)
        ).get
        return unit if last is None else last + 1
