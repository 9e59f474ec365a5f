"""A query as SQL: mostly one full-text expression, the rest as conditions on columns.

Everything that is a set of alerts per value (keywords, words, severity, status, verdict) is in one inverted index, whose
rowid is the listing's order. So And, Or and Not over them is one MATCH that is walked newest first and left early, instead
of a join of indexes. Numbers and times are compared in SQL; so are severity, status and verdict where values or words lead to
few alerts already, for a set of a third of all alerts is slow to step through beside a small one.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from msgspec import Struct, json

from xdr_mcp.alert import Severity, Status, Verdict
from xdr_mcp.errors import QueryError
from xdr_mcp.query import (
    ENTITY_FIELDS,
    VALUE_LIMIT,
    And,
    Comparison,
    Level,
    Moment,
    Node,
    Not,
    Or,
    Pattern,
    Term,
    Words,
)
from xdr_mcp.store.sqlite.keys import LARGEST, first_key, last_key, microseconds
from xdr_mcp.store.sqlite.postings import token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


EVERYTHING = "terms : everything"
NOTHING = "terms : nothing"
"""No alert has this token."""
DEEPEST = 60
"""FTS5 gives up at about 250 levels, SQLite's parser at 1,000."""
RARE = 0.01
"""A severity, status or verdict that fewer alerts have leads to them faster than most words do."""
MOST_VALUES = 500
"""A wildcard that fits more values than this is looked up apart, a few hundred postings at a time."""

_RANKS = {
    "severity": ("s", tuple(severity.rank for severity in Severity)),
    "status": ("w", tuple(status.ocsf_id for status in Status)),
    "verdict": ("v", tuple(verdict.ocsf_id for verdict in Verdict)),
}
LEVEL_TOKENS = frozenset({"everything"} | {f"{letter}{rank}" for letter, ranks in _RANKS.values() for rank in ranks})
"""Tokens that look like words, and that very many alerts have."""
_OPERATORS = {
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.GT: operator.gt,
    Comparison.GE: operator.ge,
}
_NUMBERS = frozenset({"risk_score", "confidence", "count"})
_TIMES = frozenset({"created", "updated", "first_seen", "last_seen"})
_COLUMNS = {None: "{title description other}", "title": "title", "description": "description"}


def any_of(tokens: Sequence[str]) -> str:
    """The expression for alerts that have one of these tokens."""
    return f"terms : ({' OR '.join(map(_quoted, tokens))})" if tokens else NOTHING


def is_beginning(pattern: Pattern) -> bool:
    """The pattern says how values begin, and no more."""
    return pattern.pieces[1:] == ("",)


def indexed_as(field: str) -> tuple[str, ...]:
    """An entity is indexed once, under its kind."""
    return ENTITY_FIELDS if field == "entity" else (field,)


def _beginning(term: Term) -> str | None:
    """The expression for values that begin so; None where the pattern says more.

    A prefix query of FTS5 merges the postings of all values that fit before the first is given: dear where a listing ends
    early, cheap beside naming thousands of values.
    """
    if not is_beginning(term.pattern):
        return None
    first = term.pattern.pieces[0]
    return f"terms : ({' OR '.join(f'{_quoted(token(name, first))} *' for name in indexed_as(term.field))})"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


class Where(Struct, frozen=True):
    """A query, compiled. ``match`` is empty when the full-text index does not help."""

    match: str
    conditions: tuple[str, ...]
    parameters: tuple[int | float | str, ...]
    least_key: int
    largest_key: int
    lists: int
    """Conditions that ``match`` joins."""


def compile_where(
    root: Node | None,
    fitting: Callable[[str, Pattern], Sequence[str]],
    share: Callable[[Sequence[Node]], float],
    *,
    walking: bool = False,
) -> Where:
    """``root`` as conditions on ``alerts AS a``; parameters are always bound.

    ``fitting`` gives the tokens of a field that fit a pattern, ``share`` the part of recent alerts that all of some
    ``only_levels`` hold for, 0 to 1. With ``walking``, a query of such alone is compared alert by alert: the fastest where
    many have them, and the slowest where few do.

    Raises:
        QueryError: it is nested too deeply, or names a field that does not exist.
    """
    return _Compiler(fitting, share, walking=walking).where(root)


def only_levels(node: Node) -> bool:
    """Whether it asks about nothing but severity, status and verdict."""
    match node:
        case Level():
            return node.field in _RANKS
        case And() | Or():
            return all(map(only_levels, node.nodes))
        case Not():
            return only_levels(node.node)
        case _:
            return False


def one_level(node: Node) -> str | None:
    """Which one of severity, status and verdict it asks about; None when it asks about more, or less."""
    match node:
        case Level() if node.field in _RANKS:
            return node.field
        case And(nodes) | Or(nodes):
            fields = {one_level(part) for part in nodes}
            return fields.pop() if len(fields) == 1 else None
        case Not(inner):
            return one_level(inner)
        case _:
            return None


def _holds(node: Node, rank: int) -> bool:
    """Whether what is ``one_level`` holds for an alert of this rank."""
    match node:
        case Level():
            return bool(_OPERATORS[node.comparison](rank, node.value))
        case And(nodes):
            return all(_holds(part, rank) for part in nodes)
        case Or(nodes):
            return any(_holds(part, rank) for part in nodes)
        case Not(inner):
            return not _holds(inner, rank)
        case _:
            raise AssertionError(node)


def level_condition(node: Node, parameters: list[int | float | str]) -> str:
    """One that is ``only_levels`` as a condition on columns of ``a``, none of which is ever missing."""
    match node:
        case Level():
            parameters.append(bindable(node.value))
            return f"a.{node.field} {node.comparison.value} ?"
        case Not():
            return f"NOT {level_condition(node.node, parameters)}"
        case And():
            return f"({' AND '.join([level_condition(part, parameters) for part in node.nodes]) or 1})"
        case Or():
            return f"({' OR '.join([level_condition(part, parameters) for part in node.nodes]) or 0})"
        case _:
            raise AssertionError(node)


def after_prefix(prefix: str) -> str:
    """The least text that is larger than every text which begins with ``prefix``, by code point."""
    head, last = prefix[:-1], ord(prefix[-1]) + 1
    if last > 0x10FFFF:  # noqa: PLR2004 (the last code point)
        return after_prefix(head)
    return head + chr(0xE000 if 0xD800 <= last <= 0xDFFF else last)  # noqa: PLR2004 (surrogates are no text)


class _Part(Struct, frozen=True):
    """One of the conditions that must all hold."""

    negated: bool
    expression: str | None
    """What must hold, or must not, in the full-text index; None when it is not all in there."""


def _all_of(parts: Sequence[_Part]) -> str | None:
    """What none of the negated holds, out of what all others hold."""
    wanted = _joined(" AND ", [part.expression for part in parts if not part.negated], EVERYTHING)
    negated = [part.expression for part in parts if part.negated]
    if not negated:
        return wanted
    unwanted = _joined(" OR ", negated, NOTHING)
    return None if wanted is None or unwanted is None else f"({wanted}) NOT ({unwanted})"


def _joined(word: str, expressions: Sequence[str | None], none: str) -> str | None:
    known = [f"({expression})" for expression in expressions if expression is not None]
    if len(known) < len(expressions):
        return None
    return word.join(known) if known else none


class _Compiler:
    def __init__(
        self,
        fitting: Callable[[str, Pattern], Sequence[str]],
        share: Callable[[Sequence[Node]], float],
        *,
        walking: bool,
    ) -> None:
        self._fitting = fitting
        self._share = share
        self._walking = walking
        self._known: dict[tuple[str, Pattern], Sequence[str]] = {}
        self._parameters: list[int | float | str] = []

    def where(self, root: Node | None) -> Where:
        refuse_depth(root)
        levels: list[Node] = []
        indexed: list[_Part] = []
        others: list[Node] = []
        for node in conjuncts(root):
            if only_levels(node):
                levels.append(node)
            elif (part := self._part(node)).expression is None:
                others.append(node)
            else:
                indexed.append(part)
        conditions: list[str] = []
        if levels and self._better_compared(levels, indexed):
            conditions += [level_condition(node, self._parameters) for node in levels]
        else:
            indexed += map(self._part, levels)
        conditions += [self._condition(node) for node in others]
        least, largest = 0, LARGEST
        for node in others:
            if isinstance(node, Moment) and node.field == "created":
                low, high = _key_range(node)
                least, largest = max(least, low), min(largest, high)
        match = _all_of(indexed) if indexed else None
        return Where(match or "", tuple(conditions), tuple(self._parameters), least, largest, len(indexed))

    def _better_compared(self, levels: Sequence[Node], indexed: Sequence[_Part]) -> bool:
        """Whether these levels are better compared in SQL than looked up beside the others."""
        if not indexed:
            return self._walking
        return not all(part.negated for part in indexed) and self._share(levels) >= RARE

    def _part(self, node: Node) -> _Part:
        negated = isinstance(node, Not)
        return _Part(negated, self._expression(node.node if isinstance(node, Not) else node))

    def _expression(self, node: Node) -> str | None:  # noqa: PLR0911 (one a kind of node)
        """The node as a full-text expression; None when it is not all in the full-text index."""
        match node:
            case Term():
                tokens = self._tokens(node)
                return any_of(tokens) if len(tokens) <= MOST_VALUES else _beginning(node)
            case Words():
                return _words(node)
            case _ if (field := one_level(node)) is not None:
                letter, ranks = _RANKS[field]
                holds = [rank for rank in ranks if _holds(node, rank)]
                return EVERYTHING if len(holds) == len(ranks) else any_of([f"{letter}{rank}" for rank in holds])
            case And():
                return _all_of([self._part(part) for part in node.nodes])
            case Or():
                return _joined(" OR ", [self._expression(part) for part in node.nodes], NOTHING)
            case Not():
                return _all_of([self._part(node)])
            case _:
                return None

    def _tokens(self, term: Term) -> Sequence[str]:
        key = (term.field, term.pattern)
        if key not in self._known:
            self._known[key] = self._fitting(*key) if sum(map(len, term.pattern.pieces)) <= VALUE_LIMIT else ()
        return self._known[key]

    def _condition(self, node: Node) -> str:  # noqa: PLR0911 (one a kind of node)
        if (expression := self._expression(node)) is not None:
            self._parameters.append(expression)
            return "a.key IN (SELECT rowid FROM postings WHERE postings MATCH ?)"
        match node:
            case Not():
                return f"NOT {self._condition(node.node)}"
            case And():
                return "(" + " AND ".join([self._condition(part) for part in node.nodes]) + ")"
            case Or():
                return "(" + " OR ".join([self._condition(part) for part in node.nodes]) + ")"
            case Term():
                return self._many_values(self._tokens(node))
            case Moment() if node.field in _TIMES:
                return self._comparison(node.field, node.comparison, microseconds(node.value))
            case Level() if node.field in _NUMBERS:
                return self._comparison(node.field, node.comparison, bindable(node.value))
            case _:
                raise QueryError("", 0, 0, f"There is no field for {node}")

    def _comparison(self, field: str, comparison: Comparison, value: float) -> str:
        """A missing value differs from every other, and is neither before nor after any: it is never unknown."""
        self._parameters.append(value)
        if comparison is Comparison.NE:
            return f"a.{field} IS NOT ?"
        return f"ifnull(a.{field} {comparison.value} ?, 0)"

    def _many_values(self, tokens: Sequence[str]) -> str:
        chunks = [tokens[start : start + MOST_VALUES] for start in range(0, len(tokens), MOST_VALUES)]
        expressions = json.encode([any_of(chunk) for chunk in chunks]).decode()
        self._parameters.append(expressions)
        return (
            "a.key IN (SELECT postings.rowid FROM json_each(?) AS chunk"
            " CROSS JOIN postings WHERE postings MATCH chunk.value)"
        )


def conjuncts(root: Node | None) -> Iterable[Node]:
    """What must all hold, as flat as it gets."""
    if root is None:
        return
    if isinstance(root, And):
        for node in root.nodes:
            yield from conjuncts(node)
    else:
        yield root


def refuse_depth(root: Node | None) -> None:
    """Raise QueryError for what is nested so deeply that SQLite, or Python, would give up."""
    level = [] if root is None else [root]
    for _ in range(DEEPEST):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise QueryError("", 0, 0, f"The query is nested more than {DEEPEST} levels deep; write it flatter")


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case And() | Or():
            return node.nodes
        case Not():
            return (node.node,)
        case _:
            return ()


def _words(node: Words) -> str:
    if node.column not in _COLUMNS:
        raise QueryError("", 0, 0, f"There is no text column {node.column}")
    if not node.words:
        return EVERYTHING
    phrase = _quoted(" ".join(node.words).replace("\0", " "))
    return f"{_COLUMNS[node.column]} : {phrase}{' *' if node.prefix else ''}"


def bindable(value: int) -> float:
    """An integer that SQLite can take; one beyond its range becomes the infinity on its side, which compares alike."""
    if abs(value) <= LARGEST:
        return value
    return float("inf") if value > 0 else float("-inf")


def _key_range(node: Moment) -> tuple[int, int]:
    """Keys outside cannot satisfy the node: where a walk may begin and end."""
    created = microseconds(node.value)
    match node.comparison:
        case Comparison.GE | Comparison.GT:
            return first_key(created), LARGEST
        case Comparison.LE | Comparison.LT:
            return 0, last_key(created)
        case Comparison.EQ:
            return first_key(created), last_key(created)
        case _:
            return 0, LARGEST
