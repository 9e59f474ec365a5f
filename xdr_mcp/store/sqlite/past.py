"""What was known at a moment. The journal tells which alerts changed since, and each change which version was before it.

So the alerts as they were at a seq are those whose head is no newer, which the indexes find, and the versions that were
overtaken since, which are read one by one: it takes time in proportion to what changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdr_mcp.store.sqlite.keys import microseconds
from xdr_mcp.store.sqlite.revisions import alert_of, newest_seq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import apsw

    from xdr_mcp.alert import Alert

_OVERTAKEN = """
SELECT key, seq, body FROM (
  SELECT coalesce(
    (SELECT m.key FROM moves AS m WHERE m.uid = b.uid AND m.seq > ?1 ORDER BY m.seq LIMIT 1),
    (SELECT a.key FROM alerts AS a WHERE a.uid = b.uid)
  ) AS key, b.seq AS seq, b.body AS body
  FROM changes AS c INDEXED BY overtaken CROSS JOIN changes AS b ON b.seq = c.before_seq
  WHERE c.seq > ?1 AND c.before_seq <= ?1
) WHERE key BETWEEN ?2 AND ?3
"""


def seq_at(connection: apsw.Connection, moment: datetime) -> int | None:
    """The newest seq that was saved by then; None when nothing was saved after, so that it is now. Times follow seq."""
    until = microseconds(moment)
    newest = newest_seq(connection)
    low, high = 0, newest
    middle = high
    while low < high:
        row = connection.execute(
            "SELECT seq, saved FROM changes WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[1] > until:
            high = middle - 1
        else:
            low = row[0]
        middle = (low + high + 1) // 2
    return None if low >= newest else low


def overtaken(connection: apsw.Connection, seq: int, least: int, largest: int) -> Iterator[tuple[int, int, Alert]]:
    """Key, seq and alert of every version that was the newest of its alert at ``seq`` and is not now, in no order.

    The key is where it stood in the listing, between ``least`` and ``largest``.
    """
    for key, version, body in connection.execute(_OVERTAKEN, (seq, least, largest)):
        yield key, version, alert_of(body)
