"""Very many alerts, cheaply: for load, where what an alert says matters less than that there are a hundred thousand.

Sizes are heavy-tailed (log-normal, median 2 KB, 99th percentile 30 KB). An alert is held as a few numbers and written
from a template when it is served, at about a microsecond, so a million cost no more memory than their ids.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from math import exp
from operator import itemgetter
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from xdr_mcp.simulator.company import Company, stable_uuid
from xdr_mcp.simulator.revision import Resource, Shape, canonical, stamp
from xdr_mcp.simulator.rules import RULES
from xdr_mcp.simulator.script import Story

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEDIAN = 2_000
_SIGMA = 1.164
"""ln(30 KB / 2 KB) divided by the normal distribution's 99th percentile."""
_LARGEST = 256_000
_SIZES: Final = 256
_MARK = re.compile(rb'"@@(n?)(\w+)@@"|@@(\w+)@@')
_GAPS: Final = (b"address", b"count", b"created", b"hash", b"host", b"id", b"raw", b"updated", b"user")
"""What a template leaves open, in the order of ``Catalogue.write``."""
_WORDS = "access account action agent blocked bytes child client command deny device domain drop event file flow hash image kernel load module network parent path pid policy port process proxy registry remote rule session socket system thread token user write".split()  # noqa: SIM905 (a list of words)


class Catalogue:
    """The templates and the ballast that bulk alerts of one estate share."""

    def __init__(self, seed: int, company: Company) -> None:
        rng = Random(f"bulk/{seed}")  # noqa: S311 (repeatable, not secret)
        self._formats = [_template(company, rule_id) for rule_id in RULES]
        smallest = len(self._formats[0][0]) + 200
        quantile = NormalDist(sigma=_SIGMA).inv_cdf
        sizes = (_MEDIAN * exp(quantile((number + 0.5) / _SIZES)) - smallest for number in range(_SIZES))
        self._ballast = [_ballast(rng, int(min(size, _LARGEST))) for size in sizes]
        self._hosts = [user.host.name.encode() for user in company.users]
        self._users = [user.account.encode() for user in company.users]

    def write(self, revision: BulkRevision) -> bytes:
        """The record of one bulk alert."""
        index = revision.index
        mixed = index * 2_654_435_761  # Knuth's multiplicative hash: neighbours differ in size
        identity = revision.alert_id.encode()
        created = stamp(revision.created).encode()
        template, pick = self._formats[index % len(self._formats)]
        values = (
            b"100.%d.%d.%d" % (64 + (mixed >> 8) % 64, (mixed >> 16) % 256, index % 256),
            b"%d" % revision.count,
            created,
            identity.replace(b"-", b"") * 2,
            self._hosts[mixed % len(self._hosts)],
            identity,
            self._ballast[(mixed >> 12) % _SIZES],
            created if revision.updated == revision.created else stamp(revision.updated).encode(),
            self._users[mixed % len(self._users)],
        )
        record: bytes = template % pick(values)
        return record


@dataclass(slots=True)
class BulkRevision:
    """A version of a bulk alert; see ``revision.Revision``."""

    alert_id: str
    number: int
    created: int
    updated: int
    index: int
    catalogue: Catalogue
    count: int = 1

    @property
    def record(self) -> Resource:
        """The resource as documented."""
        record: Resource = json.loads(self.catalogue.write(self))
        return record

    @property
    def events(self) -> tuple[Resource, ...]:
        """None: a load test asks for alerts only."""
        return ()

    @property
    def assets(self) -> tuple[Resource, ...]:
        """None."""
        return ()

    @property
    def contained(self) -> tuple[str, ...]:
        """None."""
        return ()

    def encode(self, shape: Shape | None) -> bytes:
        """The record as served."""
        if shape is None:
            return self.catalogue.write(self)
        return canonical(shape(self.alert_id, self.number, self.record))

    def touched(self, at: int) -> BulkRevision:
        """The next version: one more event at ``at``."""
        return replace(self, number=self.number + 1, updated=at, count=self.count + 1)

    def moved(self, created: int, updated: int) -> BulkRevision:
        """The same version with other times."""
        return replace(self, created=created, updated=updated)


def bulk_revisions(seed: int, first: int, times: Sequence[int], catalogue: Catalogue) -> list[BulkRevision]:
    """One new alert for each time (epoch milliseconds), numbered from ``first``."""
    return [
        BulkRevision(stable_uuid(seed, "bulk", index), 1, at, at, index, catalogue)
        for index, at in enumerate(times, start=first)
    ]


def _template(company: Company, rule_id: str) -> tuple[bytes, itemgetter[Any]]:
    """The canonical record of a rule's alert with gaps, and what picks their values in order."""
    story = Story(f"bulk/{rule_id}", 0, company, Random(rule_id))  # noqa: S311 (repeatable, not secret)
    fields = {
        "hostname": "@@host@@",
        "process_name": "svchost.exe",
        "rawEvents": "@@nraw@@",
        "sha256": "@@hash@@",
        "src_ip": "@@address@@",
        "user": "@@user@@",
    }
    story.alert(0, rule_id, f"{RULES[rule_id].name} on @@host@@ by @@user@@.", fields=fields, case=False)
    record = story.revisions[0].record
    attributes = record["attributes"]
    attributes.update(alertAggregationCount="@@ncount@@", totalEventMatchCount="@@ncount@@")
    attributes.update(createdAt="@@created@@", time="@@created@@")
    attributes.update(lastAggregatedTime="@@updated@@", updatedAt="@@updated@@")
    record.update(id="@@id@@", relationships={"assets": {"data": []}, "events": {"data": []}})
    places: list[int] = []

    def gap(match: re.Match[bytes]) -> bytes:
        bare, quoted, inside = match.groups()
        places.append(_GAPS.index(inside or quoted))
        return b"%b" if inside or bare else b'"%b"'

    text = canonical(record).replace(b"%", b"%%")
    return _MARK.sub(gap, text), itemgetter(*places)


def _ballast(rng: Random, size: int) -> bytes:
    """A JSON list of log lines of about ``size`` bytes."""
    lines: list[str] = []
    while size > 0:
        line = " ".join(rng.choices(_WORDS, k=12)) + f" {rng.getrandbits(64):016x}"
        lines.append(line[: max(size, 1)])
        size -= len(line) + 3
    return canonical(lines)
