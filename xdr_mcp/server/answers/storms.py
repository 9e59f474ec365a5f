"""Storms: alerts that differ only in what a counter, a clock or a hash wrote fold into one row.

Near-duplicates share a source, a rule, the entity that an analyst would name first, severity, status, and the template of
the title: the title with its numbers, ids, addresses and hashes taken out. What a row says is therefore true of every
alert that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from xdr_mcp.alert import Alert
from xdr_mcp.query import literal, words_of
from xdr_mcp.server.answers.faces import Face, Fingerprint, face_of
from xdr_mcp.untrusted import contained

MEMBERS_NAMED = 20
"""A storm of up to so many alerts names them all; of a larger one, the row says by which query they are found."""

_LONGEST_SAID = 200
_BESIDE_VARIABLES = re.compile(r"(?<!\w)\w*+(?:#\w*+)+")
"""What varies with the letters that touch it: ``web01`` is one word, of which ``web`` is none."""


class Storm(Struct):
    """Alerts that share a row; mostly one. The representative is the one that was listed first."""

    alert: Alert
    face: Face
    """The representative's."""
    ids: list[str]
    """Those of the others, while all are named."""
    count: int
    first: datetime
    last: datetime

    @classmethod
    def of(cls, alert: Alert) -> Storm:
        """One that holds only this alert."""
        return cls.seen(alert, face_of(alert))

    @classmethod
    def seen(cls, alert: Alert, face: Face) -> Storm:
        """One that holds only this alert, which has this face."""
        return cls(alert=alert, face=face, ids=[], count=1, first=alert.created, last=alert.created)

    def add(self, alert: Alert) -> None:
        """Take in one that was listed later."""
        self.count += 1
        self.ids = [*self.ids, alert.id] if self.count <= MEMBERS_NAMED else []
        self.first, self.last = min(self.first, alert.created), max(self.last, alert.created)

    @property
    def named(self) -> bool:
        """The ids of all its members are known."""
        return self.count == 1 + len(self.ids)


class Folding:
    """Folds a listing as it is read: at most ``limit`` storms, in the order in which they began."""

    def __init__(self, limit: int, *, apart: bool = False) -> None:
        """With ``apart``, nothing is folded."""
        self._limit = limit
        self._apart = apart
        self._storms: dict[Fingerprint, Storm] = {}

    @property
    def storms(self) -> tuple[Storm, ...]:
        """What was folded so far."""
        return tuple(self._storms.values())

    @property
    def missing(self) -> int:
        """How many more there may be."""
        return self._limit - len(self._storms)

    def take(self, alerts: Sequence[Alert]) -> int:
        """Fold these in; how many were taken before the first for which there is no row."""
        for taken, alert in enumerate(alerts):
            face = face_of(alert)
            key = (alert.id,) if self._apart else face.fingerprint
            if key in self._storms:
                self._storms[key].add(alert)
            elif self.missing:
                self._storms[key] = Storm.seen(alert, face)
            else:
                return taken
        return len(alerts)


def coarser(storms: Iterable[Storm]) -> list[Storm]:
    """The same alerts in fewer rows: those of one severity, status and template, whatever they are about."""
    grouped: dict[Fingerprint, Storm] = {}
    for storm in storms:
        alert = storm.alert
        whole = grouped.setdefault(
            (alert.severity, alert.status, storm.face.template),
            Storm(alert, storm.face, [], 0, storm.first, storm.last),
        )
        whole.ids += [alert.id, *storm.ids] if whole.count else storm.ids
        whole.count += storm.count
        whole.first, whole.last = min(whole.first, storm.first), max(whole.last, storm.last)
    return list(grouped.values())


def members_query(storm: Storm, asked: str) -> str:
    """A query that finds every member of a storm that was met among the answers to ``asked``."""
    alert = storm.alert
    conditions = [f"({asked})"] if asked.strip() not in {"", "*"} else []
    conditions += [_said("source", alert.source), _said("rule", alert.rule_id or alert.rule_name)]
    conditions += [_said(entity.kind, entity.value) for entity in storm.face.principals[:1]]
    conditions += [f"severity:{alert.severity}", f"status:{alert.status}"]
    phrases = [" ".join(words_of(part)) for part in _BESIDE_VARIABLES.split(storm.face.template)]
    conditions.append(_said("title", max(phrases, key=len)))
    conditions += [f"created>={_second(storm.first)}", f"created<={_second(storm.last)}"]
    return " ".join(filter(None, conditions))


def _said(field: str, value: str) -> str:
    """A condition; none where the value is missing, too long to be said, or would not be read as it is written."""
    if not value or len(value) > _LONGEST_SAID or contained(value) != value:
        return ""
    return f"{field}:{literal(value)}"


def _second(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
