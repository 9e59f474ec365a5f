"""A parsed query: a tree of small frozen nodes, evaluated in memory (``matches``) or turned into SQL by a store."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (msgspec reads annotations at run time)
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct


class Comparison(StrEnum):
    """How a number, a time or a severity is compared."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Pattern(Struct, frozen=True):
    """A folded value with wildcards: the literal pieces between the asterisks. One piece means exact equality.

    ``web*`` is ``("web", "")``; ``*`` is ``("", "")``; ``web-01`` is ``("web-01",)``.
    """

    pieces: tuple[str, ...]

    @property
    def exact(self) -> str | None:
        """The value itself when there is no wildcard."""
        return self.pieces[0] if len(self.pieces) == 1 else None


class Term(Struct, frozen=True):
    """Some value of a keyword field (``terms_of(alert)[field]``) matches the pattern."""

    field: str
    pattern: Pattern


class Level(Struct, frozen=True):
    """An ordered or enumerated field kept as a number: severity, status, verdict, risk_score, confidence, count."""

    field: str
    comparison: Comparison
    value: int


class Moment(Struct, frozen=True):
    """A time field compared with an absolute time: created, updated, first_seen, last_seen."""

    field: str
    comparison: Comparison
    value: datetime


class Words(Struct, frozen=True):
    """These words stand in this order, side by side, in one column of the alert's text (any column when None)."""

    words: tuple[str, ...]
    prefix: bool = False
    """The last word may go on: ``ransom*``."""
    column: str | None = None
    """``title`` or ``description``; None looks in every column of ``texts_of(alert)``."""


class And(Struct, frozen=True):
    """All of them."""

    nodes: tuple[Node, ...]


class Or(Struct, frozen=True):
    """At least one of them."""

    nodes: tuple[Node, ...]


class Not(Struct, frozen=True):
    """Everything but."""

    node: Node


Node: TypeAlias = Term | Level | Moment | Words | And | Or | Not


class Query(Struct, frozen=True):
    """A parsed query. Times are absolute: relative ones were resolved against the ``now`` given to ``parse``."""

    text: str = ""
    root: Node | None = None
    """None matches everything."""
