"""A page on its way into the tables, within one transaction of the caller.

Versions are taken in order, for the same alert may come twice in a page. One that cannot be kept, because it would not
be read back, is set aside alone. Heads are looked up and rows written many a statement (rows.py).
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
from msgspec import Struct, structs

from xdr_mcp.alert import ChangeKind, Status, change_kind
from xdr_mcp.interfaces import Saved
from xdr_mcp.store.sqlite.keys import Slots, microseconds
from xdr_mcp.store.sqlite.revisions import newest_seq
from xdr_mcp.store.sqlite.rows import insert
from xdr_mcp.store.sqlite.sources import source_id
from xdr_mcp.store.sqlite.tallies import Cell, adjust
from xdr_mcp.store.sqlite.versions import UNKEEPABLE, Form, Version, unkeepable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from xdr_mcp.store.sqlite.versions import Prepared

SAMPLES = 10_000
"""Lags that are kept of a source: the newest."""
CATCHING_UP = 7_200_000_000
"""Microseconds. When what is covered ended longer ago, a new version's age tells of our absence, not of the vendor."""

IMPLAUSIBLE = 86_400_000_000
"""Microseconds. A version from further in the future is not believed to be the newest: what comes after it replaces it."""

NEWEST_VERSIONS = 50
"""Of one alert and updated time, whose content a version is compared with; with all others, byte by byte alone."""

_STATUSES = {status.ocsf_id: status for status in Status}


class Head(Struct, gc=False):
    """The newest version of an alert, and its row's key."""

    key: int
    seq: int
    first_seq: int
    revision: int
    status: int
    created: int
    updated: int
    digest: bytes
    cell: Cell | None = None
    """Where the alert counts in the tallies that are stored; None when it is new."""


class Entry(Struct, gc=False):
    """What the journal is to say of a version, beside the version itself. Times are microseconds."""

    seq: int
    kind: ChangeKind
    revision: int
    fetched: int
    saved: int


def save_page(connection: apsw.Connection, prepared: Prepared, *, source: str, lease: str, now: datetime) -> Saved:
    """Store the page; what was done."""
    return _PageSave(connection, prepared, source_id(connection, source, lease), now).run()


def heads_of(connection: apsw.Connection, uids: Iterable[bytes]) -> dict[bytes, Head]:
    """The heads that are stored of these alerts."""
    wanted = tuple(uids)
    if not wanted:
        return {}
    rows = connection.execute(
        "SELECT json_group_array(json_array(hex(a.uid), a.key, a.seq, a.first_seq, a.revision, a.status, a.created,"
        " a.updated, hex(a.digest), a.severity, a.verdict)) FROM carray(?) AS wanted JOIN alerts AS a ON a.uid = wanted.value",
        (apsw.carray(wanted),),
    ).get
    heads: dict[bytes, Head] = {}
    for uid, key, seq, first_seq, revision, status, created, updated, digest, severity, verdict in _decode(rows):
        cell = Cell.of(created, severity, status, verdict)
        heads[bytes.fromhex(uid)] = Head(
            key, seq, first_seq, revision, status, created, updated, bytes.fromhex(digest), cell
        )
    return heads


_STORED = (
    "SELECT raw FROM changes WHERE uid = ?1 AND updated = ?2 AND digest = ?3 AND revision > 1"
    " UNION ALL SELECT raw FROM changes WHERE seq = ?4 AND updated = ?2"
    " UNION ALL SELECT raw FROM changes WHERE seq IN (SELECT seq FROM changes"
    " WHERE uid = ?1 AND updated = ?2 AND revision > 1 ORDER BY seq DESC LIMIT ?5)"
)
"""Records that a version may be the same as: of its bytes, the alert's first, the newest of its updated time."""

_decode = msgspec.json.Decoder(list[tuple[str, int, int, int, int, int, int, int, str, int, int]]).decode


class Journal:
    """Versions that are entered, in order, and then written: the journal, the heads of their alerts, what these are found by."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.seq: int = newest_seq(connection)
        self.heads: dict[bytes, Head] = {}
        self._keys: dict[bytes, int] = {}
        self._repeated: set[bytes] = set()
        """Alerts of which several versions came."""
        self._told: dict[tuple[bytes, int], dict[bytes, Version]] = {}
        self._changes: list[tuple[object, ...]] = []
        self._latest: dict[bytes, tuple[Head, Version, Form]] = {}
        self._moves: list[tuple[bytes, int, int]] = []

    def look_up(self, versions: Sequence[Version]) -> None:
        """Bring up what is stored of their alerts, and room for those that are new."""
        times = Counter([version.uid for version in versions])
        self._repeated = {uid for uid, number in times.items() if number > 1}
        self.heads = heads_of(self._connection, times)
        self._keys = {uid: head.key for uid, head in self.heads.items()}
        new = [version.created for version in versions if version.uid not in self.heads]
        self._slots = Slots(self._connection, new)

    def was_told(self, version: Version, head: Head) -> bool:
        """Whether this version stands in the journal already."""
        if (version.updated, version.digest) == (head.updated, head.digest):
            return True
        entered = self._told.get((version.uid, version.updated), {})
        if version.digest in entered:
            return True
        newest = islice(reversed(entered.values()), NEWEST_VERSIONS)
        if any(version.same_content(other.record.raw) for other in newest):
            return True
        stored = self._connection.execute(
            _STORED, (version.uid, version.updated, version.digest, head.first_seq, NEWEST_VERSIONS)
        )
        return any(version.same_content(raw) for (raw,) in stored)

    def enter(self, version: Version, head: Head | None, entry: Entry) -> None:
        """Put a version into the journal and at the head of its alert. Raises one of ``UNKEEPABLE``, having done nothing."""
        form = version.form
        self.seq = entry.seq
        self._changes.append(
            (
                *(entry.seq, version.uid, entry.revision, None if head is None else head.seq, entry.kind),
                *(version.updated, entry.fetched, entry.saved, version.digest, form.body, version.record.raw),
            )
        )
        if head is None:
            head = self.heads[version.uid] = Head(
                *(self._slots.take(version.created), entry.seq, entry.seq, entry.revision),
                *(form.cell.status, version.created, version.updated, version.digest),
            )
        else:
            self._move(version, head, entry)
        if version.uid in self._repeated:
            self._told.setdefault((version.uid, version.updated), {})[version.digest] = version
        self._latest[version.uid] = head, version, form

    def _move(self, version: Version, head: Head, entry: Entry) -> None:
        """Make ``version`` the head. When the vendor changed its created time, it moves in the listing."""
        if version.created != head.created:
            self._moves.append((version.uid, entry.seq, head.key))
            head.key = self._slots.take(version.created)
        head.seq, head.revision = entry.seq, entry.revision
        head.status = version.form.cell.status
        head.created, head.updated, head.digest = version.created, version.updated, version.digest

    def write(self) -> None:
        """Write what was entered."""
        # the full-text index empties its memory to the file before each row whose key is less than the one before
        latest = sorted(self._latest.values(), key=lambda entered: entered[0].key)
        left = [(key,) for uid, key in self._keys.items() if self.heads[uid].key != key]
        write = partial(insert, self._connection)
        write(
            "INSERT INTO changes (seq, uid, revision, before_seq, kind, updated, fetched, saved, digest, body, raw)",
            self._changes,
        )
        self._connection.executemany("DELETE FROM postings WHERE rowid = ?", left)
        write("INSERT INTO moves (uid, seq, key)", self._moves)
        write(
            "INSERT OR REPLACE INTO alerts (key, uid, seq, first_seq, revision, severity, status, verdict, created, updated,"
            " first_seen, last_seen, risk_score, confidence, count, digest)",
            [
                (head.key, version.uid, head.seq, head.first_seq, head.revision, *form.columns, version.digest)
                for head, version, form in latest
            ],
        )
        adjust(self._connection, self._shifts())
        write(
            "INSERT OR REPLACE INTO postings (rowid, title, description, other, terms)",
            [(head.key, *form.posting) for head, _, form in latest],
        )

    def _shifts(self) -> Counter[Cell]:
        """How many alerts more, or less, each cell of the tallies has."""
        latest = self._latest.values()
        shifts = Counter([form.cell for _, _, form in latest])
        shifts.subtract([head.cell for head, _, _ in latest if head.cell is not None])
        return shifts


class _PageSave:
    def __init__(self, connection: apsw.Connection, prepared: Prepared, source: int, now: datetime) -> None:
        self._connection = connection
        self._journal = Journal(connection)
        self._versions = prepared.versions
        self._now = microseconds(now)
        self._fetched = microseconds(prepared.page.fetched)
        self._source = source
        self._set_aside = list(prepared.set_aside)
        self._counts = dict.fromkeys(("created", "updated", "unchanged", "outdated"), 0)
        self._arrived: list[int] = []
        """When each version was updated that is the first of its alert or moved its updated time on."""

    def run(self) -> Saved:
        self._journal.look_up(self._versions)
        for version in self._versions:
            self._take(version)
        self._journal.write()
        quarantined = self._quarantine()
        self._count(quarantined)
        return Saved(**self._counts, quarantined=quarantined, last_seq=self._journal.seq)

    # ---- what each version is

    def _take(self, version: Version) -> None:
        head = self._journal.heads.get(version.uid)
        if head is None:
            self._arrived.append(version.updated)
            self._keep(version, head)
        elif self._journal.was_told(version, head):
            self._counts["unchanged"] += 1
        elif version.updated < head.updated <= self._now + IMPLAUSIBLE:
            self._counts["outdated"] += 1
        else:
            if version.updated > head.updated:
                self._arrived.append(version.updated)
            self._keep(version, head)

    def _keep(self, version: Version, head: Head | None) -> None:
        if head is None:
            kind, revision = ChangeKind.CREATED, 1
        else:
            # what a change did depends on the status alone, so the body before it need not be read
            alert = version.record.alert
            kind = change_kind(structs.replace(alert, status=_STATUSES[head.status]), alert)
            revision = head.revision + 1
        try:
            self._journal.enter(version, head, Entry(self._journal.seq + 1, kind, revision, self._fetched, self._now))
        except UNKEEPABLE as error:
            self._set_aside.append(unkeepable(version.record, error))
        else:
            self._counts["updated" if head else "created"] += 1

    # ---- writing

    def _quarantine(self) -> int:
        """Keep what was set aside; how much of it is new."""
        rows = [
            self._connection.execute(
                "INSERT INTO quarantine (source, digest, raw, reason, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET times = times + 1, last_seen = excluded.last_seen RETURNING times",
                (self._source, _digest(entry.raw), entry.raw, _storable(entry.reason), self._now, self._now),
            ).get
            for entry in self._set_aside
        ]
        return rows.count(1)

    def _count(self, quarantined: int) -> None:
        lags = self._lags()
        if not (lags or quarantined or self._counts["created"]):
            return
        samples = self._connection.execute(
            "UPDATE sources SET alerts = alerts + ?, quarantined = quarantined + ?, samples = samples + ?"
            " WHERE id = ? RETURNING samples",
            (self._counts["created"], quarantined, len(lags), self._source),
        ).get
        insert(
            self._connection,
            "INSERT OR REPLACE INTO lags (source, slot, lag)",
            [(self._source, (samples - number) % SAMPLES, lag) for number, lag in enumerate(lags, 1)],
        )

    def _lags(self) -> list[int]:
        """How late each new version came, where that tells of the vendor: not while we catch up with what we missed."""
        if not self._arrived:
            return []
        covered: list[tuple[Any, ...]] = self._connection.execute(
            "SELECT start, finish FROM coverage WHERE source = ? ORDER BY start", (self._source,)
        ).fetchall()
        end = covered[-1][1] if covered else 0
        live = self._now - end <= CATCHING_UP
        return [
            self._now - updated
            for updated in self._arrived
            if (live if updated > end else any(start <= updated <= finish for start, finish in covered))
        ]


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()
