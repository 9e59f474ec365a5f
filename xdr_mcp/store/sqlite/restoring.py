"""Changes that an archive kept, on their way back into the tables, within one transaction of the caller.

Each is entered as a save would have entered it, but with what it says of itself: seq, kind, revision and times.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from xdr_mcp.errors import StoreError
from xdr_mcp.interfaces import Record
from xdr_mcp.store.sqlite.keys import LARGEST, microseconds
from xdr_mcp.store.sqlite.saving import Entry, Journal
from xdr_mcp.store.sqlite.sources import source_id
from xdr_mcp.store.sqlite.versions import UNKEEPABLE, Version

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from xdr_mcp.alert import Change


def restore_changes(connection: apsw.Connection, changes: Sequence[Change]) -> int:
    """Restore them; how many were not held.

    Raises:
        StoreError: one of them cannot be restored.
    """
    journal = Journal(connection)
    kept = [_kept(change) for change in changes]
    journal.look_up(kept)
    created: Counter[str] = Counter()
    restored = 0
    for change, version in zip(changes, kept, strict=True):
        head = journal.heads.get(version.uid)
        if head is not None and journal.was_told(version, head):
            continue
        if not journal.seq < change.seq <= LARGEST:
            raise StoreError(
                f"change {change.seq} ({change.alert.id}) is not in the store and comes before its newest, {journal.seq}; "
                "restore into a store that is empty"
            )
        revision = change.revision if head is None else max(change.revision, head.revision + 1)
        times = microseconds(change.fetched), microseconds(change.saved)
        journal.enter(version, head, Entry(change.seq, change.kind, revision, *times))
        created[change.alert.source] += head is None
        restored += 1
    journal.write()
    for source, alerts in created.items():
        number = source_id(connection, source, None)
        connection.execute("UPDATE sources SET alerts = alerts + ? WHERE id = ?", (alerts, number))
    return restored


def _kept(change: Change) -> Version:
    """The change as a version that can be kept. Raises StoreError."""
    try:
        version = Version.of(Record(change.alert, change.raw))
        version.form  # noqa: B018 (made when it is first asked for)
    except UNKEEPABLE as error:
        raise StoreError(f"change {change.seq} cannot be kept: {error}") from error
    return version
