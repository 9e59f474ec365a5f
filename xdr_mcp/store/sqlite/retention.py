"""Dropping what need not be kept: chosen in a snapshot, dropped in short transactions that look again.

Space that becomes free is used by what is saved next, so under a limit the file stops growing. It does not shrink: that
would rewrite it whole, with everybody waiting.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
from msgspec import Struct

from xdr_mcp.alert import Status
from xdr_mcp.interfaces import Forgotten
from xdr_mcp.store.sqlite.keys import LARGEST, microseconds
from xdr_mcp.store.sqlite.proposals import PENDING_UIDS
from xdr_mcp.store.sqlite.revisions import newest_seq
from xdr_mcp.store.sqlite.sources import fence
from xdr_mcp.store.sqlite.tallies import Cell, adjust

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xdr_mcp.interfaces import Keep, Lease, Window
    from xdr_mcp.store.sqlite.database import Database

AT_ONCE = 10_000
"""Alerts that one call drops at most."""
BATCH = 50
MOST_CHANGES = 500
"""A transaction ends when it has dropped so many alerts, or so many revisions."""
QUARANTINED = 100
"""Quarantined records that one call drops at most."""

_CLOSED = ", ".join(str(status.ocsf_id) for status in Status if status.closed)
_OLDEST = (
    "SELECT h.updated, h.key, h.seq, h.uid, h.first_seq, h.revision, c.saved, c.body FROM"  # noqa: S608 (our own words; values are bound)
    " (SELECT updated, key, seq, uid, first_seq, revision FROM alerts"
    "  WHERE seq <= ? AND (updated, key) > (?, ?) AND updated < ?{closed}"
    f" AND uid NOT IN ({PENDING_UIDS})"
    "  ORDER BY updated, key LIMIT ?) AS h"
    " CROSS JOIN changes AS c ON c.seq = h.seq ORDER BY h.updated, h.key"
)


class Candidate(Struct, frozen=True):
    """An alert that may go."""

    key: int
    seq: int
    uid: bytes
    first_seq: int
    revision: int
    source: str


class _Chosen(Struct, frozen=True):
    alerts: list[Candidate]
    quarantined: list[tuple[int, int]]
    """Row and time of the last sight."""


class _Origin(Struct):
    """As much of an alert's body as need be read here."""

    source: str


_origin_of = msgspec.json.Decoder(_Origin).decode


class _Needed:
    """What may be read again, in microseconds."""

    def __init__(self, windows: Mapping[str, Sequence[Window]]) -> None:
        self._windows = {
            source: [(microseconds(window.start), microseconds(window.end)) for window in needed]
            for source, needed in windows.items()
        }

    def __call__(self, source: str, *moments: int) -> bool:
        if source not in self._windows:
            return True
        return any(start <= moment <= end for start, end in self._windows[source] for moment in moments)


async def forget(
    database: Database, keep: Keep, windows: Mapping[str, Sequence[Window]], sinks: Sequence[str], lease: Lease
) -> Forgotten:
    """See ``Store.forget``."""
    needed = _Needed(windows)
    chosen = await database.read(lambda connection: _choose(connection, keep, needed, sinks))
    alerts = changes = quarantined = 0
    for batch in _batches(chosen.alerts):
        dropped = await database.write(partial(_drop, batch=batch, lease=lease))
        alerts, changes = alerts + dropped[0], changes + dropped[1]
    if chosen.quarantined:
        quarantined = await database.write(lambda connection: _drop_quarantined(connection, chosen.quarantined, lease))
    over = await database.read(lambda connection: _excess(connection, keep) > 0)
    return Forgotten(alerts=alerts, changes=changes, quarantined=quarantined, over=over)


# ---- choosing


def _choose(connection: apsw.Connection, keep: Keep, needed: _Needed, sinks: Sequence[str]) -> _Chosen:
    """What is too old; where nothing is, as much as is too much."""
    taken = _taken_by_all(connection, sinks)
    since = None if keep.since is None else microseconds(keep.since)
    if since is not None:
        aged = _oldest(connection, taken, needed, since, AT_ONCE, closed=True)
        quarantined = _oldest_quarantined(connection, needed, since)
        if aged or quarantined:
            return _Chosen(aged, quarantined)
    excess = min(_excess(connection, keep), AT_ONCE)
    if not excess:
        return _Chosen([], [])
    too_large = keep.size is not None and _size(connection) > keep.size
    return _Chosen(
        _oldest(connection, taken, needed, LARGEST, excess),
        _oldest_quarantined(connection, needed, LARGEST) if too_large else [],
    )


def _taken_by_all(connection: apsw.Connection, sinks: Sequence[str]) -> int:
    """The newest seq that every sink has taken."""
    positions: dict[str, int] = dict(connection.execute("SELECT sink, seq FROM positions"))
    return min([newest_seq(connection), *positions.values(), *(positions.get(sink, 0) for sink in sinks)])


def _excess(connection: apsw.Connection, keep: Keep) -> int:
    """How many alerts are too many: by the number, or by their average size."""
    alerts: int = connection.execute("SELECT coalesce(sum(alerts), 0) FROM sources").get
    excess = 0 if keep.alerts is None else max(0, alerts - keep.alerts)
    if keep.size is not None and (size := _size(connection)) > keep.size:
        excess = max(excess, ceil(alerts * (size - keep.size) / size), 1)
    return excess


def _size(connection: apsw.Connection) -> int:
    """Bytes in use."""
    pages: int = connection.pragma("page_count") - connection.pragma("freelist_count")
    return pages * int(connection.pragma("page_size"))


def _oldest(
    connection: apsw.Connection, taken: int, needed: _Needed, before: int, most: int, *, closed: bool = False
) -> list[Candidate]:
    """The alerts that changed longest ago, ``most`` of them, but for those that are needed."""
    chosen: list[Candidate] = []
    sql = _OLDEST.format(closed=f" AND status IN ({_CLOSED})" if closed else "")
    last = (-LARGEST, 0)
    seen = AT_ONCE
    while seen == AT_ONCE and len(chosen) < most:
        seen = 0
        for updated, key, seq, uid, first_seq, revision, saved, body in connection.execute(
            sql, (taken, *last, before, AT_ONCE)
        ):
            seen, last = seen + 1, (updated, key)
            source = _origin_of(body).source
            if not needed(source, updated, saved):
                chosen.append(Candidate(key, seq, uid, first_seq, revision, source))
                if len(chosen) == most:
                    break
    return chosen


def _oldest_quarantined(connection: apsw.Connection, needed: _Needed, before: int) -> list[tuple[int, int]]:
    rows = connection.execute(
        "SELECT q.rowid, s.name, q.last_seen FROM quarantine AS q JOIN sources AS s ON s.id = q.source"
        " WHERE q.last_seen < ? ORDER BY q.last_seen",
        (before,),
    )
    return [(row, seen) for row, source, seen in rows if not needed(source, seen)][:QUARANTINED]


# ---- dropping


def _batches(chosen: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    batch: list[Candidate] = []
    changes = 0
    for candidate in chosen:
        batch.append(candidate)
        changes += candidate.revision
        if len(batch) == BATCH or changes >= MOST_CHANGES:
            yield batch
            batch, changes = [], 0
    if batch:
        yield batch


def _drop(connection: apsw.Connection, batch: Sequence[Candidate], lease: Lease) -> tuple[int, int]:
    """Drop those that did not change since they were chosen; how many alerts and how many changes."""
    fence(connection, lease)
    heads = connection.execute(
        f"SELECT a.key, a.seq FROM carray(?) AS wanted JOIN alerts AS a ON a.uid = wanted.value"  # noqa: S608 (our own words)
        f" WHERE a.uid NOT IN ({PENDING_UIDS})",
        (apsw.carray(tuple(candidate.uid for candidate in batch)),),
    )
    unchanged = set(heads)
    dropped = [candidate for candidate in batch if (candidate.key, candidate.seq) in unchanged]
    before = connection.total_changes()
    for candidate in dropped:
        connection.execute("DELETE FROM changes WHERE uid = ? AND revision > 1", (candidate.uid,))
        connection.execute("DELETE FROM changes WHERE seq = ?", (candidate.first_seq,))
    changes = connection.total_changes() - before
    keys = [(candidate.key,) for candidate in dropped]
    connection.executemany("DELETE FROM postings WHERE rowid = ?", keys)
    gone: list[tuple[Any, ...]] = connection.executemany(
        "DELETE FROM alerts WHERE key = ? RETURNING created, severity, status, verdict", keys
    ).fetchall()
    adjust(connection, {cell: -number for cell, number in Counter(Cell.of(*row) for row in gone).items()})
    connection.executemany("DELETE FROM moves WHERE uid = ?", [(candidate.uid,) for candidate in dropped])
    for source, number in Counter(candidate.source for candidate in dropped).items():
        connection.execute("UPDATE sources SET alerts = alerts - ? WHERE name = ?", (number, source))
    return len(dropped), changes


def _drop_quarantined(connection: apsw.Connection, chosen: Sequence[tuple[int, int]], lease: Lease) -> int:
    fence(connection, lease)
    sources = [
        source
        for row in chosen
        if (
            source := connection.execute(
                "DELETE FROM quarantine WHERE rowid = ? AND last_seen = ? RETURNING source", row
            ).get
        )
    ]
    for source, number in Counter(sources).items():
        connection.execute("UPDATE sources SET quarantined = quarantined - ? WHERE id = ?", (number, source))
    return len(sources)
