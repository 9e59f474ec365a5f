"""Writes a parsed query down again, in one spelling: two queries that differ in order, case or aliases come out the same."""

from __future__ import annotations

import re

from xdr_mcp.query.nodes import And, Comparison, Level, Moment, Node, Not, Or, Pattern, Query, Term, Words
from xdr_mcp.query.values import name_of

_BARE = re.compile(r"[^\s()\"“”,*'!&|=<>][^\s()\"“”,*]*")
_KEYWORDS = frozenset({"and", "or", "not"})


def describe(query: Query) -> str:
    """The query in its canonical spelling; ``*`` where it asks for everything. Relative times have become absolute.

    ``parse(describe(query))`` asks for the same alerts and is described in the same way, as long as it keeps to the length
    and the depth that ``parse`` takes: a network or a list written out can be longer than what was typed.
    """
    return "*" if query.root is None else _written(query.root)


def _written(node: Node) -> str:  # noqa: PLR0911 (one spelling for each kind of node)
    match node:
        case And(nodes):
            return " and ".join(
                sorted(f"({_written(part)})" if isinstance(part, Or) else _written(part) for part in nodes)
            )
        case Or(nodes):
            return " or ".join(sorted(map(_written, nodes)))
        case Not(inner):
            return f"not ({_written(inner)})" if isinstance(inner, And | Or) else f"not {_written(inner)}"
        case Term(field, pattern):
            return f"{field}:{_pattern(pattern)}"
        case Words(words, prefix, column):
            return f'{"" if column is None else f"{column}:"}"{" ".join(words)}"{"*" if prefix else ""}'
        case Level(field, comparison, value):
            return f"{field}{_operator(comparison)}{name_of(field, value)}"
        case Moment(field, comparison, value):
            return f"{field}{_operator(comparison)}{value.isoformat()}"


def _operator(comparison: Comparison) -> str:
    return ":" if comparison is Comparison.EQ else comparison.value


def _pattern(pattern: Pattern) -> str:
    return "*".join(map(_piece, pattern.pieces))


def literal(text: str) -> str:
    """``text`` as a value that means just that: in quotes where it needs them."""
    return _piece(text) or '""'


def _piece(text: str) -> str:
    """What stands between two wildcards."""
    if not text or (_BARE.fullmatch(text) and text.isprintable() and text.lower() not in _KEYWORDS):
        return text
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
