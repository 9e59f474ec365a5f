"""Records that parsers refuse, put between good ones: a client must lose none of the good ones to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from xdr_mcp.simulator.company import stable_uuid
from xdr_mcp.simulator.revision import Resource, canonical

_VARIANTS: Final = 3
_NESTING: Final = 2_000
_DIGITS: Final = 5_000
_GAP: Final = b'"@@gap@@"'


def _with_gap(record: Resource, field: str, value: bytes) -> bytes:
    record["attributes"][field] = "@@gap@@"
    return canonical(record).replace(_GAP, value)


def _missing_id(record: Resource) -> bytes:
    del record["id"]
    return canonical(record)


POISONS: Final[dict[str, Callable[[Resource], bytes]]] = {
    "lone-surrogate": lambda record: _with_gap(record, "name", rb'"Half a pair: \ud800"'),
    "not-a-number": lambda record: _with_gap(record, "score", b"NaN"),
    "huge-integer": lambda record: _with_gap(record, "score", b"9" * _DIGITS),
    "deep-nesting": lambda record: _with_gap(record, "supportingData", b'{"a":' * _NESTING + b"1" + b"}" * _NESTING),
    "missing-id": _missing_id,
}
"""What spoils a record, by name; ``duplicate-id`` is made by the page, which knows the other version."""


def poison_id(seed: int, kind: str, variant: int) -> str:
    """The id of a poisoned record: a few for each kind, so that a long run adds no more."""
    return stable_uuid(seed, "poison", kind, variant % _VARIANTS)


def poisoned(kind: str, alert_id: str, neighbour: bytes) -> bytes:
    """A record like its neighbour, with an id of its own, spoilt."""
    record: Resource = json.loads(neighbour)
    record["id"] = alert_id
    return POISONS[kind](record)


def poison_ids(seed: int) -> list[dict[str, str]]:
    """Every id that a client may hold although it is not among the truth."""
    return [{"id": poison_id(seed, kind, variant), "poison": kind} for kind in POISONS for variant in range(_VARIANTS)]
