"""Reads a query. Written by hand, so that every mistake is met where it is known what was expected, and can be mended.

The grammar, keywords in any case::

    query     = [ "*" | either ]
    either    = all { ("or" | "||") all }
    all       = negated { ["and" | "&&"] negated }
    negated   = { "not" | "-" | "!" } ( "(" either ")" | condition )
    condition = field operator values | value        a value without a field: words to find anywhere
    operator  = ":" | "=" | "!=" | "<" | "<=" | ">" | ">="
    values    = { "not" | "!" } one { "," one }
    one       = "(" either ")" | value               inside: values; or, a comma or and stands between two
    value     = ( character | "*" | quoted )+        no blank, parenthesis, comma or quote outside quotes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from xdr_mcp.errors import QueryError
from xdr_mcp.query.fields import FIELDS, Field, field_named, nearest_field
from xdr_mcp.query.nodes import And, Comparison, Node, Or, Query, all_of, any_of, opposite
from xdr_mcp.query.text import fold, words_of
from xdr_mcp.query.values import TIMES, Refused, Value, condition, interval, words

MAX_LENGTH = 4_000
"""Characters in a query."""
MAX_DEPTH = 30
"""Parentheses within parentheses."""
MAX_CONDITIONS = 300
"""Conditions in a query; a network may count as up to 128."""
EXAMPLE = "severity>=high and host:web* and not status:resolved"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"\s*")
_KEYWORD_END = r"(?=[\s()\"“”]|$)"
_AND = re.compile(rf"and{_KEYWORD_END}|&&", re.IGNORECASE)
_OR = re.compile(rf"or{_KEYWORD_END}|\|\|", re.IGNORECASE)
_NOT = re.compile(rf"not{_KEYWORD_END}|[-!](?=\S)", re.IGNORECASE)
_NOT_VALUE = re.compile(rf"not{_KEYWORD_END}|!(?=\S)", re.IGNORECASE)
_BETWEEN = re.compile(rf"{_AND.pattern}|{_OR.pattern}", re.IGNORECASE)
_COMMA = re.compile(r",")
_OPERATOR = re.compile(r":?(?:[<>]=|<>|[<>]|!=|==?)|:")
_SWAPPED = re.compile(r"[<>]")
_PIPE = re.compile(r"\|\s*(?:where\b)?", re.IGNORECASE)
_FIELD = re.compile(rf"([^\s()\"“”:=<>!,*]+)\s*({_OPERATOR.pattern})")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|[“”]([^“”]*)[“”]', re.DOTALL)
_APOSTROPHES = re.compile(r"'([^']*)'(?=[\s(),*]|$)")
_PLAIN_VALUE = re.compile(r"[^\s()\"“”,*]+")
_PLAIN_WORDS = re.compile(r"[^\s()\"“”*]+")
_RUN = re.compile(r"\S+")

_COMPARISONS = {"": Comparison.EQ, "==": Comparison.EQ, "<>": Comparison.NE}

_Leaf = Callable[[], Node]
"""Reads one condition, or one value of a field's parentheses."""


class _Mistake(Exception):
    """The range at fault, and why. ``mend`` is (start, end, text to put there); ``instead`` parses whatever happens."""

    def __init__(
        self, start: int, end: int, reason: str, mend: tuple[int, int, str] | None = None, instead: str = EXAMPLE
    ) -> None:
        super().__init__(reason)
        self.start = start
        self.end = end
        self.reason = reason
        self.mend = mend
        self.instead = instead


def parse(text: str, *, now: datetime) -> Query:
    """Read a query. Nothing, or ``*``, asks for everything. ``now`` (aware) is what relative times are counted from.

    Raises:
        QueryError: with the part at fault, the reason, and the query mended or the nearest thing that can be read.
    """
    if now.tzinfo is None:
        raise ValueError("the time to count from has no time zone; give it one, UTC if unsure")
    readable = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text))
    if len(readable) > MAX_LENGTH:
        reason = f"the query has {len(text)} characters; at most {MAX_LENGTH} are read"
        raise QueryError(readable[:200], 0, 200, reason, EXAMPLE)
    try:
        return Query(text, _Parser(readable, now).query())
    except _Mistake as mistake:
        raise QueryError(
            readable, mistake.start, mistake.end, mistake.reason, _example(readable, mistake, now)
        ) from None


def instant(text: str, *, now: datetime) -> datetime:
    """The moment that a time of the query language stands for: the end of a day or a minute, and never after ``now``.

    Raises:
        QueryError: it is no time.
    """
    try:
        _, end = interval(fold(text), now)
    except (ValueError, OverflowError):
        raise QueryError(text[:200], 0, min(len(text), 200), f"this is no time; a time is {TIMES}", "-24h") from None
    return min(end - timedelta(microseconds=1), now)


def _example(text: str, first: _Mistake, now: datetime) -> str:
    """The query with this mistake, and a few that come after it, put right; else a query that shows what is possible."""
    mistake = first
    for _ in range(5):
        if mistake.mend is None:
            break
        start, end, replacement = mistake.mend
        text = f"{text[:start]}{replacement}{text[end:]}".strip()
        if not text or len(text) > MAX_LENGTH:
            break
        try:
            root = _Parser(text, now).query()
        except _Mistake as another:
            mistake = another
        else:
            return first.instead if root is None else text
    return first.instead


class _Parser:
    """One reading of one text. Each method leaves ``at`` on what follows, blanks passed over."""

    def __init__(self, text: str, now: datetime) -> None:
        self.text = text
        self.now = now
        self.at = 0
        self.depth = 0
        self.conditions = 0
        self.keyword = (0, 0)
        """Where the last and, or, or not stands."""

    def query(self) -> Node | None:
        if self.text.strip() in {"", "*"}:
            return None
        self.move(0)
        node = self.either(self.condition)
        if self.at < len(self.text):
            here = self.at
            raise _Mistake(here, here + 1, "this parenthesis closes nothing", (here, here + 1, " "))
        return node

    # -- logic, the same among conditions and among the values of one field

    def either(self, leaf: _Leaf) -> Node:
        nodes = [self.every(leaf)]
        while self.take(_OR) or (leaf != self.condition and self.take(_COMMA)):
            nodes.append(self.every(leaf))
        return any_of(tuple(nodes))

    def every(self, leaf: _Leaf) -> Node:
        nodes = [self.negated(leaf)]
        while self.take(_AND) or self.another(leaf):
            nodes.append(self.negated(leaf))
        return all_of(tuple(nodes))

    def another(self, leaf: _Leaf) -> bool:
        """Whether one more begins without a keyword before it; among values that would be ambiguous."""
        if self.ended() or self.sees(_OR):
            return False
        if leaf == self.condition:
            return True
        if self.sees(_COMMA):
            return False
        here = self.at
        reason = "write or, and, or a comma between two values of one field"
        raise _Mistake(here, self.run_end(), reason, (here, here, "or "), "host:(web* or db*)")

    def negated(self, leaf: _Leaf) -> Node:
        negative = False
        while self.take(_NOT if leaf == self.condition else _NOT_VALUE):
            negative = not negative
        node = self.group(leaf) if self.text.startswith("(", self.at) else leaf()
        return opposite(node) if negative else node

    def group(self, leaf: _Leaf) -> Node:
        opened = self.at
        with self.deeper():
            self.move(opened + 1)
            if self.text.startswith(")", self.at):
                span = (opened, self.at + 1)
                raise _Mistake(*span, "there is nothing between these parentheses", (*span, ""))
            node = self.either(leaf)
        if self.at >= len(self.text):
            end = len(self.text)
            raise _Mistake(opened, opened + 1, "this parenthesis is never closed", (end, end, ")"))
        self.move(self.at + 1)
        return node

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Mistake(self.at, self.at + 1, f"parentheses go at most {MAX_DEPTH} deep")
        yield
        self.depth -= 1

    # -- conditions

    def condition(self) -> Node:
        self.expect_something()
        start = self.at
        named = _FIELD.match(self.text, start)
        if named is None:
            return self.free_words()
        field = field_named(named[1])
        if field is None:
            raise self.unknown(named)
        operator = named[2].removeprefix(":")
        if operator == "=" and (swapped := _SWAPPED.match(self.text, named.end())):
            span, meant = (named.start(2), swapped.end()), f"{swapped[0]}="
            raise _Mistake(*span, f"{self.text[slice(*span)]} is written {meant}", (*span, meant), field.example)
        comparison = _COMPARISONS.get(operator) or Comparison(operator)
        self.move(named.end())
        node = self.values(field, Comparison.EQ if comparison is Comparison.NE else comparison, start)
        return opposite(node) if comparison is Comparison.NE else node

    def expect_something(self) -> None:
        """A condition must begin here."""
        if between := _BETWEEN.match(self.text, self.at):
            reason = f"there is nothing to look for before this {between[0]!r}"
            self.move(between.end())
            raise _Mistake(*between.span(), reason, (between.start(), self.at, ""))
        if self.ended():
            start, end = self.keyword
            raise _Mistake(start, end, f"there is nothing to look for after {self.text[start:end]!r}", (start, end, ""))
        if operator := _OPERATOR.match(self.text, self.at):
            reason = f"a field goes before {operator[0]!r}. {_all_fields()}"
            raise _Mistake(*operator.span(), reason, self.quoted_run(), FIELDS["severity"].example)
        if pipe := _PIPE.match(self.text, start := self.at):
            raise _Mistake(start, start + 1, "there are no pipes here: every condition narrows", (*pipe.span(), " "))

    def unknown(self, named: re.Match[str]) -> _Mistake:
        is_text = len(named[1]) == 1 or self.text.startswith("//", named.end())  # a drive or a URL
        near = None if is_text else nearest_field(named[1])
        missing = f"there is no field {named[1][:60]!r}"
        if near is None:
            reason = f"{missing}; put text that holds {named[2]!r} in quotes. {_all_fields()}"
            return _Mistake(*named.span(1), reason, self.quoted_run(), FIELDS["text"].example)
        reason = f"{missing}; did you mean {near.name}? {_all_fields()}"
        return _Mistake(*named.span(1), reason, (*named.span(1), near.name), near.example)

    def values(self, field: Field, comparison: Comparison, start: int) -> Node:
        """One value, a list, or a group of them; a negation before a list counts for all of it."""

        def leaf() -> Node:
            return self.value(field, comparison, start)

        negative = False
        while self.take(_NOT_VALUE):
            negative = not negative
        nodes = [self.negated(leaf)]
        while self.take(_COMMA):
            nodes.append(self.negated(leaf))
        node = any_of(tuple(nodes))
        return opposite(node) if negative else node

    def value(self, field: Field, comparison: Comparison, start: int) -> Node:
        if self.ended() or self.sees(_BETWEEN) or self.sees(_COMMA):
            reason = f"{field.name} has no value here; for example {field.example}"
            raise _Mistake(start, max(start + 1, self.at), reason, (start, self.at, f"{field.example} "), field.example)
        value, begin, end = self.token(_PLAIN_VALUE)
        try:
            node = condition(field, comparison, value, self.now)
        except Refused as refused:
            mend = (begin, end, refused.value) if refused.value else (start, end, refused.instead or field.example)
            raise _Mistake(begin, end, refused.reason, mend, refused.instead or field.example) from None
        return self.counted(node)

    def free_words(self) -> Node:
        value, begin, end = self.token(_PLAIN_WORDS)
        try:
            node = words(value)
        except Refused as refused:
            example = refused.value or FIELDS["text"].example
            raise _Mistake(begin, end, refused.reason, (begin, end, example), example) from None
        return self.counted(node)

    def counted(self, node: Node) -> Node:
        self.conditions += len(node.nodes) if isinstance(node, And | Or) else 1
        if self.conditions > MAX_CONDITIONS:
            raise _Mistake(0, len(self.text), f"a query has at most {MAX_CONDITIONS} conditions; this one has more")
        return node

    # -- characters

    def token(self, plain: re.Pattern[str]) -> tuple[Value, int, int]:
        """A value with its wildcards, and where it stands: plain characters, asterisks and quoted parts, side by side."""
        begin = end = self.at
        pieces = [""]
        if whole := _APOSTROPHES.match(self.text, begin):
            pieces, end = [whole[1]], whole.end()
        while end < len(self.text):
            if self.text[end] == "*":
                pieces.append("")
                end += 1
            elif part := _QUOTED.match(self.text, end):
                pieces[-1] += part[2] if part[1] is None else re.sub(r'\\(["\\])', r"\1", part[1])
                end = part.end()
            elif part := plain.match(self.text, end):
                pieces[-1] += part[0]
                end = part.end()
            elif self.text[end] in '"“”':
                rest = self.text[end + 1 :].rstrip(' \\"')
                mend = (end, len(self.text), f'"{rest}"')
                raise _Mistake(end, end + 1, 'this quote is never closed; inside quotes, write \\" for a quote', mend)
            elif self.text[end] == "(":
                self.at = begin
                reason = "a value that holds a parenthesis goes in quotes; a new condition after a blank"
                raise _Mistake(end, end + 1, reason, self.quoted_run())
            else:
                break
        self.move(end)
        return Value(tuple(pieces)), begin, end

    def quoted_run(self) -> tuple[int, int, str] | None:
        """What stands here up to the next blank, put in quotes; None when there is no word in it."""
        end = self.run_end()
        text = re.sub(r'["“”]', "", self.text[self.at : end]).replace("\\", r"\\")
        return (self.at, end, f'"{text}"') if words_of(text) else None

    def run_end(self) -> int:
        run = _RUN.match(self.text, self.at)
        return run.end() if run else self.at

    def move(self, to: int) -> None:
        blanks = _BLANKS.match(self.text, to)
        self.at = blanks.end() if blanks else to

    def sees(self, pattern: re.Pattern[str]) -> bool:
        return pattern.match(self.text, self.at) is not None

    def take(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.text, self.at)
        if found:
            self.keyword = found.span()
            self.move(found.end())
        return found is not None

    def ended(self) -> bool:
        """At the end of the text, or of the parentheses."""
        return self.at >= len(self.text) or self.text[self.at] == ")"


def _all_fields() -> str:
    return f"The fields are {', '.join(FIELDS)}"
