"""What every store owes to those who ask (``interfaces.Store``): counts by anything, values to complete, and the past."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from contract_stores import OPENERS, Opener, lease_of, nodes, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_vendor import START, ManualClock, record
from msgspec import structs
from strategies import NOW, alerts, storable_texts

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status
from xdr_mcp.errors import QueryError
from xdr_mcp.interfaces import Found, Group, Grouped, Keep, Position, Record, Store
from xdr_mcp.query import (
    MOST_COMBINATIONS,
    And,
    Comparison,
    Level,
    Moment,
    Node,
    Not,
    Or,
    Pattern,
    Query,
    Term,
    Words,
    fold,
    matches,
    parse,
)

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
EVERYTHING = Query()
BEFORE_ALL = START - timedelta(days=900)

Counted: TypeAlias = list[tuple[tuple[str | None, ...], int]]


def hosts(*names: str) -> tuple[Entity, ...]:
    return tuple(Entity(EntityKind.HOST, name) for name in names)


async def groups(store: Store, *by: str, query: str = "", limit: int = 100) -> Counted:
    grouped = await store.count_by(parse(query, now=NOW), by, limit)
    return [(group.values, group.count) for group in grouped.groups]


# ------------------------------------------------------------------------------------------------ counting by


async def test_alerts_are_counted_by_a_choice_the_largest_group_first(store: Store) -> None:
    levels = [Severity.LOW, Severity.HIGH, Severity.HIGH, Severity.CRITICAL]
    await save(store, *(record(str(number), START, severity=level) for number, level in enumerate(levels)))
    assert await store.count_by(EVERYTHING, ["severity"], 10) == Grouped(
        (Group(("high",), 2), Group(("critical",), 1), Group(("low",), 1)), 0, 4
    )
    assert await groups(store, "status") == [(("new",), 4)]
    assert await groups(store, "severity", query="severity>=high") == [(("high",), 2), (("critical",), 1)]


async def test_an_alert_with_two_hosts_counts_in_both_groups_and_once_in_the_total(store: Store) -> None:
    await save(store, record("1", START, entities=hosts("web", "db")), record("2", START, entities=hosts("db", "DB")))
    assert await store.count_by(EVERYTHING, ["host"], 10) == Grouped((Group(("db",), 2), Group(("web",), 1)), 0, 2)


async def test_alerts_without_a_value_are_a_group_of_their_own_the_last_of_its_size(store: Store) -> None:
    await save(store, record("1", START, entities=hosts("z", "")), record("2", START), record("3", START, risk_score=5))
    assert await groups(store, "host") == [((None,), 2), (("z",), 1)]
    assert await groups(store, "risk_score", query="id:2 or id:3") == [(("5",), 1), ((None,), 1)]
    assert await groups(store, "last_seen:day") == [((None,), 3)]


async def test_values_equal_but_for_case_and_accents_are_one_group_spelled_as_the_newest_alert_does(
    store: Store,
) -> None:
    spellings = ["CAFÉ", "cafe", "Café", "Cafe"]
    times = [START, START + 3 * SECOND, START + 2 * SECOND, START + SECOND]
    made = [
        record(str(n), START, created=time, assignee=name)
        for n, (name, time) in enumerate(zip(spellings, times, strict=True))
    ]
    await save(store, *made[:2])
    await save(store, *made[2:])
    assert await groups(store, "assignee") == [(("cafe",), 4)]
    assert await groups(store, "assignee", query="until:2026-11-01T12:00:02Z") == [(("Café",), 3)]


async def test_what_an_alert_is_also_found_by_is_not_counted_twice(store: Store) -> None:
    entities = (
        Entity(EntityKind.USER, "CORP\\Alice"),
        Entity(EntityKind.FILE, "C:\\a\\B.exe"),
        *hosts("web.corp.example"),
    )
    attacks = (Attack(technique="T1059.001", technique_name="PowerShell", tactic_name="Execution"),)
    made = record("1", START, entities=entities, attacks=attacks, rule_id="r-1", rule_name="Rule")
    await save(store, made, record("2", START, rule_id="r-2"))
    for field, value in (
        ("user", "CORP\\Alice"),
        ("file", "C:\\a\\B.exe"),
        ("host", "web.corp.example"),
        ("technique", "T1059.001"),
        ("tactic", "Execution"),
    ):
        assert await groups(store, field) == [((value,), 1), ((None,), 1)]
    assert await groups(store, "rule") == [(("r-2",), 1), (("Rule",), 1)]
    assert await groups(store, "id") == [(("model/1",), 1), (("model/2",), 1)]
    assert await groups(store, "entity", query="id:1") == [
        (("C:\\a\\B.exe",), 1),
        (("CORP\\Alice",), 1),
        (("web.corp.example",), 1),
    ]


async def test_only_the_largest_groups_are_told_and_how_many_are_not(store: Store) -> None:
    made = [record(str(n), START, category=f"c{n % 7}") for n in range(20)]
    await save(store, *made)
    grouped = await store.count_by(EVERYTHING, ["category"], 2)
    assert grouped == Grouped((Group(("c0",), 3), Group(("c1",), 3)), 5, 20)
    assert await store.count_by(EVERYTHING, ["category"], 0) == Grouped((), 7, 20)


async def test_times_are_counted_by_the_hour_day_week_and_month_in_utc(store: Store) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    times = [
        datetime(2026, 11, 25, 13, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 12, 1, 1, 0, tzinfo=east),
        datetime(2027, 1, 2, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime.min.replace(tzinfo=east),
        datetime.max.replace(tzinfo=timezone(-HOUR)),
    ]
    await save(store, *(record(str(n), START, created=time) for n, time in enumerate(times)))
    expected = {
        "hour": "0001-01-01T00 1969-12-31T23 2026-11-25T13 2026-11-30T19 2027-01-02T00 9999-12-31T23",
        "day": "0001-01-01 1969-12-31 2026-11-25 2026-11-30 2027-01-02 9999-12-31",
        "week": "0001-W01 1970-W01 2026-W48 2026-W49 2026-W53 9999-W52",
        "month": "0001-01 1969-12 2026-11 2027-01 9999-12",
    }
    for unit, names in expected.items():
        found = sorted(str(value) for (value,), _ in await groups(store, f"created:{unit}"))
        assert found == names.split()
        mixed = {str(moment) for (moment, _), _ in await groups(store, f"created:{unit}", "source")}
        assert mixed == set(names.split())
    assert await groups(store, "updated:day") == [(("2026-11-01",), 6)]


async def test_alerts_are_counted_by_several_things_at_once(store: Store) -> None:
    web, both = hosts("web"), hosts("web", "db")
    await save(
        store,
        record("1", START, severity=Severity.HIGH, entities=web),
        record("2", START, severity=Severity.HIGH, entities=both),
        record("3", START, severity=Severity.LOW),
    )
    assert await groups(store, "severity", "host") == [
        (("high", "web"), 2),
        (("high", "db"), 1),
        (("low", None), 1),
    ]
    assert await groups(store, "status", "severity") == [(("new", "high"), 2), (("new", "low"), 1)]


async def test_an_alert_with_very_many_values_counts_in_a_bounded_number_of_groups(store: Store) -> None:
    many = tuple(Entity(kind, str(n)) for kind in (EntityKind.HOST, EntityKind.USER) for n in range(200))
    await save(store, record("1", START, entities=many))
    grouped = await store.count_by(EVERYTHING, ["host", "user"], 5)
    assert (len(grouped.groups) + grouped.others, grouped.total) == (MOST_COMBINATIONS, 1)


async def test_more_groups_than_memory_is_meant_for_are_refused_with_the_remedy(store: Store) -> None:
    crowd = [
        record(str(n), START, labels=tuple(f"{n}.{m}" for m in range(MOST_COMBINATIONS)), category=f"c{n}")
        for n in range(101)
    ]
    await save(store, *crowd)
    with pytest.raises(QueryError, match="more than 100000 groups by label; ask about fewer alerts"):
        await store.count_by(EVERYTHING, ["label"], 10)
    assert (await store.count_by(parse("category:c7", now=NOW), ["label"], 0)).others == MOST_COMBINATIONS
    assert (await store.count_by(EVERYTHING, ["category"], 0)).others == 101


@pytest.mark.parametrize("name", ["hosts", "Hostname", "computer", "device.name"])
async def test_a_field_may_go_by_the_names_a_query_knows(store: Store, name: str) -> None:
    await save(store, record("1", START, entities=hosts("web")))
    assert await groups(store, name) == [(("web",), 1)]


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (["colour"], "severity, status, verdict, host"),
        (["title"], "For example: severity"),
        (["created"], "For example: created:day"),
        (["created:decade"], ":hour, :day, :week, :month"),
        (["severity:day"], "cannot be counted by"),
        (["since:day"], "cannot be counted by"),
        (["host", "host name", "hostname"], "cannot be counted by"),
        (["host", "hostname"], "named twice"),
        (["severity", "status", "verdict", "host"], "one to 3 fields"),
        ([], "one to 3 fields"),
    ],
)
async def test_what_alerts_cannot_be_counted_by_is_refused_with_what_they_can(
    store: Store, by: list[str], told: str
) -> None:
    with pytest.raises(QueryError, match=told):
        await store.count_by(EVERYTHING, by, 10)


def own(alert: Alert, field: str) -> set[str | None]:
    """The folded values an alert is to be counted under."""
    many: dict[str, Iterable[str | None]] = {
        "severity": [alert.severity.value],
        "status": [alert.status.value],
        "count": [str(alert.count)],
        "confidence": [None if alert.confidence is None else str(alert.confidence)],
        "created:day": [f"{alert.created:%Y-%m-%d}".casefold()],
        "created:week": [f"{alert.created:%G-W%V}"],
        "last_seen:hour": [f"{alert.last_seen:%Y-%m-%dT%H}" if alert.last_seen else None],
        "host": alert.values_of(EntityKind.HOST),
        "entity": [entity.value for entity in alert.entities],
        "label": alert.labels,
        "technique": [
            attack.technique if fold(attack.technique or "") else attack.technique_name for attack in alert.attacks
        ],
        "source": [alert.source],
    }
    exact = field in {"created:week", "last_seen:hour"}
    return {value if exact else fold(value) for value in many[field] if value and fold(value)} or {None}


COUNTABLE = [
    *("severity", "status", "count", "confidence", "created:day", "created:week", "last_seen:hour"),
    *("host", "entity", "label", "technique", "source"),
]


def expected(stored: Iterable[Alert], by: list[str]) -> Counter[tuple[str | None, ...]]:
    counts: Counter[tuple[str | None, ...]] = Counter()
    for alert in stored:
        counts.update(product(*(own(alert, field) for field in by)))
    return counts


def folded(grouped: Grouped) -> dict[tuple[str | None, ...], int]:
    def key(value: str | None) -> str | None:
        return value if value is None or (value[:2] == "20" and value[4:5] == "-") else fold(value)

    found = {tuple(map(key, group.values)): group.count for group in grouped.groups}
    assert len(found) == len(grouped.groups)
    return found


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_counting_by_anything_agrees_with_counting_in_memory(opener: Opener, data: st.DataObject) -> None:
    stored = data.draw(st.lists(alerts(storable_texts), min_size=1, max_size=6, unique_by=lambda alert: alert.id))
    questions = data.draw(
        st.lists(
            st.tuples(
                nodes(stored),
                st.lists(st.sampled_from(COUNTABLE), min_size=1, max_size=3, unique=True),
                st.integers(0, 9),
            ),
            max_size=6,
        )
    )

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), ManualClock()) as store:
                await save(store, *(Record(alert, alert.title.encode()) for alert in stored))
                for root, by, limit in questions:
                    query = Query(root=root)
                    found = [alert for alert in stored if matches(query, alert)]
                    counts = expected(found, by)
                    whole = await store.count_by(query, by, 1_000)
                    assert (folded(whole), whole.others, whole.total) == (counts, 0, len(found))
                    assert list(whole.groups) == sorted(
                        whole.groups, key=lambda g: (-g.count, [(v is None, fold(v or "")) for v in g.values])
                    )
                    some = await store.count_by(query, by, limit)
                    assert some == Grouped(whole.groups[:limit], max(0, len(counts) - limit), len(found))

    anyio.run(run)


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_was_counted_is_found_by_its_value(opener: Opener, data: st.DataObject) -> None:
    stored = data.draw(st.lists(alerts(storable_texts), min_size=1, max_size=6, unique_by=lambda alert: alert.id))

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), ManualClock()) as store:
                await save(store, *(Record(alert, alert.title.encode()) for alert in stored))
                for field in ("host", "user", "entity", "technique", "tactic", "rule", "label", "id", "assignee"):
                    for group in (await store.count_by(EVERYTHING, [field], 1_000)).groups:
                        value = group.values[0]
                        pattern = Pattern(("", "")) if value is None else Pattern((fold(value),))
                        found = await store.count(Query(root=Term(field, pattern)))
                        assert found == len(stored) - group.count if value is None else found >= group.count

    anyio.run(run)


async def test_counting_may_end_when_there_are_more_than_one_needs_to_know(store: Store, clock: ManualClock) -> None:
    await save(store, *(record(str(number), START, entities=hosts("web")) for number in range(7)))
    then = clock.now
    clock.advance(hours=1)
    await save(
        store, *(record(str(number), START + SECOND, created=START, entities=hosts("web")) for number in range(3))
    )
    query = parse("host:web", now=NOW)
    for most, told in ((0, 1), (5, 6), (6, 7), (7, 7), (100, 7), (None, 7)):
        assert await store.count(query, most=most) == told
        assert min(await store.count(query, then, most), 7 if most is None else most + 1) == told


async def test_any_period_is_counted_to_the_microsecond(store: Store) -> None:
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    offsets = [
        timedelta(days=day, hours=hour, microseconds=n)
        for day in (0, 1, 2, 3)
        for hour in (0, 1, 23)
        for n in (-1, 0, 1)
    ]
    times = [midnight + offset for offset in offsets]
    await save(store, *(record(str(number), START, created=time) for number, time in enumerate(times)))
    for start in times[::2]:
        for end in times[1::2]:
            root = And((Moment("created", Comparison.GE, start), Moment("created", Comparison.LT, end)))
            found = [time for time in times if start <= time < end]
            assert await store.count(Query(root=root)) == len(found)
            days = Counter(f"{time:%Y-%m-%d}" for time in found)
            grouped = await store.count_by(Query(root=root), ["created:day"], 10)
            assert {group.values[0]: group.count for group in grouped.groups} == days


SUMMARIES = ["severity", "status", "verdict", "created:hour", "created:day", "created:week", "created:month"]


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_summaries_of_any_period_agree_with_counting_in_memory(opener: Opener, data: st.DataObject) -> None:
    """Where bounds may fall on, before and behind the edge of an hour or a day, and alerts change, move and go."""
    edges = [NOW.replace(hour=hour) + timedelta(days=day) for hour in (0, 1, 12, 23) for day in (-2, -1, 0, 40)]
    times = st.sampled_from(edges).flatmap(
        lambda edge: st.sampled_from([-1, 0, 1, 1_800_000_000]).map(lambda n: edge + timedelta(microseconds=n))
    ) | st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime(1969, 12, 31, 23, 30, tzinfo=UTC)])
    drawn = st.builds(
        lambda alert, number, created: structs.replace(alert, source="model", vendor_id=str(number), created=created),
        *(alerts(st.just("")), st.integers(1, 6), times),
    )
    history = data.draw(st.lists(drawn, min_size=1, max_size=12))
    ranks = st.builds(Level, st.sampled_from(SUMMARIES[:3]), st.sampled_from(Comparison), st.integers(-1, 7))
    trees = st.recursive(
        ranks,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts)))
            | st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts)))
            | inner.map(Not)
        ),
        max_leaves=3,
    )
    bounds = st.builds(Moment, st.just("created"), st.sampled_from(Comparison), times)
    questions = data.draw(
        st.lists(
            st.tuples(
                st.lists(trees | bounds | bounds, max_size=4).map(lambda parts: Query(root=And(tuple(parts)))),
                st.lists(st.sampled_from(SUMMARIES), min_size=1, max_size=2, unique=True),
            ),
            min_size=8,
            max_size=8,
        )
    )

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), ManualClock()) as store:
                for number, alert in enumerate(history):
                    version = structs.replace(alert, updated=START + number * SECOND)
                    await save(store, Record(version, str(number).encode()))
                await store.forget(Keep(alerts=4), {"model": ()}, (), await lease_of(store, "retention"))
                kept = (await store.find(EVERYTHING, 100)).alerts
                for query, by in questions:
                    found = [alert for alert in kept if matches(query, alert)]
                    assert await store.count(query) == len(found)
                    grouped = await store.count_by(query, by, 1_000)
                    told = {group.values: group.count for group in grouped.groups}
                    assert (told, grouped.total) == (summary(found, by), len(found))

    anyio.run(run)


def summary(stored: Iterable[Alert], by: list[str]) -> Counter[tuple[str, ...]]:
    formats = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}

    def value(alert: Alert, name: str) -> str:
        field, _, unit = name.partition(":")
        if not unit:
            return str(getattr(alert, field).value)
        told = alert.created.strftime(formats[unit])
        return told if alert.created.year > 1 else told.replace("1-", "0001-", 1)

    return Counter(tuple(value(alert, name) for name in by) for alert in stored)


# ------------------------------------------------------------------------------------------------ values


async def test_values_are_completed_from_what_is_stored(store: Store) -> None:
    await save(
        store,
        record("1", START, entities=hosts("WEB-01.corp.example", "db1")),
        record("2", START + SECOND, entities=(*hosts("Web-02", "wéb-03"), Entity(EntityKind.USER, "will"))),
    )
    assert await store.values("host", "we", 10) == ("WEB-01", "WEB-01.corp.example", "Web-02", "wéb-03")
    assert await store.values("hostname", "WÉB-", 2) == ("WEB-01", "WEB-01.corp.example")
    assert await store.values("host", "", 100) == ("db1", "WEB-01", "WEB-01.corp.example", "Web-02", "wéb-03")
    assert await store.values("host", "web-0?", 10) == ()
    assert await store.values("user", "web", 10) == ()
    assert await store.values("host", "we", 0) == ()
    assert await store.values("entity", "w", 10) == ("WEB-01", "WEB-01.corp.example", "Web-02", "wéb-03", "will")


async def test_a_value_with_a_blank_that_entities_of_two_kinds_have_is_given_once(store: Store) -> None:
    entities = (*hosts("web 1", "web!2"), Entity(EntityKind.USER, "web 1"), Entity(EntityKind.IP, "web!3"))
    await save(store, record("1", START, entities=entities))
    assert sorted(await store.values("entity", "w", 10)) == ["web 1", "web!2", "web!3"]


async def test_a_value_is_spelled_as_the_newest_alert_does(store: Store) -> None:
    for number, name in enumerate(["WEB", "web", "Web"]):
        await save(store, record(str(number), START, created=START - number * SECOND, entities=hosts(name)))
    assert await store.values("host", "w", 10) == ("WEB",)
    await save(store, record("1", START + HOUR, created=START + HOUR, entities=hosts("wEB")))
    assert await store.values("host", "w", 10) == ("wEB",)


async def test_a_value_that_only_an_older_revision_has_is_not_offered(store: Store) -> None:
    await save(store, record("1", START, assignee="anna"), record("2", START, assignee="ann"))
    await save(store, record("1", START + SECOND, assignee="bob"))
    assert await store.values("assignee", "a", 10) == ("ann",)


@pytest.mark.parametrize("field", ["severity", "created", "title", "colour", ""])
async def test_only_keyword_fields_have_values(store: Store, field: str) -> None:
    with pytest.raises(QueryError, match="host, ip, mac"):
        await store.values(field, "", 10)


# ------------------------------------------------------------------------------------------------ revisions


async def test_the_revisions_of_an_alert_are_told_newest_first(store: Store) -> None:
    for number in range(4):
        await save(store, record("1", START + number * SECOND, title=f"title {number}"), record(f"o{number}", START))
    told = await store.revisions("model/1", 10)
    assert [(change.revision, change.alert.title) for change in told] == [
        (4, "title 3"),
        (3, "title 2"),
        (2, "title 1"),
        (1, "title 0"),
    ]
    assert [change.before for change in told] == [*(change.alert for change in told[1:]), None]
    assert told[0] == await store.get("model/1")
    assert await store.revisions("model/1", 2) == told[:2]
    assert await store.revisions("model/1", 0) == ()
    assert await store.revisions("model/2", 10) == ()
    assert await store.revisions("lone \ud800", 10) == ()


# ------------------------------------------------------------------------------------------------ the past


async def test_an_alert_is_got_as_it_was_known(store: Store, clock: ManualClock) -> None:
    times = []
    for number in range(3):
        await save(store, record("1", START + number * SECOND, title=f"title {number}"))
        await save(store, record(f"other {number}", START))
        times.append(clock.now)
        clock.advance(seconds=10)
    assert await store.get("model/1", times[0] - SECOND) is None
    for number, time in enumerate(times):
        for moment in (time, time + 9 * SECOND):
            change = await store.get("model/1", moment)
            assert change is not None
            assert (change.revision, change.alert.title) == (number + 1, f"title {number}")
    assert await store.get("model/1", times[2] + HOUR) == await store.get("model/1")
    assert await store.get("model/2", times[2]) is None
    assert await store.get("lone \ud800", times[0]) is None


async def test_before_anything_was_saved_nothing_was_known(store: Store) -> None:
    for as_of in (BEFORE_ALL, START + HOUR):
        assert await store.find(EVERYTHING, 10, as_of=as_of) == Found((), None)
    await save(store, record("1", START))
    assert await store.find(EVERYTHING, 10, as_of=BEFORE_ALL) == Found((), None)
    assert await store.count(EVERYTHING, BEFORE_ALL) == 0
    assert await store.count_by(EVERYTHING, ["host"], 10, BEFORE_ALL) == Grouped((), 0, 0)
    assert await store.count_by(EVERYTHING, ["severity"], 10, BEFORE_ALL) == Grouped((), 0, 0)


async def test_the_past_is_searched_as_it_was(store: Store, clock: ManualClock) -> None:
    await save(store, record("1", START, status=Status.NEW, title="quiet"), record("2", START - SECOND))
    then = clock.now
    clock.advance(hours=1)
    await save(
        store, record("1", START + HOUR, created=START, status=Status.RESOLVED, title="loud"), record("3", START)
    )
    is_open, loud = parse("status:open", now=NOW), Query(root=Words(("loud",)))
    assert [alert.title for alert in (await store.find(is_open, 10, as_of=then)).alerts] == ["quiet", "alert 2"]
    assert (await store.count(is_open), await store.count(is_open, then)) == (2, 2)
    assert (await store.count(loud), await store.count(loud, then)) == (1, 0)
    assert await store.count_by(EVERYTHING, ["status"], 9, then) == Grouped((Group(("new",), 2),), 0, 2)


async def test_an_alert_that_has_moved_in_the_listing_is_listed_where_it_stood(
    store: Store, clock: ManualClock
) -> None:
    await save(store, *(record(str(n), START, created=START + n * SECOND) for n in range(4)))
    first = clock.now
    for hours, created in ((1, START + HOUR), (2, START - HOUR)):
        clock.advance(hours=1)
        await save(store, record("1", START + hours * HOUR, created=created))
        if hours == 1:
            second = clock.now
    for as_of, order in ((first, "3210"), (second, "1320"), (None, "3201")):
        listed: list[str] = []
        place: Position | None = None
        while True:
            found = await store.find(EVERYTHING, 1, place, as_of)
            listed += [alert.vendor_id for alert in found.alerts]
            if (place := found.next) is None:
                break
        assert "".join(listed) == order


async def test_what_was_forgotten_is_missing_from_the_past(store: Store, clock: ManualClock) -> None:
    await save(store, record("1", START), record("2", START + SECOND))
    then = clock.now
    clock.advance(hours=1)
    await save(store, record("1", START + 2 * SECOND, created=START), record("2", START + 3 * SECOND, created=START))
    await store.forget(Keep(alerts=1), {"model": ()}, (), await lease_of(store, "retention"))
    assert [alert.vendor_id for alert in (await store.find(EVERYTHING, 10, as_of=then)).alerts] == ["2"]
    assert await store.get("model/1", then) is None
    assert await store.count(EVERYTHING, then) == 1


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_at_any_moment_of_the_past_every_answer_is_the_one_that_was_given_then(
    opener: Opener, data: st.DataObject
) -> None:
    """Each question is asked after each page, and of that moment when all is saved: to the place of the next page."""
    drawn = alerts(storable_texts).map(lambda alert: structs.replace(alert, source="model"))
    identified = st.tuples(drawn, st.sampled_from("12345")).map(
        lambda pair: structs.replace(pair[0], vendor_id=pair[1])
    )
    pages = data.draw(st.lists(st.lists(identified, max_size=4), min_size=2, max_size=5))
    stored = [alert for page in pages for alert in page] or data.draw(st.lists(identified, min_size=1, max_size=1))
    roots: list[Node | None] = [None, *(data.draw(nodes(stored)) for _ in range(4))]
    by = [data.draw(st.lists(st.sampled_from(COUNTABLE), min_size=1, max_size=2, unique=True)) for _ in range(3)]

    async def answers(store: Store, as_of: datetime | None) -> list[Any]:
        told: list[Any] = [await store.get(f"model/{number}", as_of) for number in "12345"]
        for query in (Query(root=root) for root in roots):
            told.append(await store.count(query, as_of))
            place: Position | None = None
            for _ in range(9):
                found = await store.find(query, 2, place, as_of, most=1_000)
                assert found.total == await store.count(query, as_of)
                assert structs.replace(found, total=None) == await store.find(query, 2, place, as_of)
                told.append(found)
                if (place := found.next) is None:
                    break
            told += [await store.count_by(query, names, 3, as_of) for names in by]
        return told

    async def run() -> None:
        clock = ManualClock()
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), clock) as store:
                then = []
                for number, page in enumerate(pages):
                    clock.advance(seconds=60)
                    later = (structs.replace(alert, updated=START + number * HOUR) for alert in page)
                    await save(store, *(Record(alert, repr(alert).encode()) for alert in later))
                    then.append((clock.now, await answers(store, None)))
                for moment, told in then:
                    assert await answers(store, moment + 59 * SECOND) == told

    anyio.run(run)
