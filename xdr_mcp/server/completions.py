"""What is offered while somebody types an argument: of a prompt, or of a resource's URI.

An argument is completed by its name, which means the same everywhere. Values come out of the store's index, so that they exist and
are quick to find. A value that could not be told as it is (something in it hides or acts) is not offered: it could not be
given back either.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from xdr_mcp.alert import EntityKind, Severity, Status, Verdict
from xdr_mcp.interfaces import Store
from xdr_mcp.query import FIELDS, Field, FieldKind, Query, field_named, fold, literal
from xdr_mcp.untrusted import contained, spell, unspell

MOST = 100
"""Values in one completion; the protocol allows no more."""

_LONGEST = 200
"""Characters of a value that is worth offering: nobody picks a command line of a page from a list."""
_LONGEST_TYPED = 4_000
"""Characters; no query is longer."""
_NEWEST = 300
"""Alerts whose ids come first when an id is typed."""
_CONDITION = re.compile(r"""([-!]?)([^\s()"“”:=<>!,*]*)(:?(?:[<>]=|[<>]|!=|==?)|:|)("[^"]*|[^\s()"“”,*]*)""")
"""The condition that is being typed: a sign, a field, an operator, and the beginning of a value."""

KINDS = (*(kind.value for kind in EntityKind), "technique")
"""What can be hunted for: kinds of entities, and a technique."""
PERIODS = ("-1h", "-4h", "-8h", "-12h", "-24h", "-3d", "-7d", "-30d", "today", "yesterday")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "severity": tuple(severity.value for severity in reversed(Severity)),
    "status": ("open", "closed", *(status.value for status in Status)),
    "verdict": tuple(verdict.value for verdict in Verdict),
}
_CONDITIONS = (
    *("severity>=critical", "severity>=high", "severity>=medium", "status:open", "since:-24h", "since:-7d"),
    *(f"{name}:" for name in FIELDS),
)
"""The conditions that most queries have, and the beginnings of all."""

_Completer: TypeAlias = Callable[[str, Mapping[str, str]], Awaitable[Iterable[str]]]


class Completions:
    """Completes the arguments of prompts and resource templates, from what the store holds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_argument: Mapping[str, _Completer] = {
            "id": self._ids,
            "q": self._queries,
            "query": self._queries,
            "kind": _one_of(KINDS),
            "entity": self._entities,
            "since": _one_of(PERIODS),
            "severity": _one_of(_WORDS["severity"]),
        }

    async def __call__(
        self,
        _ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        """At most ``MOST`` values that begin as ``argument`` does, case and accents aside; None for what has no values."""
        completer = self._by_argument.get(argument.name)
        if completer is None or len(argument.value) > _LONGEST_TYPED:
            return None
        already = (context.arguments if context else None) or {}
        values = list(dict.fromkeys(await completer(argument.value, already)))
        more = len(values) > MOST
        return Completion(values=values[:MOST], total=None if more else len(values), has_more=more)

    # -- one way for each meaning

    async def _ids(self, typed: str, _already: Mapping[str, str]) -> list[str]:
        """The newest alerts' first, then any."""
        beginning = fold(unspell(typed))
        newest = (await self._store.find(Query(), _NEWEST)).alerts
        ids = [alert.id for alert in newest if fold(alert.id).startswith(beginning)]
        if beginning and len(ids) <= MOST:
            sources = tuple(f"{state.source}/" for state in await self._store.states())
            ids += [known for known in await self._known("id", beginning) if known.startswith(sources)]
        return list(map(spell, ids))

    async def _entities(self, typed: str, already: Mapping[str, str]) -> list[str]:
        """Values of the kind that was chosen already, or of any."""
        kind = already.get("kind", "")
        return await self._known(kind if kind in KINDS else "entity", typed)

    async def _queries(self, typed: str, _already: Mapping[str, str]) -> list[str]:
        """The query with its last condition completed."""
        begin = _last_condition(typed)
        found = _CONDITION.fullmatch(typed, begin)
        if found is None:
            return []
        sign, name, operator, value = found.groups()
        before = typed[:begin] + sign
        if not operator:
            return [before + condition for condition in _beginning_with(name, _CONDITIONS)] if not value else []
        field = field_named(name)
        values = await self._values(field, value.removeprefix('"')) if field else []
        return [f"{before}{name}{operator}{literal(each)}" for each in values]

    async def _values(self, field: Field, typed: str) -> list[str]:
        match field.kind:
            case FieldKind.KEYWORD:
                return await self._known(field.name, typed)
            case FieldKind.CHOICE | FieldKind.RANK:
                return _beginning_with(typed, _WORDS[field.name])
            case FieldKind.TIME | FieldKind.BOUND:
                return _beginning_with(typed, PERIODS)
            case _:
                return []

    async def _known(self, field: str, typed: str) -> list[str]:
        """What alerts have in a keyword field."""
        values = await self._store.values(field, typed, MOST + 1)
        return [value for value in values if len(value) <= _LONGEST and contained(value) == value]


def _one_of(words: Iterable[str]) -> _Completer:
    async def complete(typed: str, _already: Mapping[str, str]) -> list[str]:
        return _beginning_with(typed, words)

    return complete


def _last_condition(query: str) -> int:
    """Where the condition begins that is being typed: behind the last blank or parenthesis that is not in quotes."""
    begin, quoted = 0, False
    for at, character in enumerate(query):
        if character == '"' and query[at - 1 : at] != "\\":
            quoted = not quoted
        elif not quoted and (character.isspace() or character == "("):
            begin = at + 1
    return begin


def _beginning_with(typed: str, words: Iterable[str]) -> list[str]:
    beginning = fold(typed)
    return [word for word in words if word.startswith(beginning)]
