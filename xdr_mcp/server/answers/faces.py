"""The face of an alert: what folding and rows make of it, and of nothing else. It is made once for each version, and kept a while.

The newest alerts are told again and again: to each assistant, on each page that they are on, in each form that a budget allows.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert, Entity, EntityKind
from xdr_mcp.query import fold

KEPT_BYTES: Final = 1024 * 1024
"""Of alerts whose faces are kept, as JSON: some thousand alerts, which take some megabytes."""
LARGEST_KEPT: Final = 32 * 1024
"""Of one alert."""

_PRINCIPALS = (EntityKind.HOST, EntityKind.USER, EntityKind.EMAIL, EntityKind.RESOURCE, EntityKind.IP)
_VARIABLE = re.compile(
    r"[0-9a-f](?:"  # what all begin with stands once, so that what cannot begin one is stepped over at ten times the speed
    r"[0-9a-f]{7}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # a UUID
    r"|(?<![0-9a-z].)(?:(?<=[0-9])|(?=[a-f]*[0-9]))[0-9a-f]{5,}(?![0-9a-z])"  # a hash, or another hexadecimal id
    r"|(?<=[0-9])[0-9]*(?:[.:,/-][0-9]+)*"  # a number, an address, a date, a time
    r")"
)

Fingerprint: TypeAlias = tuple[str, ...]


class Face(Struct, frozen=True):
    """What is made of an alert."""

    principals: tuple[Entity, ...]
    template: str
    fingerprint: Fingerprint
    rows: dict[Struct, dict[str, Any]]
    """It as a row, by the row's shape, as far as it was told."""
    size: int
    """Bytes of the alert as JSON."""


class Faces:
    """Faces by alert, those used last."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most = most
        self._faces: OrderedDict[Alert, Face] = OrderedDict()
        self.size = 0
        """Bytes of their alerts as JSON."""

    def of(self, alert: Alert) -> Face:
        """The face of an alert; alerts that are equal have the same."""
        face = self._faces.get(alert)
        if face is not None:
            self._faces.move_to_end(alert)
            return face
        face = _face(alert)
        if face.size <= LARGEST_KEPT:
            self._faces[alert] = face
            self.size += face.size
        while self.size > self._most:
            self.size -= self._faces.popitem(last=False)[1].size
        return face


face_of = Faces().of
"""The face of an alert, kept for all of this process. It depends on the alert alone, so whoever asks may be told the same."""


def principals(alert: Alert) -> list[Entity]:
    """The entities an analyst would name first: one of each kind and value, hosts before users before the rest."""
    first: list[Entity | None] = [None] * len(_PRINCIPALS)
    for entity in reversed(alert.entities):
        if entity.kind in _PRINCIPALS:  # kinds are compared by identity; to hash one takes longer than all of it
            first[_PRINCIPALS.index(entity.kind)] = entity
    named = [entity for entity in first if entity is not None] or alert.entities
    by_value: dict[str, Entity] = {}
    for entity in named:
        by_value.setdefault(entity.value.casefold(), entity)  # a mail address is often the user, too
    return list(by_value.values())


def template(title: str) -> str:
    """The title folded, with ``#`` for whatever differs between two firings of one rule: numbers, ids, addresses, hashes."""
    return _VARIABLE.sub("#", fold(title))


def _face(alert: Alert) -> Face:
    named, title = tuple(principals(alert)), template(alert.title)
    about = [entity.kind + ":" + fold(entity.value) for entity in named[:1]]
    rule = alert.rule_id or alert.rule_name
    fingerprint = (alert.source, rule, *about, alert.severity, alert.status, title)
    return Face(named, title, fingerprint, {}, len(msgspec.json.encode(alert)))
