"""Counting by values reads of each alert what is counted, and folds it once for all that say the same."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Generator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_vendor import START, record
from msgspec.json import Decoder
from strategies import alerts, storable_texts

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind
from xdr_mcp.errors import QueryError
from xdr_mcp.interfaces import Page
from xdr_mcp.query import Grouping, facets, parse
from xdr_mcp.query.grouping import _OWN, _TIMES, UNITS
from xdr_mcp.store.sqlite.counting import MOST_NAMED, MOST_SAID, _Tally, grouped
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.listing import asked
from xdr_mcp.store.sqlite.revisions import body_of
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.versions import prepare

NOW = datetime(2026, 11, 2, tzinfo=UTC)
COUNTABLE = (*_OWN, "severity", "status", "confidence", *(f"{name}:{unit}" for name in _TIMES for unit in UNITS))
ALERTS = 400


@pytest.fixture
def connection(tmp_path: Path) -> Generator[apsw.Connection, None, None]:
    made = open_writer(tmp_path / "store.db", migrations())
    yield made
    made.close()


@settings(max_examples=50, deadline=None)
@given(alert=alerts(storable_texts), names=st.lists(st.sampled_from(COUNTABLE), min_size=1, max_size=3, unique=True))
def test_a_part_of_an_alert_says_what_the_whole_says(alert: Alert, names: list[str]) -> None:
    grouping = Grouping(facets(names))
    part = Decoder(grouping.part).decode(body_of(alert))
    assert grouping.own(part) == grouping.own(alert)
    assert not hasattr(part, "title")


@pytest.mark.parametrize(("by", "most"), [("host", 5.5), ("technique", 7.5), ("rule", 6.5)])
def test_counting_an_alert_takes_few_calls(connection: apsw.Connection, by: str, most: float) -> None:
    made = tuple(
        record(
            str(number),
            START,
            created=START + timedelta(seconds=number),
            entities=(Entity(EntityKind.HOST, f"Web-{number % 5}.corp"), Entity(EntityKind.HASH, f"{number:064}")),
            attacks=(Attack(technique="T1059"),),
            rule_name=f"Rule {number % 5}",
        )
        for number in range(ALERTS)
    )
    save_page(connection, prepare(Page(made, START)), source="x", lease="", now=START)
    question = asked(connection, parse("", now=NOW))
    grouped(connection, question, facets([by]), 10)  # what is made once
    number = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal number
        number += event == "call"

    sys.setprofile(note)
    try:
        told = grouped(connection, question, facets([by]), 10)
    finally:
        sys.setprofile(None)
    assert told.total == ALERTS
    assert number < most * ALERTS


def test_little_is_kept_of_alerts_that_each_say_much_that_is_new() -> None:
    """70 MB of a thousand alerts were kept, when it was alerts that were counted."""
    tally = _Tally(facets(["host"]))
    tracemalloc.start()
    try:
        for number in range(1_000):
            spelled = "".join(
                letter.upper() if number >> place & 1 else letter for place, letter in enumerate("abcdefghij")
            )
            hosts = tuple(Entity(EntityKind.HOST, f"{host}{spelled}{'x' * 3_500}") for host in range(20))
            tally.add(record("1", START, entities=hosts).alert, number)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
    told = tally.told(50)
    assert (told.total, {group.count for group in told.groups}, len(told.groups)) == (1_000, {1_000}, 20)


def tallied(labels: Iterable[str]) -> int:
    """How many of them are counted before that is refused."""
    tally = _Tally(facets(["label"]))

    def every() -> None:
        for label in labels:
            tally.add(record("1", START, labels=(label,)).alert, tally.total)

    with pytest.raises(QueryError, match="characters in the groups by label; ask about fewer alerts"):
        every()
    return tally.total


def test_groups_that_have_long_names_are_refused_before_they_are_many() -> None:
    """A hundred thousand of 4,096 characters would be 800 MB."""
    assert tallied(f"{number:04096}" for number in range(10_000)) * 2 * 4_096 < MOST_NAMED + 2 * MOST_SAID


def test_a_name_that_is_spelled_ever_longer_is_refused_too() -> None:
    spelled = (f"{number % 500}" + " " * 50 * number for number in range(10_000))
    assert tallied(spelled) < 10_000 / 2
