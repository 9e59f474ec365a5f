"""A parsed query: a tree of small frozen nodes, evaluated in memory (``matches``) or turned into SQL by a store.

Logic is two-valued: a missing value makes a condition false and its ``Not`` true, so SQL needs care where NULL is met.
``And`` and ``Or`` are never empty, and ``parse`` never nests one in its like.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct


class Comparison(StrEnum):
    """How a number, a time or a severity is compared. ``NE`` is the opposite of ``EQ``: true for a missing value."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Pattern(Struct, frozen=True):
    """A folded value with wildcards: the literal pieces between the asterisks. One piece means exact equality.

    ``web*`` is ``("web", "")``; ``*`` is ``("", "")``; ``web-01`` is ``("web-01",)``. Every other character stands for
    itself, ``?``, ``[``, ``%`` and ``_`` too.
    """

    pieces: tuple[str, ...]

    @property
    def exact(self) -> str | None:
        """The value itself when there is no wildcard."""
        return self.pieces[0] if len(self.pieces) == 1 else None

    def matches(self, value: str) -> bool:
        """Whether a folded value fits. Never backtracks: each piece is taken where it is first found."""
        if len(self.pieces) == 1:
            return value == self.pieces[0]
        first, *middle, last = self.pieces
        end = len(value) - len(last)
        if not (value.startswith(first) and value.endswith(last) and len(first) <= end):
            return False
        position = len(first)
        for piece in middle:
            found = value.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True


class Term(Struct, frozen=True):
    """Some value of a keyword field (a pair of ``terms_of(alert)`` with this field) matches the pattern."""

    field: str
    pattern: Pattern


class Level(Struct, frozen=True):
    """An ordered or enumerated field kept as a number: severity, status, verdict, risk_score, confidence, count."""

    field: str
    comparison: Comparison
    value: int


class Moment(Struct, frozen=True):
    """A time field compared with an absolute time: created, updated, first_seen, last_seen.

    ``parse`` makes half-open intervals, so of the comparisons it uses only ``GE`` and ``LT``.
    """

    field: str
    comparison: Comparison
    value: datetime


class Words(Struct, frozen=True):
    """These words (at least one) stand in this order, side by side, in one column of the alert's text."""

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


def all_of(nodes: tuple[Node, ...]) -> Node:
    """One node that holds when all do: flat, each condition once."""
    flat = dict.fromkeys(part for node in nodes for part in (node.nodes if isinstance(node, And) else (node,)))
    return And(tuple(flat)) if len(flat) > 1 else next(iter(flat))


def any_of(nodes: tuple[Node, ...]) -> Node:
    """One node that holds when any does: flat, each condition once."""
    flat = dict.fromkeys(part for node in nodes for part in (node.nodes if isinstance(node, Or) else (node,)))
    return Or(tuple(flat)) if len(flat) > 1 else next(iter(flat))


def opposite(node: Node) -> Node:
    """One node that holds when ``node`` does not; never a double negation."""
    return node.node if isinstance(node, Not) else Not(node)
