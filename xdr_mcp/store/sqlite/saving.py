"""A page on its way into the tables, within one transaction of the caller.

Records are taken in order, for the same alert may come twice in a page. A record that cannot be kept, because it would not
be read back, is set aside alone.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
from msgspec import Struct, structs

from xdr_mcp.alert import Alert, ChangeKind, Status, change_kind
from xdr_mcp.interfaces import Page, Quarantined, Record, Saved
from xdr_mcp.query import terms_of, texts_of
from xdr_mcp.store.sqlite.keys import LARGEST, Slots, microseconds
from xdr_mcp.store.sqlite.revisions import alert_of, body_of, newest_seq, uid_of
from xdr_mcp.store.sqlite.sources import source_id
from xdr_mcp.store.sqlite.tallies import Cell, adjust
from xdr_mcp.store.sqlite.where import level_tokens, presence, term_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from xdr_mcp.store.sqlite.terms import Dictionary

SAMPLES = 10_000
"""Lags that are kept of a source: the newest."""
CATCHING_UP = 7_200_000_000
"""Microseconds. When what is covered ended longer ago, a new version's age tells of our absence, not of the vendor."""

IMPLAUSIBLE = 86_400_000_000
"""Microseconds. A version from further in the future is not believed to be the newest: what comes after it replaces it."""

UNKEEPABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""A lone surrogate, an integer out of range, a value of another type than the model says."""
_STATUSES = {status.ocsf_id: status for status in Status}


class Head(Struct):
    """The newest version of an alert, and its row's key."""

    key: int
    seq: int
    first_seq: int
    revision: int
    status: int
    created: int
    updated: int
    digest: bytes


class Version(Struct):
    """A record that is ready to be kept or recognised."""

    record: Record
    uid: bytes
    created: int
    updated: int
    digest: bytes

    @classmethod
    def of(cls, record: Record) -> Version:
        """Raises one of ``UNKEEPABLE`` for what cannot be kept."""
        alert = record.alert
        return cls(record, uid_of(alert.id), microseconds(alert.created), microseconds(alert.updated), record.digest())


class Entry(Struct):
    """What the journal is to say of a version, beside the version itself. Times are microseconds."""

    seq: int
    kind: ChangeKind
    revision: int
    fetched: int
    saved: int


def save_page(
    connection: apsw.Connection, dictionary: Dictionary, page: Page, *, source: str, lease: str, now: datetime
) -> tuple[Saved, Mapping[str, int]]:
    """Store the page; what was done, and the numbers of terms that may be remembered once this is committed."""
    return _PageSave(connection, dictionary, page, source_id(connection, source, lease), now).run()


class Journal:
    """Versions that are entered, in order, and then written: the journal, the heads of their alerts, what these are found by."""

    def __init__(self, connection: apsw.Connection, dictionary: Dictionary) -> None:
        self._connection = connection
        self._dictionary = dictionary
        self.seq: int = newest_seq(connection)
        self.heads: dict[bytes, Head] = {}
        self._keys: dict[bytes, int] = {}
        self._told: set[tuple[bytes, int, bytes]] = set()
        self._changes: list[tuple[object, ...]] = []
        self._latest: dict[bytes, Version] = {}
        self._moves: list[tuple[bytes, int, int]] = []
        self._cells: dict[bytes, Cell] = {}

    def look_up(self, versions: Sequence[Version]) -> None:
        """Bring up what is stored of their alerts, and room for those that are new."""
        self.heads = self._known_heads({version.uid for version in versions})
        self._keys = {uid: head.key for uid, head in self.heads.items()}
        new = [version.created for version in versions if version.uid not in self.heads]
        self._slots = Slots(self._connection, new)

    def _known_heads(self, uids: set[bytes]) -> dict[bytes, Head]:
        if not uids:
            return {}
        rows = self._connection.execute(
            "SELECT a.uid, a.severity, a.verdict, a.key, a.seq, a.first_seq, a.revision, a.status, a.created, a.updated,"
            " a.digest FROM carray(?) AS wanted JOIN alerts AS a ON a.uid = wanted.value",
            (apsw.carray(tuple(uids)),),
        )
        heads: dict[bytes, Head] = {}
        for uid, severity, verdict, *row in rows:
            head = heads[uid] = Head(*row)
            self._cells[uid] = Cell.of(head.created, severity, head.status, verdict)
        return heads

    def was_told(self, version: Version, head: Head) -> bool:
        """Whether this version stands in the journal already."""
        key = (version.uid, version.updated, version.digest)
        if (version.updated, version.digest) == (head.updated, head.digest) or key in self._told:
            return True
        found = self._connection.execute(
            "SELECT 1 FROM changes WHERE uid = ?1 AND updated = ?2 AND digest = ?3 AND revision > 1"
            " UNION ALL SELECT 1 FROM changes WHERE seq = ?4 AND updated = ?2 AND digest = ?3",
            (*key, head.first_seq),
        ).fetchone()
        return found is not None

    def enter(self, version: Version, head: Head | None, entry: Entry, body: bytes) -> None:
        """Put a version into the journal and at the head of its alert."""
        self.seq = entry.seq
        self._changes.append(
            (
                *(entry.seq, version.uid, entry.revision, head.seq if head else None, entry.kind.value),
                *(version.updated, entry.fetched, entry.saved, version.digest, body, version.record.raw),
            )
        )
        if head is None:
            self.heads[version.uid] = Head(
                self._slots.take(version.created),
                entry.seq,
                entry.seq,
                entry.revision,
                version.record.alert.status.ocsf_id,
                version.created,
                version.updated,
                version.digest,
            )
        else:
            self._move(version, head, entry)
        self._told.add((version.uid, version.updated, version.digest))
        self._latest[version.uid] = version

    def _move(self, version: Version, head: Head, entry: Entry) -> None:
        """Make ``version`` the head. When the vendor changed its created time, it moves in the listing."""
        if version.created != head.created:
            self._moves.append((version.uid, entry.seq, head.key))
            head.key = self._slots.take(version.created)
        head.seq, head.revision = entry.seq, entry.revision
        head.status = version.record.alert.status.ocsf_id
        head.created, head.updated, head.digest = version.created, version.updated, version.digest

    def write(self) -> Mapping[str, int]:
        """Write what was entered; the numbers of terms, to be remembered once this is committed."""
        if not self._changes:
            return {}
        latest = [(self.heads[uid], version) for uid, version in self._latest.items()]
        left = [(key,) for uid, key in self._keys.items() if self.heads[uid].key != key]
        indexed = [(head.key, _Indexed.of(version.record.alert)) for head, version in latest]
        numbers = self._dictionary.number(self._connection, {name for _, entry in indexed for name in entry.names})
        self._connection.executemany(
            "INSERT INTO changes (seq, uid, revision, before_seq, kind, updated, fetched, saved, digest, body, raw)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._changes,
        )
        self._connection.executemany("DELETE FROM postings WHERE rowid = ?", left)
        self._connection.executemany("INSERT INTO moves (uid, seq, key) VALUES (?, ?, ?)", self._moves)
        self._connection.executemany(
            "INSERT OR REPLACE INTO alerts (key, uid, seq, first_seq, revision, severity, status, verdict, created,"
            " updated, first_seen, last_seen, risk_score, confidence, count, digest)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_alert_row(head, version) for head, version in latest],
        )
        cells = Counter(_cell(version) for _, version in latest)
        cells.subtract(self._cells[uid] for uid in self._latest if uid in self._cells)
        adjust(self._connection, cells)
        self._connection.executemany(
            "INSERT OR REPLACE INTO postings (rowid, title, description, other, terms) VALUES (?, ?, ?, ?, ?)",
            [(key, *entry.texts, entry.tokens(numbers)) for key, entry in indexed],
        )
        return numbers


class _PageSave:
    def __init__(
        self, connection: apsw.Connection, dictionary: Dictionary, page: Page, source: int, now: datetime
    ) -> None:
        self._connection = connection
        self._journal = Journal(connection, dictionary)
        self._page = page
        self._now = microseconds(now)
        self._fetched = microseconds(page.fetched)
        self._source = source
        self._set_aside = list(page.quarantined)
        self._counts = dict.fromkeys(("created", "updated", "unchanged", "outdated"), 0)
        self._arrived: list[int] = []
        """When each version was updated that is the first of its alert or moved its updated time on."""

    def run(self) -> tuple[Saved, Mapping[str, int]]:
        versions = [version for record in self._page.records if (version := self._version(record))]
        self._journal.look_up(versions)
        for version in versions:
            self._take(version)
        numbers = self._journal.write()
        quarantined = self._quarantine()
        self._count(quarantined)
        return Saved(**self._counts, quarantined=quarantined, last_seq=self._journal.seq), numbers

    # ---- what each record is

    def _version(self, record: Record) -> Version | None:
        try:
            return Version.of(record)
        except UNKEEPABLE as error:
            self._refuse(record, error)
            return None

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
        try:
            body = readable(version.record.alert)
        except UNKEEPABLE as error:
            self._refuse(version.record, error)
            return
        alert = version.record.alert
        if head is None:
            kind, revision = change_kind(None, alert), 1
            self._counts["created"] += 1
        else:
            # what a change did depends on the status alone, so the body before it need not be read
            kind = change_kind(structs.replace(alert, status=_STATUSES[head.status]), alert)
            revision = head.revision + 1
            self._counts["updated"] += 1
        self._journal.enter(version, head, Entry(self._journal.seq + 1, kind, revision, self._fetched, self._now), body)

    def _refuse(self, record: Record, error: Exception) -> None:
        self._set_aside.append(Quarantined(record.raw, f"cannot be kept: {error}"))

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
        self._connection.executemany(
            "INSERT OR REPLACE INTO lags (source, slot, lag) VALUES (?, ?, ?)",
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
            if (live and updated > end) or any(start <= updated <= finish for start, finish in covered)
        ]


class _Indexed(Struct):
    """What an alert is found by."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    levels: str

    @classmethod
    def of(cls, alert: Alert) -> _Indexed:
        terms = tuple(terms_of(alert))
        fields = dict.fromkeys(field for field, _ in terms)
        names = (*(presence(field) for field in fields), *(term_name(field, value) for field, value in terms))
        return cls(tuple(text for _, text in texts_of(alert)), names, level_tokens(alert))

    def tokens(self, numbers: Mapping[str, int]) -> str:
        return " ".join((self.levels, *(f"t{numbers[name]}" for name in self.names)))


def readable(alert: Alert) -> bytes:
    """The alert as JSON that is known to be read back: what cannot be would stop every reader of changes for good."""
    if alert.count > LARGEST:
        raise OverflowError(f"count {alert.count} is out of range")
    body = body_of(alert)
    alert_of(body)
    return body


def _alert_row(head: Head, version: Version) -> tuple[object, ...]:
    alert = version.record.alert
    return (
        *(head.key, version.uid, head.seq, head.first_seq, head.revision),
        *(alert.severity.rank, alert.status.ocsf_id, alert.verdict.ocsf_id, version.created, version.updated),
        *(_moment_or_none(alert.first_seen), _moment_or_none(alert.last_seen)),
        *(alert.risk_score, alert.confidence, alert.count, version.digest),
    )


def _cell(version: Version) -> Cell:
    alert = version.record.alert
    return Cell.of(version.created, alert.severity.rank, alert.status.ocsf_id, alert.verdict.ocsf_id)


def _moment_or_none(value: datetime | None) -> int | None:
    return None if value is None else microseconds(value)


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()
