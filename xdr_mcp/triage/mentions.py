"""Where a text stands in what attackers may have written: in the untrusted fields of stored alerts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from xdr_mcp.alert import UNTRUSTED_FIELDS, Alert, Entity
from xdr_mcp.interfaces import Store
from xdr_mcp.query import Query, Words, words_of

SEARCHED: Final = 50
"""Alerts whose words fit that are looked at."""
TOLD: Final = 3
"""Alerts that are named, at most."""
_TELLING: Final = 4
"""Words from which on it is no coincidence that a sentence stands elsewhere, too."""
_SENTENCES: Final = 20
_SENTENCE_END = re.compile(r"[.!?;\n]+")


async def mentions(store: Store, text: str, *, but: str = "") -> tuple[str, ...]:
    """Ids of alerts in whose untrusted text the words of ``text`` stand in this order, newest first; not the id ``but``."""
    words = words_of(text)
    if not words:
        return ()
    found = await store.find(Query(root=Words(words)), SEARCHED)
    return tuple(islice((alert.id for alert in found.alerts if alert.id != but and _holds(alert, words)), TOLD))


async def copied_from(store: Store, text: str) -> tuple[str, ...]:
    """Ids of alerts in whose untrusted text a sentence of ``text`` stands."""
    sentences = [part for part in _SENTENCE_END.split(text) if len(words_of(part)) >= _TELLING]
    found: dict[str, None] = {}
    for sentence in sentences[:_SENTENCES]:
        found |= dict.fromkeys(await mentions(store, sentence))
    return tuple(found)[:TOLD]


def _holds(alert: Alert, words: tuple[str, ...]) -> bool:
    phrase = f" {' '.join(words)} "
    return any(phrase in f" {' '.join(words_of(text))} " for text in untrusted_texts(alert))


def untrusted_texts(alert: Alert) -> Iterator[str]:
    """Every text of an alert that whoever is on the monitored host can choose."""
    for name in UNTRUSTED_FIELDS:
        value: str | tuple[str | Entity, ...] = getattr(alert, name)
        for each in (value,) if isinstance(value, str) else value:
            yield each.value if isinstance(each, Entity) else each
