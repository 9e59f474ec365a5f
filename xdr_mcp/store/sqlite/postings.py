"""What an alert is found by in the full-text index: its text as folded words, and its keyword values as tokens.

What that is, is told in query/text.py. Here it is made for every alert that is stored, so what a part is found by that comes back
in alert after alert is remembered ready made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from msgspec import Struct, structs

from xdr_mcp.alert import EntityKind, Severity, Status, Verdict
from xdr_mcp.query.text import (
    SHORTENED,
    TEXT_LIMIT,
    attack_terms,
    attack_texts,
    column_of,
    column_of_lines,
    entity_terms,
    facts_of,
    line_of,
    rare_line_of,
    rare_value_of,
    value_of,
)

if TYPE_CHECKING:
    from xdr_mcp.alert import Alert, Attack, Entity
    from xdr_mcp.query.text import Facts

_BLANK, _BLANK_IN_VALUE = " ", "\N{NO-BREAK SPACE}"
"""A token ends at a blank; folding leaves no no-break space in a value."""
_LONG = 512
"""Characters of a part that is not remembered."""
_SEVERITIES = {severity: f"s{severity.rank}" for severity in Severity}
_STATUSES = {status: f"w{status.ocsf_id}" for status in Status}
_VERDICTS = {verdict: f"v{verdict.ocsf_id}" for verdict in Verdict}
_UNSHORTENED = {kind: kind.value for kind in EntityKind if kind not in SHORTENED}
"""Kinds of entities, such as addresses and hashes, of which there are too many to remember them."""

_Found: TypeAlias = tuple[tuple[str, ...], dict[str, str]]
"""Tokens, some of them joined already; the words of each text."""
_Part = TypeVar("_Part", bound=Struct)


def posted(alert: Alert) -> tuple[str, str, str, str]:
    """What stands in the columns ``title``, ``description``, ``other`` and ``terms``."""
    tokens = ["everything", _SEVERITIES[alert.severity], _STATUSES[alert.status], _VERDICTS[alert.verdict]]
    tokens += _rare("id", alert.id)
    tokens += _rare("id", alert.vendor_id)
    lines: dict[str, str | None] = {alert.vendor_id: rare_line_of(alert.vendor_id)}  # None: when there is room for it
    parts = [_facts[facts_of(alert)], *[_attacks[attack] for attack in alert.attacks]]
    for found, texts in parts:
        tokens += found
        lines.update(texts)
    for label in alert.labels:
        tokens += _tokens([("label", value_of(label))])
        lines[label] = line_of(label) if len(label) < _LONG else None
    for entity in alert.entities:
        if len(entity.value) >= _LONG:
            tokens += _tokens(entity_terms(entity))
            lines[entity.value] = None
        elif name := _UNSHORTENED.get(entity.kind):
            tokens += _rare(name, entity.value)
            lines[entity.value] = rare_line_of(entity.value)
        else:
            found, texts = _entities[entity]
            tokens += found
            lines.update(texts)
    if None in lines.values():
        other = column_of_lines(rare_line_of(text) if line is None else line for text, line in lines.items())
    else:
        other = _BLANK.join(filter(None, lines.values()))[:TEXT_LIMIT].rstrip()
    return column_of(alert.title), column_of(alert.description), other, _BLANK.join(dict.fromkeys(tokens))


def token(field: str, value: str) -> str:
    """The token of a value; of a part of it, what its token begins with."""
    return f"{field}:{value.replace(_BLANK, _BLANK_IN_VALUE)}"


def value_of_token(field: str, found: str) -> str:
    """The value that has this token."""
    return found[len(field) + 1 :].replace(_BLANK_IN_VALUE, _BLANK)


def presence(field: str) -> str:
    """The token of an alert that has any value of this field."""
    return f":{field}"


class _Remembered(dict[_Part, _Found]):
    """What parts are found by. All is forgotten when it has become much: so many characters, and a hundred for each part.

    What folding makes of a character may be eighteen, so it is what is found that counts.
    """

    def __init__(self, make: Callable[[_Part], _Found], most: int) -> None:
        self._make = make
        self._most = most
        self._held = 0

    def __missing__(self, part: _Part) -> _Found:
        found = self._make(part)
        if sum(len(text) for text in structs.astuple(part) if text) < _LONG:
            tokens, texts = found
            size = 100 + sum(map(len, chain(tokens, texts, texts.values())))
            self._held += size
            if self._held > self._most:
                self.clear()
                self._held = size
            self[part] = found
        return found


def _of_facts(facts: Facts) -> _Found:
    return _tokens(_folded(facts.terms)), {text: line_of(text) for text in facts.texts}


def _of_attack(attack: Attack) -> _Found:
    return _tokens(_folded(attack_terms(attack))), {text: line_of(text) for text in attack_texts(attack)}


def _of_entity(entity: Entity) -> _Found:
    return _tokens(entity_terms(entity)), {entity.value: rare_line_of(entity.value)}


def _folded(terms: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(field, value_of(text)) for field, text in terms]


def _tokens(terms: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Of folded values, and of there being any."""
    told = dict.fromkeys([(field, value) for field, value in terms if value])
    fields = dict.fromkeys([field for field, _ in told])
    return (_BLANK.join(map(presence, fields)), _BLANK.join([token(*pair) for pair in told])) if told else ()


def _rare(field: str, text: str) -> tuple[str, ...]:
    """Of a value that seldom comes back."""
    value = rare_value_of(text)
    return (presence(field), token(field, value)) if value else ()


_facts = _Remembered(_of_facts, 500_000)
_attacks = _Remembered(_of_attack, 500_000)
_entities = _Remembered(_of_entity, 3_000_000)
