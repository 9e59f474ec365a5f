"""The journal's rows as changes, and a listing of heads: what every reader asks for."""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from xdr_mcp.alert import Alert, Change, ChangeKind
from xdr_mcp.interfaces import Found, Position
from xdr_mcp.store.sqlite.keys import LARGEST, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw

    from xdr_mcp.store.sqlite.where import Where

_CHANGES = (
    "SELECT c.seq, c.kind, c.revision, c.body, b.body, c.raw, c.fetched, c.saved"
    " FROM changes AS c LEFT JOIN changes AS b ON b.seq = c.before_seq"
)

MOST_BYTES = 8 * 1024 * 1024
"""What one reading takes into memory, more or less: it ends early rather than hold hundreds of hostile records at once."""

body_of = msgspec.json.Encoder().encode
"""An alert as it is kept."""
alert_of = msgspec.json.Decoder(Alert).decode
"""The alert as it was kept."""


def uid_of(alert_id: str) -> bytes:
    """16 bytes that stand for an alert id, whatever its length. UnicodeEncodeError for what is no text."""
    return blake2b(alert_id.encode(), digest_size=16).digest()


def newest_seq(connection: apsw.Connection) -> int:
    """The newest change's seq; 0 when there was never one."""
    return connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").get or 0


def changes_after(connection: apsw.Connection, after: int, limit: int) -> tuple[Change, ...]:
    """Changes with a larger seq, ascending."""
    rows = connection.execute(f"{_CHANGES} WHERE c.seq > ? ORDER BY c.seq LIMIT ?", (min(after, LARGEST), limit))
    return tuple(_change(row) for row in _bounded(rows))


def newest_change(connection: apsw.Connection, uid: bytes) -> Change | None:
    """The newest change of one alert."""
    newest = "WHERE c.seq = (SELECT seq FROM alerts WHERE uid = ?)"
    row = connection.execute(f"{_CHANGES} {newest}", (uid,)).fetchone()
    return None if row is None else _change(row)


def newest_heads(connection: apsw.Connection, where: Where, limit: int, after: Position | None) -> Found:
    """A page of the listing."""
    largest = where.largest_key if after is None else min(where.largest_key, max(after.key, 0) - 1)
    tables, conditions, parameters = _led(where, largest)
    order = "postings.rowid" if where.match else "a.key"
    rows = connection.execute(
        f"SELECT a.key, c.body FROM {tables} CROSS JOIN changes AS c ON c.seq = a.seq WHERE {conditions}"  # noqa: S608 (our own words; values are bound)
        f" ORDER BY {order} DESC LIMIT ?",
        (*parameters, limit + 1),
    )
    page = [(key, alert_of(body)) for key, body in islice(_bounded(rows), limit)]
    alerts = tuple(alert for _, alert in page)
    if not page or next(rows, None) is None:
        return Found(alerts, None)
    return Found(alerts, Position(alerts[-1].created, page[-1][0]))


def count_heads(connection: apsw.Connection, where: Where) -> int:
    """How many alerts a query finds."""
    if not (where.match or where.conditions):
        every: int = connection.execute("SELECT coalesce(sum(alerts), 0) FROM sources").get
        return every
    tables, conditions, parameters = _led(where, where.largest_key)
    found: int = connection.execute(f"SELECT count(*) FROM {tables} WHERE {conditions}", parameters).get  # noqa: S608 (our own words; values are bound)
    return found


def _led(where: Where, largest: int) -> tuple[str, str, tuple[int | float | str, ...]]:
    """Tables, conditions and their parameters. The full-text index leads where it helps: in SQLite, CROSS JOIN keeps order."""
    keys = (where.least_key, largest, *where.parameters)
    if not where.match:
        return "alerts AS a", " AND ".join(("a.key BETWEEN ? AND ?", *where.conditions)), keys
    conditions = " AND ".join(("postings MATCH ?", "postings.rowid BETWEEN ? AND ?", *where.conditions))
    return "postings CROSS JOIN alerts AS a ON a.key = postings.rowid", conditions, (where.match, *keys)


def _bounded(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows until they have grown too large, the first one in any case."""
    size = 0
    for row in rows:
        yield row
        size += sum(len(value) for value in row if isinstance(value, bytes))
        if size >= MOST_BYTES:
            return


def _change(row: Sequence[Any]) -> Change:
    seq, kind, revision, body, before, raw, fetched, saved = row
    return Change(
        seq=seq,
        kind=ChangeKind(kind),
        revision=revision,
        alert=alert_of(body),
        before=None if before is None else alert_of(before),
        raw=raw,
        fetched=moment(fetched),
        saved=moment(saved),
    )
