"""What alerts are found by: made of parts that are remembered, and the same as if nothing were."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_vendor import START, record
from strategies import alerts, texts

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind
from xdr_mcp.query import texts_of
from xdr_mcp.query.text import READ_LIMIT, TEXT_LIMIT, VALUE_LIMIT, _fold, _plain, own_terms_of
from xdr_mcp.store.sqlite.postings import _Remembered, posted, presence, token

LONG = 5_000


def long_alert(text: str) -> Alert:
    """An alert that has this text wherever it can."""
    return record(
        text,
        START,
        title=text,
        description=text,
        rule_name=text,
        attacks=(Attack(technique_name=text),),
        entities=tuple(Entity(kind, text) for kind in EntityKind),
        labels=(text,),
    ).alert


@settings(deadline=None)
@given(st.lists(alerts(texts | st.sampled_from("aàﷺ").map(lambda character: character * 300)), min_size=1, max_size=3))
def test_an_alert_is_found_by_its_texts_values_and_levels_whatever_is_remembered(drawn: list[Alert]) -> None:
    for alert in (*drawn, *drawn):
        *columns, tokens = posted(alert)
        assert columns == [text for _, text in texts_of(alert)]
        levels = {f"s{alert.severity.rank}", f"w{alert.status.ocsf_id}", f"v{alert.verdict.ocsf_id}"}
        values = {made for field, value in own_terms_of(alert) for made in (token(field, value), presence(field))}
        assert set(tokens.split(" ")) == {"everything", *levels, *values}


def test_of_an_alert_that_hides_its_text_far_behind_as_much_is_found_by_either_way() -> None:
    alert = record(
        "a" + "\N{ZERO WIDTH SPACE}" * READ_LIMIT + "b", START, rule_name="the rule", labels=("é" * 9,)
    ).alert
    *columns, tokens = posted(alert)
    assert columns == [text for _, text in texts_of(alert)]
    assert columns[2] == "a the rule " + "e" * 9
    assert {token(field, value) for field, value in own_terms_of(alert)} <= set(tokens.split(" "))


def test_little_memory_is_taken_to_fold_a_text_however_long_it_is() -> None:
    """32 MB for a million of them, and 500 for a message that fills an answer."""
    alert = record("a", START, description="é" * 1_000_000).alert
    tracemalloc.start()
    try:
        posted(alert)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def of_many(values: list[str]) -> list[Alert]:
    """Alerts that have these as files, as addresses, and as labels."""
    parts: list[dict[str, Any]] = [
        {"entities": tuple(Entity(EntityKind.FILE, value) for value in values)},
        {"entities": tuple(Entity(EntityKind.IP, value) for value in values)},
        {"labels": tuple(values)},
    ]
    return [record("1", START, **part).alert for part in parts]


def folding(alert: Alert) -> Counter[str]:
    """How many characters are read for an alert, and how many are looked up."""
    told: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code is _fold.__code__:
            told["read"] += len(frame.f_locals["text"])
        elif event == "call" and frame.f_code is _plain.__code__:
            told["looked up"] += 1

    sys.setprofile(note)
    try:
        posted(alert)
    finally:
        sys.setprofile(None)
    return told


@pytest.mark.parametrize("kind", range(3))
def test_each_value_of_an_alert_is_folded_once_and_few_characters_are_looked_up(kind: int) -> None:
    """An alert of 3 MB of ligatures took ten seconds."""
    told = folding(of_many([f"{number}" + "ﷺ" * LONG for number in range(100)])[kind])
    assert 100 * VALUE_LIMIT <= told["read"] < 100 * VALUE_LIMIT + 2 * LONG + 1_000
    assert told["looked up"] < 1_000


@pytest.mark.parametrize("kind", range(3))
def test_no_more_of_the_values_of_an_alert_is_found_as_text_than_one_column_holds(kind: int) -> None:
    alert = of_many([f"{number}" + "ﷺ. é" * LONG for number in range(20)])[kind]
    *columns, _ = posted(alert)
    assert columns == [text for _, text in texts_of(alert)]
    assert TEXT_LIMIT - 10 < len(columns[2]) <= TEXT_LIMIT


def test_what_is_remembered_of_many_parts_is_bounded() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            file = Entity(EntityKind.FILE, f"{number}" + "x" * 400)
            posted(record("1", START, entities=(file,)).alert)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 5_000 * 4 * 400  # a value, its two tokens, its words


def test_what_is_remembered_is_bounded_by_what_folding_made_of_it() -> None:
    """Of a ligature it makes eighteen characters: files called so took 60 MB when those of their names were counted."""

    def ligatures(entity: Entity) -> tuple[tuple[str, ...], dict[str, str]]:
        return (entity.value * 18,), {entity.value: entity.value * 18}

    remembered = _Remembered(ligatures, 100_000)
    for number in range(100):
        assert remembered[Entity(EntityKind.FILE, f"{number:0100}")]
    assert 5 < len(remembered) < 100_000 / (2 * 18 * 100)


def test_what_is_long_is_not_remembered() -> None:
    """Nor what is long and has no visible character."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(3):
            posted(long_alert(f"{number}" + "\N{ZERO WIDTH SPACE}" * LONG))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < LONG
