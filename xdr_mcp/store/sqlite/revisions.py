"""The journal's rows as changes."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from xdr_mcp.alert import Alert, Change, ChangeKind, KeptChange
from xdr_mcp.store.sqlite.keys import LARGEST, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw

_CHANGES = (
    "SELECT c.seq, c.kind, c.revision, c.body, b.body, c.raw, c.fetched, c.saved"
    " FROM changes AS c LEFT JOIN changes AS b ON b.seq = c.before_seq"
)

_KINDS = {kind.value: kind for kind in ChangeKind}
_moment = lru_cache(64)(moment)
"""The changes of one page were fetched, and saved, at the same moment."""

MOST_BYTES = 8 * 1024 * 1024
"""What one reading takes into memory, more or less: it ends early rather than hold hundreds of hostile records at once."""

_REMEMBERED = 512
_LARGEST_REMEMBERED = 4 * 1024
"""Bytes. The newest alerts are listed again and again, and most take a thousand."""

body_of = msgspec.json.Encoder().encode
"""An alert as it is kept."""
alert_of = msgspec.json.Decoder(Alert).decode
"""The alert as it was kept."""
_alert_of_late = lru_cache(_REMEMBERED)(alert_of)


def listed_alert(body: bytes) -> Alert:
    """The alert as it was kept; of one that was listed lately, the same object."""
    return _alert_of_late(body) if len(body) <= _LARGEST_REMEMBERED else alert_of(body)


def uid_of(alert_id: str) -> bytes:
    """16 bytes that stand for an alert id, whatever its length. UnicodeEncodeError for what is no text."""
    return blake2b(alert_id.encode(), digest_size=16).digest()


def newest_seq(connection: apsw.Connection) -> int:
    """The newest change's seq; 0 when there was never one."""
    return connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").get or 0


def changes_after(connection: apsw.Connection, after: int, limit: int) -> tuple[Change, ...]:
    """Changes with a larger seq, ascending."""
    rows = connection.execute(f"{_CHANGES} WHERE c.seq > ? ORDER BY c.seq LIMIT ?", (min(after, LARGEST), limit))
    return tuple(_change(row) for row in bounded(rows))


def kept_changes_after(connection: apsw.Connection, after: int, limit: int) -> tuple[KeptChange, ...]:
    """The same, undecoded."""
    rows = connection.execute(
        "SELECT seq, kind, revision, body, raw, fetched, saved FROM changes WHERE seq > ? ORDER BY seq LIMIT ?",
        (min(after, LARGEST), limit),
    )
    kept: list[KeptChange] = []
    size = 0
    for seq, kind, revision, body, raw, fetched, saved in rows:
        times = _moment(fetched), _moment(saved)
        kept.append(
            KeptChange(
                seq=seq, kind=_KINDS[kind], revision=revision, body=body, raw=raw, fetched=times[0], saved=times[1]
            )
        )
        size += len(body) + len(raw)
        if size >= MOST_BYTES:
            break
    return tuple(kept)


def change_at(connection: apsw.Connection, uid: bytes, seq: int | None) -> Change | None:
    """The change of one alert that was its newest at ``seq``; None for now."""
    if seq is None:
        row = connection.execute(f"{_CHANGES} WHERE c.seq = (SELECT seq FROM alerts WHERE uid = ?)", (uid,)).fetchone()  # noqa: S608 (our own words; values are bound)
        return None if row is None else _change(row)
    return next(iter(_changes_of(connection, uid, 1, seq)), None)


def changes_of(connection: apsw.Connection, uid: bytes, limit: int) -> tuple[Change, ...]:
    """The changes of one alert, newest first."""
    return tuple(_changes_of(connection, uid, limit, LARGEST))


def _changes_of(connection: apsw.Connection, uid: bytes, limit: int, seq: int) -> Iterator[Change]:
    """The same, up to a seq. The first revision is not in the index of later ones."""
    rows = connection.execute(
        f"{_CHANGES} WHERE c.seq IN ("  # noqa: S608 (our own words; values are bound)
        "SELECT seq FROM changes WHERE uid = ?1 AND revision > 1 AND seq <= ?2"
        " UNION SELECT first_seq FROM alerts WHERE uid = ?1 AND first_seq <= ?2"
        " ORDER BY 1 DESC LIMIT ?3) ORDER BY c.seq DESC",
        (uid, seq, max(limit, 0)),
    )
    return map(_change, bounded(rows))


def bounded(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows until they have grown too large, the first one in any case."""
    size = 0
    for row in rows:
        yield row
        for value in row:
            if isinstance(value, bytes):
                size += len(value)
        if size >= MOST_BYTES:
            return


def _change(row: Sequence[Any]) -> Change:
    seq, kind, revision, body, before, raw, fetched, saved = row
    return Change(
        seq=seq,
        kind=_KINDS[kind],
        revision=revision,
        alert=alert_of(body),
        before=None if before is None else alert_of(before),
        raw=raw,
        fetched=moment(fetched),
        saved=moment(saved),
    )
