"""How many alerts were created in each hour and day, by severity, status and verdict: kept by whatever changes them.

A question about these alone is answered from some hundred rows, however many alerts there are. What its bounds cut off of an
hour is counted from the alerts themselves.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from xdr_mcp.query import Comparison, Moment
from xdr_mcp.store.sqlite.keys import first_key, last_key, microseconds
from xdr_mcp.store.sqlite.rows import insert
from xdr_mcp.store.sqlite.where import conjuncts, level_condition, only_levels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import apsw

    from xdr_mcp.query import Node

HOUR = 3_600_000_000
"""Microseconds."""
LEVELS = ("severity", "status", "verdict")
COLUMNS = {name: name for name in LEVELS} | {"created": "start"}
"""What tallies have of an alert, and where."""
_DAY = 24
"""Hours."""
_SAMPLE = 100
"""Rows; a day has some twenty."""
_FOREVER = 10**7 * _DAY * HOUR
"""Microseconds of whole days; no time is as far from 1970."""


class Cell(Struct, frozen=True, gc=False):
    """Where an alert counts."""

    hour: int
    """Since 1970."""
    severity: int
    status: int
    verdict: int

    @classmethod
    def of(cls, created: int, severity: int, status: int, verdict: int) -> Cell:
        """Of an alert created then (microseconds)."""
        return cls(created // HOUR, severity, status, verdict)


def adjust(connection: apsw.Connection, alerts: Mapping[Cell, int]) -> None:
    """So many alerts more, or less, in each cell."""
    rows: Counter[tuple[int, ...]] = Counter()
    for cell, number in alerts.items():
        levels = (cell.severity, cell.status, cell.verdict)
        rows[1, cell.hour, *levels] += number
        rows[_DAY, cell.hour // _DAY * _DAY, *levels] += number
    insert(
        connection,
        "INSERT INTO tallies (unit, start, severity, status, verdict, alerts)",
        [(*row, number) for row, number in rows.items() if number],
        "ON CONFLICT DO UPDATE SET alerts = alerts + excluded.alerts",
    )
    connection.executemany(
        "DELETE FROM tallies WHERE (unit, start, severity, status, verdict) = (?, ?, ?, ?, ?) AND alerts = 0",
        [row for row, number in rows.items() if number < 0],
    )


class Tallied(Struct, frozen=True):
    """What is asked about severity, status, verdict and created time, and nothing else."""

    condition: str
    parameters: tuple[int | float | str, ...]
    start: int
    end: int
    """Half-open, in microseconds."""

    def sums(self, connection: apsw.Connection, columns: Sequence[str], *, by_hour: bool) -> Iterator[tuple[Any, ...]]:
        """How many alerts, and what they have in common: ``columns`` of ``LEVELS`` or ``start``, hours of a day or an hour."""
        parts = list(self._parts(by_hour=by_hour))
        if not parts:
            return iter(())
        union = " UNION ALL ".join(sql for sql, _ in parts)
        numbers = [number for _, bounds in parts for number in bounds]
        return connection.execute(
            f"SELECT sum(alerts), {', '.join(columns) or 0} FROM ({union}) AS a WHERE {self.condition}"  # noqa: S608 (our own words; values are bound)
            f" GROUP BY {', '.join(columns) or 2}",
            (*numbers, *self.parameters),
        )

    def _parts(self, *, by_hour: bool) -> Iterator[tuple[str, Sequence[int]]]:
        """The rows whose sum it is: of whole days, of the whole hours around them, of alerts in the hours that are cut."""
        if self.start >= self.end:
            return
        first, last = -(-self.start // HOUR), self.end // HOUR
        if first > last:
            yield _ALERTS, _bounds(self.start, self.end)
            return
        day, end = -(-first // _DAY) * _DAY, last // _DAY * _DAY
        if by_hour or day >= end:
            day = end = last
        for unit, start, until in ((1, first, day), (_DAY, day, end), (1, end, last)):
            if start < until:
                yield _TALLIES, (unit, start, until)
        for start, until in ((self.start, first * HOUR), (last * HOUR, self.end)):
            if start < until:
                yield _ALERTS, _bounds(start, until)


_TALLIES = "SELECT start, severity, status, verdict, alerts FROM tallies WHERE unit = ? AND start >= ? AND start < ?"
_ALERTS = (
    f"SELECT (created - (created % {HOUR} + {HOUR}) % {HOUR}) / {HOUR} AS start, severity, status, verdict, 1 AS alerts"  # noqa: S608 (a number of ours)
    " FROM alerts WHERE key BETWEEN ? AND ? AND created >= ? AND created < ?"
)


def _bounds(start: int, end: int) -> tuple[int, ...]:
    return first_key(start), last_key(end), start, end


def share(connection: apsw.Connection, levels: Sequence[Node]) -> float:
    """The part of the alerts of some recent days for which all of these hold, which are ``only_levels``; 0 to 1."""
    parameters: list[int | float | str] = []
    condition = " AND ".join([level_condition(node, parameters) for node in levels])
    found: float | None = connection.execute(
        f"SELECT total(alerts) FILTER (WHERE {condition}) / sum(alerts) FROM"  # noqa: S608 (our own words; values are bound)
        " (SELECT * FROM tallies WHERE unit = ? ORDER BY start DESC LIMIT ?) AS a",
        (*parameters, _DAY, _SAMPLE),
    ).get
    return 0.0 if found is None else found


def tallied(root: Node | None) -> Tallied | None:
    """The question, when tallies answer it."""
    start, end = -_FOREVER, _FOREVER
    levels: list[Node] = []
    for node in conjuncts(root):
        if isinstance(node, Moment):
            if node.field != "created" or node.comparison is Comparison.NE:
                return None
            low, high = _interval(node)
            start, end = max(start, low), min(end, high)
        elif only_levels(node):
            levels.append(node)
        else:
            return None
    parameters: list[int | float | str] = []
    condition = " AND ".join([level_condition(node, parameters) for node in levels])
    return Tallied(condition or "1", tuple(parameters), start, end)


def _interval(node: Moment) -> tuple[int, int]:
    at = microseconds(node.value)
    match node.comparison:
        case Comparison.GE | Comparison.GT:
            return at + (node.comparison is Comparison.GT), _FOREVER
        case Comparison.LE | Comparison.LT:
            return -_FOREVER, at + (node.comparison is Comparison.LE)
        case _:
            return at, at + 1
