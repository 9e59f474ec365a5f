"""What the API shows at this moment: the head of every alert, sorted by its times, and the truth to compare a client with.

The estate says what happened; the ledger decides when it is seen (a late arrival waits here) and keeps the indexes, so that
a request costs two bisections and a join. An older version never replaces a newer one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from xdr_mcp.simulator.drift import Drift
from xdr_mcp.simulator.faults import Faults
from xdr_mcp.simulator.revision import Resource, Revision, canonical, digest_of, milliseconds_of, stamp
from xdr_mcp.simulator.scenario import Estate
from xdr_mcp.simulator.writing import Written

_REMEMBERED: Final = 16
"""Filtered and sorted listings kept for the pages that follow."""

_MANY: Final = 1_000
"""From about so many changes at once, sorting beats inserting each."""


@dataclass(slots=True)
class Entry:
    """One alert: its newest version, and the one before."""

    serial: int
    head: Revision
    before: Revision | None = None
    plain: Revision | None = None
    """The newest version without what was written to it; None where nothing was."""
    written: Written | None = None


class Ledger:
    """The visible state of one simulated tenant."""

    def __init__(self, estate: Estate, faults: Faults, drift: Drift) -> None:
        self.estate = estate
        self.faults = faults
        self.drift = drift
        self.version = 0
        """Grows with every change that is seen."""
        self.revisions = 0
        self.entries: list[Entry] = []
        self.by_updated: list[tuple[int, int]] = []
        """(epoch milliseconds, serial), ascending; so is ``by_created``."""
        self.by_created: list[tuple[int, int]] = []
        self.assets: dict[str, Resource] = {asset["id"]: asset for asset in estate.company.assets()}
        self.contained: set[str] = set()
        self.events: dict[str, Resource] = {}
        self._by_id: dict[str, Entry] = {}
        self._of_asset: dict[str, list[int]] = {}
        self._encoded: dict[str, bytes] = {}
        self._late: list[tuple[int, int, Revision]] = []
        self._tie = count()
        self._last_updated = 0
        self._listings: OrderedDict[tuple[Any, ...], Sequence[int]] = OrderedDict()
        self._shape = drift.shape if drift else None
        self._take(estate.arrivals())

    @property
    def waiting(self) -> int:
        """Versions that have happened and are not seen yet."""
        return len(self._late)

    def now(self) -> int:
        """The vendor's clock in epoch milliseconds."""
        return milliseconds_of(self.estate.now())

    def refresh(self) -> None:
        """Show what has become visible since the last look. Called before every answer."""
        arrived = self.estate.arrivals()
        if arrived:
            arrived = [self._equal(revision) for revision in arrived]
            arrived = [revision for revision in arrived if not self._postpone(revision)]
        now = self.now()
        while self._late and self._late[0][0] <= now:
            arrived.append(heappop(self._late)[2])
        self._take(arrived)

    def settle(self) -> None:
        """Show what was held back as late, now."""
        self.refresh()
        self._take([revision for _, _, revision in sorted(self._late)])
        self._late.clear()

    def find(self, alert_id: str) -> Entry | None:
        """An alert by the id it is known by."""
        return self._by_id.get(alert_id)

    def record(self, revision: Revision) -> bytes:
        """A version as it is served."""
        return revision.encode(self._shape)

    def included(self, revision: Revision) -> Iterator[tuple[str, bytes]]:
        """The assets and events of a version, as keys and bytes."""
        for resource in (*revision.assets, *revision.events):
            key = resource["id"]
            encoded = self._encoded.get(key)
            if encoded is None:
                encoded = self._encoded[key] = canonical(resource)
            yield key, encoded

    def alerts_of(self, asset_id: str) -> list[Entry]:
        """Alerts that concern an asset."""
        return [self.entries[serial] for serial in self._of_asset.get(asset_id, ())]

    def listing(self, key: tuple[Any, ...], build: Callable[[], Sequence[int]]) -> Sequence[int]:
        """Serials in a filtered order: built once for all the pages of a question, until something changes."""
        key = (self.version, *key)
        if key not in self._listings:
            self._listings[key] = build()
            if len(self._listings) > _REMEMBERED:
                self._listings.popitem(last=False)
        return self._listings[key]

    def touch(self, number: int) -> None:
        """Let some alerts that are likely to be read just now change: the newest half of them, drawn by the faults."""
        recent = self.by_updated[len(self.by_updated) // 2 :]
        for _, serial in self.faults.random.sample(recent, min(number, len(recent))):
            self.touch_one(self.entries[serial])

    def touch_one(self, entry: Entry) -> None:
        """Let an alert change now."""
        self._take([(entry.plain or entry.head).touched(max(self.now(), entry.head.updated + 1))])

    def write(self, entry: Entry, wanted: Mapping[str, Any]) -> None:
        """Let somebody write to an alert now."""
        at = max(self.now(), entry.head.updated + 1)
        entry.plain = entry.plain or entry.head
        entry.written = entry.written or Written()
        entry.written.take(wanted, at)
        self._take([entry.plain.moved(entry.head.created, at)])

    def truth(self) -> Iterator[dict[str, Any]]:
        """What a complete and correct client knows now: every alert with its newest version."""
        for _, serial in list(self.by_updated):
            entry = self.entries[serial]
            yield {
                "id": self.drift.public_id(entry.head.alert_id),
                "createdAt": stamp(entry.head.created),
                "updatedAt": stamp(entry.head.updated),
                "revision": entry.head.number,
                "digest": digest_of(self.record(entry.head)),
            }

    def _equal(self, revision: Revision) -> Revision:
        """Give the version the time of the one before it, where the vice strikes and it does not confuse the alert."""
        last, self._last_updated = self._last_updated, revision.updated
        vice = self.faults.active("equal")
        if vice is None or not 0 < revision.updated - last <= vice.seconds * 1000:
            return revision
        entry = self._by_id.get(self.drift.public_id(revision.alert_id))
        if entry is not None and entry.head.updated >= last:
            return revision
        if not self.faults.strikes("equal", revision.alert_id, revision.number):
            return revision
        self._last_updated = last
        return revision.moved(entry.head.created if entry else min(revision.created, last), last)

    def _postpone(self, revision: Revision) -> bool:
        """Hold the version back, where the vice strikes."""
        vice = self.faults.strikes("late", revision.alert_id, revision.number)
        if vice is None:
            return False
        delay = vice.seconds * 1000 * (0.2 + 0.8 * self.faults.chance("delay", revision.alert_id, revision.number))
        heappush(self._late, (revision.updated + int(delay), next(self._tie), revision))
        return True

    def _take(self, revisions: Sequence[Revision]) -> None:
        if not revisions:
            return
        self.version += 1
        if len(revisions) < _MANY:
            for revision in revisions:
                self._index(*self._show(revision))
            return
        for revision in revisions:
            self._show(revision)
        self.by_updated = sorted((entry.head.updated, entry.serial) for entry in self.entries)
        self.by_created = sorted((entry.head.created, entry.serial) for entry in self.entries)

    def _show(self, revision: Revision) -> tuple[Entry, int | None]:
        """Make the version the head, unless it is overtaken. Gives the entry and the updated time it had before."""
        public = self.drift.public_id(revision.alert_id)
        entry = self._by_id.get(public)
        if entry is None:
            entry = self._by_id[public] = Entry(len(self.entries), revision)
            self.entries.append(entry)
            for asset in revision.assets:
                self._of_asset.setdefault(asset["id"], []).append(entry.serial)
            was = None
        else:
            was = entry.head.updated
            if revision.updated <= was:
                return entry, was
            if revision.created != entry.head.created:
                revision = revision.moved(entry.head.created, revision.updated)
            if entry.written is not None:
                entry.plain = revision
                revision = entry.written.over(revision, entry.head.number + 1, revision.updated)
            entry.before, entry.head = entry.head, revision
        self.revisions += 1
        self.contained.update(revision.contained)
        self.events.update((event["id"], event) for event in revision.events)
        return entry, was

    def _index(self, entry: Entry, was: int | None) -> None:
        """Move one entry to its place in the order of times."""
        if was is None:
            insort(self.by_created, (entry.head.created, entry.serial))
        else:
            del self.by_updated[bisect_left(self.by_updated, (was, entry.serial))]
        insort(self.by_updated, (entry.head.updated, entry.serial))
