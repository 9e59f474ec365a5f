"""One version of one alert, as the vendor will show it from a moment on, and the bytes it is served as.

The bytes are made once and are canonical (keys sorted, no blanks), so the digest of a revision is the hash of what was
served: a client that hashes the canonical form of the record it kept gets the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Protocol

Resource = dict[str, Any]
"""A JSON:API resource: ``id``, ``type``, ``attributes`` and perhaps ``relationships``."""

Shape = Callable[[str, int, Resource], Resource]
"""Changes how a record looks, never what it means; gets the alert's id, the revision's number and the record."""


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no blanks, in UTF-8."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest_of(record: bytes) -> str:
    """32 hexadecimal digits: BLAKE2b-128 over the canonical form of a record."""
    return blake2b(record, digest_size=16).hexdigest()


def stamp(milliseconds: int) -> str:
    """Epoch milliseconds as the vendor writes a time: ``2026-07-28T09:15:00.123Z``."""
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC).isoformat()[:19]}.{milliseconds % 1000:03d}Z"


def milliseconds_of(moment: datetime) -> int:
    """An aware datetime in whole epoch milliseconds."""
    return int(moment.timestamp() * 1000)


class Revision(Protocol):
    """What the ledger needs to know of one version of an alert."""

    alert_id: str
    number: int
    created: int
    """Epoch milliseconds, as are all times here."""
    updated: int

    @property
    def record(self) -> Resource:
        """The JSON:API resource as documented, before any drift."""
        ...

    @property
    def events(self) -> tuple[Resource, ...]:
        """The alert's events so far."""
        ...

    @property
    def assets(self) -> tuple[Resource, ...]:
        """The machines and accounts concerned."""
        ...

    @property
    def contained(self) -> tuple[str, ...]:
        """Ids of the assets that are cut off from the network from now on."""
        ...

    def encode(self, shape: Shape | None) -> bytes:
        """The record as served."""
        ...

    def touched(self, at: int) -> Revision:
        """The next version: one more event was aggregated at ``at``."""
        ...

    def moved(self, created: int, updated: int) -> Revision:
        """The same version with other times."""
        ...


@dataclass(slots=True)
class StoryRevision:
    """A version of an alert that a story tells."""

    alert_id: str
    number: int
    created: int
    updated: int
    attributes: Mapping[str, Any]
    """Everything but the times."""
    aggregated: int = 0
    """When the last event was aggregated."""
    events: tuple[Resource, ...] = ()
    assets: tuple[Resource, ...] = ()
    contained: tuple[str, ...] = ()
    _encoded: bytes | None = field(default=None, repr=False)

    @property
    def record(self) -> Resource:
        """The resource as documented, before any drift."""
        times = {
            "createdAt": stamp(self.created),
            "lastAggregatedTime": stamp(self.aggregated),
            "time": stamp(self.created),
            "updatedAt": stamp(self.updated),
        }
        relationships = {
            name: {"data": [{"id": resource["id"], "type": resource["type"]} for resource in resources]}
            for name, resources in (("assets", self.assets), ("events", self.events))
        }
        return {
            "attributes": {**self.attributes, **times},
            "id": self.alert_id,
            "relationships": relationships,
            "type": "alert",
        }

    def encode(self, shape: Shape | None) -> bytes:
        """The record as served; made once."""
        if self._encoded is None:
            record = self.record
            if shape is not None:
                record = {**record, "included": [*self.assets, *self.events]}
                record = shape(self.alert_id, self.number, record)
            self._encoded = canonical(record)
        return self._encoded

    def touched(self, at: int) -> StoryRevision:
        """The next version: one more event was aggregated at ``at``."""
        attributes = {
            **self.attributes,
            "alertAggregationCount": self.attributes["alertAggregationCount"] + 1,
            "totalEventMatchCount": self.attributes["totalEventMatchCount"] + 1,
        }
        return StoryRevision(self.alert_id, self.number + 1, self.created, at, attributes, at, self.events, self.assets)

    def moved(self, created: int, updated: int) -> StoryRevision:
        """The same version with other times."""
        aggregated = max(created, min(self.aggregated, updated))
        return replace(self, created=created, updated=updated, aggregated=aggregated, _encoded=None)
