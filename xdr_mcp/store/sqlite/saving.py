"""A page on its way into the tables, within one transaction of the caller.

Records are taken in order, for the same alert may come twice in a page. A record that cannot be kept, because it would not
be read back, is set aside alone.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
from msgspec import Struct, structs

from xdr_mcp.alert import Alert, Status, change_kind
from xdr_mcp.interfaces import Page, Quarantined, Record, Saved
from xdr_mcp.query import terms_of, texts_of
from xdr_mcp.store.sqlite.keys import LARGEST, Slots, microseconds
from xdr_mcp.store.sqlite.revisions import alert_of, body_of, newest_seq, uid_of
from xdr_mcp.store.sqlite.sources import source_id
from xdr_mcp.store.sqlite.where import level_tokens, presence, term_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from xdr_mcp.store.sqlite.terms import Dictionary

SAMPLES = 10_000
"""Lags that are kept of a source: the newest."""
CATCHING_UP = 7_200_000_000
"""Microseconds. When what is covered ended longer ago, a new version's age tells of our absence, not of the vendor."""

IMPLAUSIBLE = 86_400_000_000
"""Microseconds. A version from further in the future is not believed to be the newest: what comes after it replaces it."""

_UNKEEPABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
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


def save_page(
    connection: apsw.Connection, dictionary: Dictionary, page: Page, *, source: str, lease: str, now: datetime
) -> tuple[Saved, Mapping[str, int]]:
    """Store the page; what was done, and the numbers of terms that may be remembered once this is committed."""
    return _PageSave(connection, dictionary, page, source_id(connection, source, lease), now).run()


class _PageSave:
    def __init__(
        self, connection: apsw.Connection, dictionary: Dictionary, page: Page, source: int, now: datetime
    ) -> None:
        self._connection = connection
        self._dictionary = dictionary
        self._page = page
        self._now = microseconds(now)
        self._fetched = microseconds(page.fetched)
        self._source = source
        self._set_aside = list(page.quarantined)
        self._counts = dict.fromkeys(("created", "updated", "unchanged", "outdated"), 0)
        self._seq: int = newest_seq(connection)
        self._told: set[tuple[bytes, int, bytes]] = set()
        self._arrived: list[int] = []
        """When each version was updated that is the first of its alert or moved its updated time on."""
        self._changes: list[tuple[object, ...]] = []
        self._latest: dict[bytes, Version] = {}
        self._heads: dict[bytes, Head] = {}
        self._keys: dict[bytes, int] = {}

    def run(self) -> tuple[Saved, Mapping[str, int]]:
        versions = [version for record in self._page.records if (version := self._version(record))]
        self._heads = self._known_heads({version.uid for version in versions})
        self._keys = {uid: head.key for uid, head in self._heads.items()}
        new = [version.created for version in versions if version.uid not in self._heads]
        self._slots = Slots(self._connection, new)
        for version in versions:
            self._take(version)
        numbers = self._write()
        quarantined = self._quarantine()
        self._count(quarantined)
        return Saved(**self._counts, quarantined=quarantined, last_seq=self._seq), numbers

    # ---- what each record is

    def _version(self, record: Record) -> Version | None:
        alert = record.alert
        try:
            return Version(
                record, uid_of(alert.id), microseconds(alert.created), microseconds(alert.updated), record.digest()
            )
        except _UNKEEPABLE as error:
            self._refuse(record, error)
            return None

    def _known_heads(self, uids: set[bytes]) -> dict[bytes, Head]:
        if not uids:
            return {}
        rows = self._connection.execute(
            "SELECT a.uid, a.key, a.seq, a.first_seq, a.revision, a.status, a.created, a.updated, a.digest"
            " FROM carray(?) AS wanted JOIN alerts AS a ON a.uid = wanted.value",
            (apsw.carray(tuple(uids)),),
        )
        return {uid: Head(*head) for uid, *head in rows}

    def _take(self, version: Version) -> None:
        head = self._heads.get(version.uid)
        if head is None:
            self._arrived.append(version.updated)
            self._keep(version, head)
        elif self._was_told(version, head):
            self._counts["unchanged"] += 1
        elif version.updated < head.updated <= self._now + IMPLAUSIBLE:
            self._counts["outdated"] += 1
        else:
            if version.updated > head.updated:
                self._arrived.append(version.updated)
            self._keep(version, head)

    def _was_told(self, version: Version, head: Head) -> bool:
        key = (version.uid, version.updated, version.digest)
        if (version.updated, version.digest) == (head.updated, head.digest) or key in self._told:
            return True
        found = self._connection.execute(
            "SELECT 1 FROM changes WHERE uid = ?1 AND updated = ?2 AND digest = ?3 AND revision > 1"
            " UNION ALL SELECT 1 FROM changes WHERE seq = ?4 AND updated = ?2 AND digest = ?3",
            (*key, head.first_seq),
        ).fetchone()
        return found is not None

    def _keep(self, version: Version, head: Head | None) -> None:
        try:
            body = _readable(version.record.alert)
        except _UNKEEPABLE as error:
            self._refuse(version.record, error)
            return
        alert = version.record.alert
        self._seq += 1
        if head is None:
            kind, before, revision = change_kind(None, alert), None, 1
            self._heads[version.uid] = Head(
                self._slots.take(version.created),
                self._seq,
                self._seq,
                1,
                alert.status.ocsf_id,
                version.created,
                version.updated,
                version.digest,
            )
            self._counts["created"] += 1
        else:
            # what a change did depends on the status alone, so the body before it need not be read
            kind = change_kind(structs.replace(alert, status=_STATUSES[head.status]), alert)
            before, revision = head.seq, head.revision + 1
            self._move(version, head)
            self._counts["updated"] += 1
        self._changes.append(
            (
                *(self._seq, version.uid, revision, before, kind.value, version.updated),
                *(self._fetched, self._now, version.digest, body, version.record.raw),
            )
        )
        self._told.add((version.uid, version.updated, version.digest))
        self._latest[version.uid] = version

    def _move(self, version: Version, head: Head) -> None:
        """Make ``version`` the head. When the vendor changed its created time, it moves in the listing."""
        if version.created != head.created:
            head.key = self._slots.take(version.created)
        head.seq, head.revision = self._seq, head.revision + 1
        head.status = version.record.alert.status.ocsf_id
        head.created, head.updated, head.digest = version.created, version.updated, version.digest

    def _refuse(self, record: Record, error: Exception) -> None:
        self._set_aside.append(Quarantined(record.raw, f"cannot be kept: {error}"))

    # ---- writing

    def _write(self) -> Mapping[str, int]:
        if not self._changes:
            return {}
        latest = [(self._heads[uid], version) for uid, version in self._latest.items()]
        left = [(key,) for uid, key in self._keys.items() if self._heads[uid].key != key]
        indexed = [(head.key, _Indexed.of(version.record.alert)) for head, version in latest]
        numbers = self._dictionary.number(self._connection, {name for _, entry in indexed for name in entry.names})
        self._connection.executemany(
            "INSERT INTO changes (seq, uid, revision, before_seq, kind, updated, fetched, saved, digest, body, raw)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._changes,
        )
        self._connection.executemany("DELETE FROM postings WHERE rowid = ?", left)
        self._connection.executemany(
            "INSERT OR REPLACE INTO alerts (key, uid, seq, first_seq, revision, severity, status, verdict, created,"
            " updated, first_seen, last_seen, risk_score, confidence, count, digest)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_alert_row(head, version) for head, version in latest],
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO postings (rowid, title, description, other, terms) VALUES (?, ?, ?, ?, ?)",
            [(key, *entry.texts, entry.tokens(numbers)) for key, entry in indexed],
        )
        return numbers

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


def _readable(alert: Alert) -> bytes:
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


def _moment_or_none(value: datetime | None) -> int | None:
    return None if value is None else microseconds(value)


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()
