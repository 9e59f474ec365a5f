"""Pages of alerts, joined from bytes that were made once; and the vices that strike a page."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, Final

from xdr_mcp.simulator.asked import TIMES, Asked, Condition, Refused, holds, select, sortable, value_of
from xdr_mcp.simulator.ledger import Entry, Ledger
from xdr_mcp.simulator.poison import POISONS, poison_id, poisoned
from xdr_mcp.simulator.revision import Resource, canonical

_INDEXED: Final = {"updatedAt", "createdAt"}
_NEVER: Final = 1 << 62


class Pages:
    """Finds, joins and spoils pages of alerts."""

    def __init__(self, ledger: Ledger, time_filter: str, rejection: int, offset_cap: int | None) -> None:
        self._ledger = ledger
        self._time_filter = time_filter
        self._rejection = rejection
        self._offset_cap = offset_cap
        self._kinds: Iterator[str] = cycle((*POISONS, "duplicate-id"))
        self._variant = 0
        self._told: list[Entry] = []

    def find(self, asked: Asked) -> tuple[list[Entry], int]:
        """The entries of a page, and how many there are in all. Raises Refused."""
        if self._offset_cap is not None and asked.offset + asked.limit > self._offset_cap:
            raise Refused(400, "Bad Request", f"page[offset] + page[limit] may not exceed {self._offset_cap}")
        conditions = self._allowed(asked.conditions)
        field, descending = asked.sort[0]
        plain = len(asked.sort) == 1 and field in _INDEXED and not asked.search
        if plain and all(condition.field == field and len(condition.values) == 1 for condition in conditions):
            index, low, high = self._range(field, conditions)
            start, end = low + asked.offset, min(low + asked.offset + asked.limit, high)
            if descending:
                start, end = max(low, high - asked.offset - asked.limit), max(low, high - asked.offset)
            keys = index[start:end]
            serials: Sequence[int] = [serial for _, serial in (reversed(keys) if descending else keys)]
            return [self._ledger.entries[serial] for serial in serials], high - low
        found = self._ledger.listing((conditions, asked.sort, asked.search), lambda: self._sorted(asked, conditions))
        return [self._ledger.entries[one] for one in found[asked.offset : asked.offset + asked.limit]], len(found)

    def body(self, entries: list[Entry], fields: frozenset[str], members: dict[str, Any]) -> bytes:
        """The answer: ``data``, ``included`` and the other members of the envelope."""
        records = self._spoil([self.record(entry, fields) for entry in entries], entries)
        included = self.included(entries)
        rest = canonical(members)[1:]
        return b"".join((b'{"data":[', b",".join(records), b'],"included":[', b",".join(included), b"],", rest))

    def record(self, entry: Entry, fields: frozenset[str]) -> bytes:
        """One alert as it is served."""
        encoded = self._ledger.record(entry.head)
        return canonical(select(json.loads(encoded), fields)) if fields else encoded

    def included(self, entries: list[Entry]) -> list[bytes]:
        """Assets and events of some alerts, each once, but for alerts that carry their own."""
        nests, encoded = self._ledger.drift.nests, self._ledger.included
        found: dict[str, bytes] = {}
        for entry in entries:
            head = entry.head
            if head.assets and not nests(head.alert_id, head.number):
                found.update(encoded(head))
        return list(found.values())

    def _allowed(self, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        """The conditions as this vendor takes them: times may be refused or overlooked."""
        timed = [condition for condition in conditions if condition.field in TIMES]
        if timed and self._time_filter == "rejected":
            detail = f"filter[{timed[0].field}] is not supported"
            raise Refused(self._rejection, "Unsupported filter", detail)
        if timed and self._time_filter == "ignored":
            return tuple(condition for condition in conditions if condition.field not in TIMES)
        return conditions

    def _range(self, field: str, conditions: tuple[Condition, ...]) -> tuple[list[tuple[int, int]], int, int]:
        """The part of an index that lies between the bounds, which are microseconds."""
        index = self._ledger.by_updated if field == "updatedAt" else self._ledger.by_created
        low, high = 0, _NEVER
        for _, operation, (bound, *_) in conditions:
            if operation in {"eq", "gte", "gt"}:
                low = max(low, -(-bound // 1000) if operation != "gt" else bound // 1000 + 1)
            if operation in {"eq", "lte", "lt"}:
                high = min(high, bound // 1000 if operation != "lt" else -(-bound // 1000) - 1)
        start = bisect_left(index, (low, -1))
        return index, start, max(start, bisect_left(index, (high + 1, -1)))

    def _sorted(self, asked: Asked, conditions: tuple[Condition, ...]) -> list[int]:
        records = {entry.serial: self._comparable(entry) for entry in self._ledger.entries}
        found = [
            serial
            for serial, record in records.items()
            if all(holds(record, condition) for condition in conditions)
            and (not asked.search or asked.search in canonical(record).decode().casefold())
        ]
        for field, descending in reversed(asked.sort):
            found.sort(key=lambda one: sortable(value_of(records[one], field)), reverse=descending)
        return found

    def _comparable(self, entry: Entry) -> Resource:
        return {**entry.head.record, "id": self._ledger.drift.public_id(entry.head.alert_id)}

    def _spoil(self, records: list[bytes], entries: list[Entry]) -> list[bytes]:
        """Let the vices of a page strike."""
        faults = self._ledger.faults
        if not entries or not faults.vices:
            return records
        if vice := faults.strikes("repeat"):
            again = faults.random.choices([*self._told, *entries], k=vice.amount)
            records = records + [self._ledger.record(entry.head) for entry in again]
        self._told = entries
        if vice := faults.strikes("poison"):
            for _ in range(vice.amount):
                place = faults.random.randrange(len(entries))
                records = [*records[:place], self._poison(entries[place]), *records[place:]]
        if faults.strikes("reorder"):
            records = faults.random.sample(records, len(records))
        return records

    def _poison(self, entry: Entry) -> bytes:
        kind = next(self._kinds)
        if kind == "duplicate-id":
            return self._older(entry)
        self._variant += 1
        alert_id = poison_id(self._ledger.faults.seed, kind, self._variant)
        return poisoned(kind, alert_id, self._ledger.record(entry.head))

    def _older(self, entry: Entry) -> bytes:
        """The version before this one, under the same id; made up where there is none."""
        head = entry.head
        return self._ledger.record(entry.before or head.moved(head.created, head.updated - 1))
