"""What of an alert can be searched, as text that every engine sees alike.

Text is folded here, in Python, once: when an alert is stored and when a query is parsed. What comes out holds no control
character, no lone surrogate and no combining mark, so a store compares it by code point and needs no collation.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VALUE_LIMIT = 4_096
"""A keyword value is cut after this many folded characters; so is the value a query asks for."""
WORD_LIMIT = 256
"""A word is cut after this many characters: FTS5 and tsvector cut or refuse longer ones, each in its own way."""
TEXT_LIMIT = 32_000
"""A text column is cut after this many folded characters: at most 16,000 words, as many as a tsvector can place."""

READ_LIMIT = 100_000
"""No more of a text is folded than so many characters, three times what is kept of it: each takes up to half a kilobyte meanwhile."""

_SHORT = 128
"""Most short values (products, rules, hosts) come back in alert after alert: their folded form is remembered."""
_MOST_REMEMBERED = 2_048
"""Of each kind. Folded, a short value may have eighteen times its length: 10 MB of each, whatever a vendor sends."""
_MOST_CHARACTERS = 65_536
"""Whose folded form is remembered: 5 MB. With fewer, a text could go through so many that each is folded anew."""
_WORD = re.compile(r"[^\W_]+")
_ASCII_CONTROLS = dict.fromkeys((*range(32), 127), " ")
_ASCII_WORDS = bytes(ord(chr(byte).lower()) if chr(byte).isalnum() else 32 for byte in range(128)) + bytes(128)
"""What each byte of ASCII text is within words: itself, its lower case, or a blank."""
_HANGUL_FILLERS = frozenset("\u115f\u1160")
_ENTITY_FIELDS = frozenset(EntityKind)
SHORTENED = frozenset({EntityKind.HOST, EntityKind.USER, EntityKind.FILE, EntityKind.PROCESS})
"""Kinds whose values are also called by a shorter form."""
_PATHS = frozenset({EntityKind.FILE, EntityKind.PROCESS})
_PATH_SEPARATOR = re.compile(r"[\\/]")
_ADDRESS = re.compile(r"[0-9.]*|.*:.*", re.DOTALL)
_ATTACK_TECHNIQUE = re.compile(r"(t\d{4})\.\d{3}")


def fold(text: str) -> str:
    r"""``text`` for comparing: without case, accents, compatibility forms, invisible characters and repeated blanks.

    ``Café\u200b  ﬁle`` becomes ``cafe file``. Folding what is folded changes nothing. Controls (NUL too) count as blanks, a
    lone surrogate becomes U+FFFD. Takes time in proportion to the length; cutting is left to who keeps the text.
    """
    return _fold_again(text) if len(text) <= _SHORT else _fold(text)


def _fold(text: str) -> str:
    if text.isascii():
        lower = text.lower()
        if not lower.isprintable():
            lower = lower.translate(_ASCII_CONTROLS)
        return " ".join(lower.split()) if " " in lower else lower
    return " ".join(text.translate(_folded).split())


_fold_again = lru_cache(maxsize=_MOST_REMEMBERED)(_fold)


class _Folded(dict[int, int | str]):
    """What each character becomes, whatever stands beside it: NFKD reorders marks only, which leave nothing or the same letter."""

    def __missing__(self, point: int) -> int | str:
        if len(self) >= _MOST_CHARACTERS:
            self.clear()
        character = chr(point)
        folded = _folded_character(character)
        found = self[point] = point if folded == character else folded
        return found


def _folded_character(text: str) -> str:
    while True:
        folded = "".join(map(_plain, unicodedata.normalize("NFKD", text).casefold()))
        if folded == text:
            return folded
        text = folded


def _plain(character: str) -> str:
    """What a character counts as: itself, a blank, U+FFFD, or nothing where it only changes or hides its neighbours."""
    category = unicodedata.category(character)
    if category == "Cc" or category[0] == "Z":
        return " "
    if category == "Cs":
        return "\ufffd"
    if category[0] == "M" or category == "Cf" or character in _HANGUL_FILLERS:
        return ""
    return character


_folded = _Folded()


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, folded: runs of letters and numbers of any script; all else separates.

    Joined with blanks they are read back as the same words by a tokenizer that separates at every ASCII character that is
    no letter or digit, and keeps all others (FTS5's ``ascii``).
    """
    return tuple(line_of(text).split())


def line_of(text: str) -> str:
    """The words of a text, joined with single blanks."""
    return _line_again(text) if len(text) <= _SHORT else rare_line_of(text)


def rare_line_of(text: str) -> str:
    """The same of a text that seldom comes back, and is not worth remembering."""
    read = text[:READ_LIMIT]
    found = read.encode().translate(_ASCII_WORDS).decode().split() if read.isascii() else _WORD.findall(_fold(read))
    line = " ".join(found)
    return line if len(line) <= WORD_LIMIT else " ".join([word[:WORD_LIMIT] for word in found])


_line_again = lru_cache(maxsize=_MOST_REMEMBERED)(rare_line_of)


def value_of(text: str) -> str:
    """A keyword value as it is stored and asked for: folded and cut; empty when nothing is left of it."""
    return _value_again(text) if len(text) <= _SHORT else rare_value_of(text)


def rare_value_of(text: str) -> str:
    """The same of a text that seldom comes back, such as an id, and is not worth remembering."""
    folded = _fold(text[:VALUE_LIMIT])
    if len(text) > VALUE_LIMIT > len(folded):
        folded = _fold(text[:READ_LIMIT])
    return folded[:VALUE_LIMIT].rstrip()


_value_again = lru_cache(maxsize=_MOST_REMEMBERED)(rare_value_of)


def texts_of(alert: Alert) -> tuple[tuple[str, str], ...]:
    """(column, words joined with single blanks) for the columns ``title``, ``description`` and ``other``, in this order.

    ``other`` holds what free text is expected to find besides: ids, rule, product, assignee, ATT&CK, labels, entities.
    """
    return (
        ("title", column_of(alert.title)),
        ("description", column_of(alert.description)),
        ("other", column_of_lines(map(line_of, dict.fromkeys(_other(alert))))),
    )


def column_of(text: str) -> str:
    """A text column of this text."""
    line = line_of(text[:TEXT_LIMIT])
    if len(text) > TEXT_LIMIT > len(line):
        line = line_of(text)
    return line[:TEXT_LIMIT].rstrip()


def column_of_lines(lines: Iterable[str]) -> str:
    """A text column of these words. No more lines are asked for than it can hold."""
    kept = []
    left = TEXT_LIMIT
    for line in filter(None, lines):
        kept.append(line)
        left -= len(line) + 1
        if left < 0:
            break
    return " ".join(kept)[:TEXT_LIMIT].rstrip()


def _other(alert: Alert) -> list[str]:
    texts = [alert.vendor_id, *facts_of(alert).texts]
    for attack in alert.attacks:
        texts += attack_texts(attack)
    texts += alert.labels
    texts += [entity.value for entity in alert.entities]
    return texts


class Facts(Struct, frozen=True, gc=False):
    """What many alerts have in common."""

    source: str
    product: str
    vendor: str
    tenant: str
    category: str
    rule_id: str
    rule_name: str
    assignee: str

    @property
    def texts(self) -> tuple[str, ...]:
        """What of it is found as text."""
        return self.rule_name, self.rule_id, self.category, self.product, self.vendor, self.assignee

    @property
    def terms(self) -> tuple[tuple[str, str], ...]:
        """(field, value)."""
        return (
            *(("source", self.source), ("product", self.product), ("vendor", self.vendor), ("tenant", self.tenant)),
            *(("category", self.category), ("rule", self.rule_id), ("rule", self.rule_name)),
            ("assignee", self.assignee),
        )


def facts_of(alert: Alert) -> Facts:
    """Its facts."""
    return Facts(
        *(alert.source, alert.product, alert.vendor, alert.tenant, alert.category),
        *(alert.rule_id, alert.rule_name, alert.assignee),
    )


def terms_of(alert: Alert) -> tuple[tuple[str, str], ...]:
    r"""(field, folded value) for every keyword field of the alert, each pair once; a value that folds to nothing is left out.

    Some values are given in more than one form, because people ask for either: a sub-technique also as its technique, a
    path also as its last part, ``CORP\alice`` and ``alice@corp`` also as ``alice``, a host's full name also as its first
    label, an alert id also without its source. Every entity also counts as an ``entity``.
    """
    own = own_terms_of(alert)
    return (*own, *dict.fromkeys([("entity", value) for field, value in own if field in _ENTITY_FIELDS]))


def own_terms_of(alert: Alert) -> tuple[tuple[str, str], ...]:
    """``terms_of`` without ``entity``."""
    pairs = [("id", rare_value_of(alert.id)), ("id", rare_value_of(alert.vendor_id))]
    pairs += [(field, value_of(text)) for field, text in _terms(alert) if text]
    for entity in alert.entities:
        pairs += _entity_terms_again(entity) if len(entity.value) <= _SHORT else entity_terms(entity)
    return tuple([pair for pair in dict.fromkeys(pairs) if pair[1]])


def spelling(alert: Alert, field: str, value: str) -> str:
    """How the alert spells a pair of its ``terms_of``: not folded, not cut."""
    entities = [
        (name, form) for entity in alert.entities for form in forms_of(entity) for name in (entity.kind, "entity")
    ]
    own = [("id", alert.id), ("id", alert.vendor_id), *_terms(alert), *entities]
    return next(text for name, text in own if name == field and value_of(text) == value)


def _terms(alert: Alert) -> list[tuple[str, str]]:
    """What is neither an id nor an entity, as the alert spells it."""
    terms = [*facts_of(alert).terms, *[("label", label) for label in alert.labels]]
    for attack in alert.attacks:
        terms += attack_terms(attack)
    return terms


def attack_texts(attack: Attack) -> tuple[str, ...]:
    """What of a reference is found as text."""
    texts = (attack.technique, attack.technique_name, attack.tactic, attack.tactic_name)
    return tuple([text for text in texts if text])


def attack_terms(attack: Attack) -> Iterator[tuple[str, str]]:
    """(field, value as it is spelled) of a reference."""
    for text in (attack.tactic, attack.tactic_name):
        if text:
            yield "tactic", text
    for text in (attack.technique, attack.technique_name):
        if text:
            yield "technique", text
    if attack.technique and (parent := _ATTACK_TECHNIQUE.fullmatch(fold(attack.technique))):
        yield "technique", parent[1].upper()


def entity_terms(entity: Entity) -> tuple[tuple[str, str], ...]:
    """(field, folded value) of an entity."""
    kind = entity.kind.value
    return tuple([(kind, rare_value_of(form)) for form in dict.fromkeys(forms_of(entity))])


_entity_terms_again = lru_cache(maxsize=_MOST_REMEMBERED)(entity_terms)


def forms_of(entity: Entity) -> Iterator[str]:
    """An entity's value, then the shorter form that people also call it by."""
    value = entity.value.strip()
    yield value
    if entity.kind in _PATHS:
        yield _PATH_SEPARATOR.split(value)[-1]
    elif entity.kind is EntityKind.USER:
        yield value.rpartition("\\")[2].partition("@")[0]
    elif entity.kind is EntityKind.HOST and not _ADDRESS.fullmatch(value):
        yield value.partition(".")[0]
