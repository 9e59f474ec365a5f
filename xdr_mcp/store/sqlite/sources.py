"""What is known of each source, and who may poll it: leases, coverage, lag, health."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from xdr_mcp.errors import LeaseLost
from xdr_mcp.interfaces import Health, Lease, SourceState, Window
from xdr_mcp.lease import holder_died
from xdr_mcp.store.sqlite.keys import microseconds, moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    import apsw

_health = msgspec.json.Decoder(Health).decode

Percentiles: TypeAlias = tuple[float | None, float | None, float | None]


def acquire(connection: apsw.Connection, name: str, holder: str, now: datetime, ttl: timedelta) -> Lease | None:
    """Take or renew a lease, unless somebody else holds it."""
    expires = now + ttl
    row = connection.execute("SELECT holder, token, expires, ttl FROM leases WHERE name = ?", (name,)).get
    token = 1
    if row is not None:
        known, token, until, length = row
        left = until - microseconds(now)
        if known != holder:
            # one that would last longer than it was given for was taken before a clock was set back
            if known and 0 < left <= length and not holder_died(known):
                return None
            token += 1
    connection.execute(
        "INSERT OR REPLACE INTO leases (name, holder, token, expires, ttl) VALUES (?, ?, ?, ?, ?)",
        (name, holder, token, microseconds(expires), microseconds(expires) - microseconds(now)),
    )
    return Lease(name, holder, token, expires)


def release(connection: apsw.Connection, lease: Lease) -> None:
    """Give a lease up. Its row stays, for its token must go on growing."""
    connection.execute(
        "UPDATE leases SET holder = '', expires = 0 WHERE name = ? AND holder = ? AND token = ?",
        (lease.name, lease.holder, lease.token),
    )


def fence(connection: apsw.Connection, lease: Lease) -> None:
    """Raise LeaseLost unless the lease was overtaken by nobody: the caller's transaction then cannot be, either."""
    row = connection.execute("SELECT holder, token FROM leases WHERE name = ?", (lease.name,)).get
    if row != (lease.holder, lease.token):
        holder = (row[0] if row else "") or "nobody"
        raise LeaseLost(f"The lease {lease.name} of {lease.holder} was lost; it is held by {holder} now")


def cover(connection: apsw.Connection, source: int, window: Window) -> None:
    """Add an interval, merged with those it touches."""
    start, finish = microseconds(window.start), microseconds(window.end)
    first, last = connection.execute(
        "SELECT min(start), max(finish) FROM coverage WHERE source = ? AND start <= ? AND finish >= ?",
        (source, finish, start),
    ).get
    if first is not None:
        start, finish = min(start, first), max(finish, last)
    connection.execute("DELETE FROM coverage WHERE source = ? AND start >= ? AND finish <= ?", (source, start, finish))
    connection.execute("INSERT INTO coverage (source, start, finish) VALUES (?, ?, ?)", (source, start, finish))


def uncover(connection: apsw.Connection, source: int, window: Window) -> None:
    """Take an open interval out, and keep what lies on either side of it."""
    start, finish = microseconds(window.start), microseconds(window.end)
    touched: list[tuple[Any, ...]] = connection.execute(
        "DELETE FROM coverage WHERE source = ? AND start < ? AND finish > ? RETURNING start, finish",
        (source, finish, start),
    ).fetchall()
    left = [(source, first, start) for first, _ in touched if first <= start]
    right = [(source, finish, last) for _, last in touched if last >= finish]
    connection.executemany("INSERT INTO coverage (source, start, finish) VALUES (?, ?, ?)", left + right)


class Lags:
    """The percentiles of each source's lags, reckoned anew only when there are more: every answer tells of them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Percentiles]] = {}

    def current(self, connection: apsw.Connection) -> bool:
        """Whether nothing would have to be reckoned anew."""
        samples = connection.execute("SELECT id, samples FROM sources")
        return all(source in self._known and self._known[source][0] == number for source, number in samples)

    def of(self, connection: apsw.Connection, source: int, samples: int) -> Percentiles:
        """The 50th, 99th and 99.9th, in seconds, after so many samples."""
        known = self._known.get(source)
        if known is None or known[0] != samples:
            known = self._known[source] = samples, _percentiles(connection, source)
        return known[1]


def _percentiles(connection: apsw.Connection, source: int) -> Percentiles:
    ascending = [lag for (lag,) in connection.execute("SELECT lag FROM lags WHERE source = ? ORDER BY lag", (source,))]
    return _percentile(ascending, 0.5), _percentile(ascending, 0.99), _percentile(ascending, 0.999)


def states(connection: apsw.Connection, now: datetime, lags: Lags) -> tuple[SourceState, ...]:
    """What is known about every source ever seen, by name."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT s.id, s.name, s.health, s.alerts, s.quarantined, s.samples, l.name, l.holder, l.token, l.expires, l.ttl"
        " FROM sources AS s LEFT JOIN leases AS l ON l.name = s.lease ORDER BY s.name"
    ).fetchall()
    return tuple(_state(connection, now, lags, row) for row in rows)


def _state(connection: apsw.Connection, now: datetime, lags: Lags, row: tuple[Any, ...]) -> SourceState:
    number, name, health, alerts, quarantined, samples, *lease = row
    covered: list[tuple[Any, ...]] = connection.execute(
        "SELECT start, finish FROM coverage WHERE source = ? ORDER BY start", (number,)
    ).fetchall()
    lag_p50, lag_p99, lag_p999 = lags.of(connection, number, samples)
    return SourceState(
        source=name,
        health=_health(health),
        coverage=tuple(Window(moment(start), moment(finish)) for start, finish in covered),
        lag_p50=lag_p50,
        lag_p99=lag_p99,
        lag_p999=lag_p999,
        alerts=alerts,
        quarantined=quarantined,
        lease=_live_lease(now, *lease),
    )


def _live_lease(now: datetime, name: str | None, *row: Any) -> Lease | None:
    if name is None:
        return None
    holder, token, expires, ttl = row
    return Lease(name, holder, token, moment(expires)) if 0 < expires - microseconds(now) <= ttl else None


def _percentile(ascending: Sequence[int], part: float) -> float | None:
    """The nearest rank, in seconds."""
    return ascending[ceil(part * len(ascending)) - 1] / 1e6 if ascending else None


def source_id(connection: apsw.Connection, source: str, lease: str | None) -> int:
    """The number of a source, new or known; who polls it is found by the lease it was last written under."""
    row = connection.execute("SELECT id, lease FROM sources WHERE name = ?", (source,)).get
    if row is None:
        connection.execute("INSERT INTO sources (name, lease) VALUES (?, ?)", (source, lease or ""))
        return connection.last_insert_rowid()
    number: int
    number, known = row
    if lease is not None and lease != known:
        connection.execute("UPDATE sources SET lease = ? WHERE id = ?", (lease, number))
    return number
