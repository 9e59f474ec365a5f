"""What every store owes (``interfaces.Store``), whatever engine it stands on."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from contract_stores import OPENERS, TTL, Opener, lease_of, nodes, page, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_vendor import START, ManualClock, record
from msgspec import structs
from strategies import NOW, alerts, queries, storable_texts
from truth import every_change

from xdr_mcp.alert import Alert, Change, ChangeKind, Entity, EntityKind, Severity, Status
from xdr_mcp.errors import LeaseLost, QueryError, StoreError, StoreUnusable, Unavailable
from xdr_mcp.interfaces import (
    DeadLetter,
    Forgotten,
    Found,
    Health,
    Keep,
    Lease,
    Position,
    Quarantined,
    Record,
    Saved,
    SinkState,
    SourceState,
    Store,
    Window,
)
from xdr_mcp.query import (
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
    matches,
    parse,
)

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
EVERYTHING = Query()


async def state_of(store: Store, source: str = "model") -> SourceState:
    return next(state for state in await store.states() if state.source == source)


async def listing(store: Store, query: Query = EVERYTHING, limit: int = 100) -> list[str]:
    """Every id that a query finds, page by page."""
    ids: list[str] = []
    position: Position | None = None
    while True:
        found = await store.find(query, limit, position)
        ids += [alert.vendor_id for alert in found.alerts]
        if found.next is None:
            return ids
        assert len(found.alerts) == limit
        position = found.next


# ------------------------------------------------------------------------------------------------ versions


async def test_a_new_alert_is_stored_told_and_found(store: Store, clock: ManualClock) -> None:
    clock.advance(seconds=5)
    made = record("1", START, severity=Severity.HIGH)
    assert await save(store, made) == Saved(created=1, last_seq=1)
    change = await store.get("model/1")
    assert change is not None
    assert (change.seq, change.kind, change.revision, change.before) == (1, ChangeKind.CREATED, 1, None)
    assert (change.alert, change.raw) == (made.alert, made.raw)
    assert (change.fetched, change.saved) == (START, clock.now)
    assert await store.changes(0, 10) == (change,)
    assert await store.find(EVERYTHING, 10) == Found((made.alert,), None)


async def test_what_is_not_known_is_not_got(store: Store) -> None:
    assert await store.get("model/1") is None
    assert await store.get("lone \ud800") is None


async def test_pages_are_stored_in_the_order_of_the_calls_though_they_overlap(store: Store) -> None:
    lease = await lease_of(store)
    pages = [
        tuple(record(f"{number}-{part}", START) for part in range(size)) for number, size in enumerate((400, 1, 100, 1))
    ]
    async with anyio.create_task_group() as saving:
        for records in pages:
            saving.start_soon(store.save, "model", page(*records), lease)
    told = [change.alert.vendor_id.partition("-")[0] for change in await every_change(store)]
    assert told == sorted(told)
    assert len(told) == 502


async def test_a_save_that_is_given_up_lets_no_later_page_overtake_an_earlier_one(store: Store) -> None:
    lease = await lease_of(store)
    first, given_up, last = (
        page(*[record(f"{number}-{part}", START) for part in range(size)]) for number, size in enumerate((3_000, 1, 1))
    )

    async def give_up() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.save("model", given_up, lease)

    async with anyio.create_task_group() as saving:
        saving.start_soon(store.save, "model", first, lease)
        saving.start_soon(give_up)
        saving.start_soon(store.save, "model", last, lease)
    told = [change.alert.vendor_id.partition("-")[0] for change in await every_change(store)]
    assert told == sorted(told)
    assert set(told) >= {"0", "2"}


async def test_a_page_that_is_saved_again_tells_nothing(store: Store) -> None:
    records = [record(str(number), START) for number in range(3)]
    await save(store, *records)
    assert await save(store, *records) == Saved(unchanged=3, last_seq=3)
    assert len(await store.changes(0, 10)) == 3


async def test_a_record_twice_in_one_page_is_told_once(store: Store) -> None:
    assert await save(store, record("1", START), record("1", START)) == Saved(created=1, unchanged=1, last_seq=1)


async def test_the_order_of_a_records_members_makes_no_new_version(store: Store) -> None:
    made = record("1", START)
    shuffled = Record(made.alert, b'{ "updatedAt": "2026-11-01T12:00:00Z", "id": "1" }')
    assert await save(store, made, shuffled) == Saved(created=1, unchanged=1, last_seq=1)


async def test_a_newer_version_becomes_the_head_and_tells_what_was_before(store: Store) -> None:
    old, new = record("1", START), record("1", START + SECOND, title="more")
    await save(store, old)
    assert await save(store, new) == Saved(updated=1, last_seq=2)
    change = await store.get("model/1")
    assert change is not None
    assert (change.kind, change.revision) == (ChangeKind.UPDATED, 2)
    assert (change.before, change.alert) == (old.alert, new.alert)
    assert await store.find(EVERYTHING, 10) == Found((new.alert,), None)
    assert await store.count(EVERYTHING) == 1


async def test_versions_in_one_page_are_taken_in_their_order(store: Store) -> None:
    versions = [record("1", START + number * SECOND) for number in range(3)]
    assert await save(store, versions[0], versions[2], versions[1]) == Saved(
        created=1, updated=1, outdated=1, last_seq=2
    )
    first, second = await store.changes(0, 10)
    assert (second.before, second.alert) == (first.alert, versions[2].alert)


async def test_an_older_version_that_comes_late_is_counted_and_not_told(store: Store) -> None:
    head = record("1", START + SECOND)
    await save(store, head)
    assert await save(store, record("1", START)) == Saved(outdated=1, last_seq=1)
    assert await store.find(EVERYTHING, 10) == Found((head.alert,), None)


@pytest.mark.parametrize("overtaken", [0, 1])
async def test_a_version_that_was_overtaken_is_recognised(store: Store, overtaken: int) -> None:
    versions = [record("1", START + number * SECOND) for number in range(3)]
    for version in versions:
        await save(store, version)
    assert await save(store, versions[overtaken]) == Saved(unchanged=1, last_seq=3)


async def test_content_that_changes_without_its_time_is_a_new_version_once(store: Store) -> None:
    versions = [record("1", START, title=title) for title in ("one", "two", "three")]
    for version in versions:
        await save(store, version)
    assert (await store.changes(2, 10))[0].alert.title == "three"
    for version in versions:
        assert await save(store, version) == Saved(unchanged=1, last_seq=3)


async def test_a_version_from_the_far_future_does_not_hide_what_comes_after_it(
    store: Store, clock: ManualClock
) -> None:
    wrong = record("1", START + 300 * HOUR, title="a wrong clock")
    await save(store, record("1", START), wrong)
    assert await save(store, record("1", START + SECOND, title="true")) == Saved(updated=1, last_seq=3)
    for hours in (0, 290, 20):
        clock.advance(hours=hours)
        assert await save(store, wrong) == Saved(unchanged=1, last_seq=3)
    change = await store.get("model/1")
    assert change is not None
    assert change.alert.title == "true"


async def test_content_that_flaps_within_a_page_is_told_once_each(store: Store) -> None:
    one, two = record("1", START, title="one"), record("1", START, title="two")
    assert await save(store, one, two, one, two) == Saved(created=1, updated=1, unchanged=2, last_seq=2)


async def test_closing_and_reopening_are_told_as_such(store: Store) -> None:
    statuses = [Status.NEW, Status.RESOLVED, Status.SUPPRESSED, Status.IN_PROGRESS]
    for number, status in enumerate(statuses):
        await save(store, record("1", START + number * SECOND, status=status))
    kinds = [change.kind for change in await store.changes(0, 10)]
    assert kinds == [ChangeKind.CREATED, ChangeKind.CLOSED, ChangeKind.UPDATED, ChangeKind.REOPENED]


async def test_equal_vendor_ids_of_two_sources_never_meet(store: Store) -> None:
    await save(store, record("1", START, source="a"), source="a")
    assert (await save(store, record("1", START, source="b"), source="b")).created == 1
    assert await store.count(EVERYTHING) == 2


async def test_hostile_ids_and_texts_come_back_as_they_were(store: Store) -> None:
    ids = ["", "../../etc/passwd", "a'b\"c", "x\0y", "é", "e\u0301", "A", "a", "😀" * 1_000, "x" * 100_000]
    made = [record(name, START, title=name, description=name * 3) for name in ids]
    assert (await save(store, *made)).created == len(ids)
    for each in made:
        change = await store.get(each.alert.id)
        assert change is not None
        assert change.alert == each.alert


async def test_an_alert_outlives_the_store_that_took_it(opener: Opener, tmp_path: Path, clock: ManualClock) -> None:
    made = record("1", START)
    async with opener(tmp_path, clock) as store:
        await save(store, made)
    async with opener(tmp_path, clock) as store:
        assert await store.find(EVERYTHING, 10) == Found((made.alert,), None)
        assert await save(store, made) == Saved(unchanged=1, last_seq=1)


# ------------------------------------------------------------------------------------------------ quarantine


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param({"title": "\ud800"}, id="lone surrogate"),
        pytest.param({"vendor_id": "\ud800"}, id="lone surrogate in the id"),
        pytest.param({"count": 2**70}, id="huge integer"),
        pytest.param({"count": 2**63}, id="large integer"),
        pytest.param({"risk_score": 4_000}, id="out of bounds"),
        pytest.param({"title": None}, id="wrong type"),
        pytest.param({"created": None}, id="no time"),
    ],
)
async def test_a_record_that_cannot_be_kept_is_set_aside_alone(store: Store, poison: dict[str, object]) -> None:
    good = [record("1", START), record("2", START)]
    bad = Record(structs.replace(record("3", START).alert, **poison), b"poison")
    assert await save(store, good[0], bad, good[1]) == Saved(created=2, quarantined=1, last_seq=2)
    assert len(await store.changes(0, 10)) == 2
    assert await store.count(EVERYTHING) == 2


async def test_a_poison_record_that_is_read_every_poll_is_set_aside_once(store: Store) -> None:
    poison = Quarantined(b'{"id": "\\ud800"}', "a lone surrogate \ud800")
    lease = await lease_of(store)
    assert (await store.save("model", page(quarantined=(poison, poison)), lease)).quarantined == 1
    assert (await store.save("model", page(quarantined=(poison,)), lease)).quarantined == 0
    assert (await store.save("model", page(quarantined=(Quarantined(b"other", "x"),)), lease)).quarantined == 1
    assert (await state_of(store)).quarantined == 2


# ------------------------------------------------------------------------------------------------ listing


async def test_the_newest_created_comes_first_to_the_microsecond(store: Store) -> None:
    created = [START + timedelta(microseconds=number) for number in range(40)]
    made = [record(str(number), START, created=moment) for number, moment in enumerate(created)]
    random.Random(7).shuffle(made)  # noqa: S311 (a fixed disorder)
    await save(store, *made[:20])
    await save(store, *made[20:])
    assert await listing(store, limit=7) == [str(number) for number in reversed(range(40))]


async def test_absurd_created_times_are_kept_and_ordered(store: Store) -> None:
    moments = [
        datetime.max.replace(tzinfo=UTC),
        datetime(2500, 1, 1, tzinfo=UTC),
        datetime(2106, 2, 8, tzinfo=UTC),
        START,
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(1601, 1, 1, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ]
    made = [record(str(number), START, created=moment) for number, moment in enumerate(moments)]
    await save(store, *reversed(made))
    assert await listing(store, limit=2) == [str(number) for number in range(len(moments))]
    for moment in moments:
        for comparison in Comparison:
            await agree(store, [each.alert for each in made], Moment("created", comparison, moment))


async def test_a_crowd_created_at_one_instant_is_listed_whole(store: Store) -> None:
    crowd = [record(f"c{number}", START) for number in range(4_500)]
    await save(store, record("before", START, created=START - HOUR), *crowd[:3_000])
    await save(store, record("after", START, created=START + SECOND), *crowd[3_000:])
    ids = await listing(store, limit=999)
    assert (ids[0], ids[-1]) == ("after", "before")
    assert sorted(ids[1:-1]) == sorted(each.alert.vendor_id for each in crowd)
    assert await store.count(Query(root=Moment("created", Comparison.EQ, START))) == 4_500


async def test_alerts_that_arrive_between_two_pages_neither_hide_nor_repeat_older_ones(store: Store) -> None:
    made = [record(f"old{number}", START, created=START - number * SECOND) for number in range(500)]
    random.Random(1).shuffle(made)  # noqa: S311 (a fixed disorder)
    await save(store, *made)
    seen: list[str] = []
    position: Position | None = None
    for number in range(1_000):
        found = await store.find(EVERYTHING, 23, position)
        seen += [alert.vendor_id for alert in found.alerts]
        position = found.next
        if position is None:
            break
        between = [START + HOUR, position.created, START - 250 * SECOND]
        await save(store, *(record(f"new{number}.{i}", START, created=moment) for i, moment in enumerate(between)))
    old = [name for name in seen if name.startswith("old")]
    assert old == [f"old{number}" for number in range(500)]
    assert len(seen) == len(set(seen))


async def test_an_alert_whose_created_time_was_corrected_moves_and_stays_one(store: Store) -> None:
    await save(store, *(record(str(number), START, created=START - number * HOUR) for number in range(4)))
    first = await store.find(EVERYTHING, 2)
    await save(store, record("3", START + SECOND, created=START + HOUR, title="moved"))
    assert await listing(store) == ["3", "0", "1", "2"]
    rest = await store.find(EVERYTHING, 2, first.next)
    assert [alert.vendor_id for alert in rest.alerts] == ["2"]
    assert await listing(store, Query(root=Words(("moved",)))) == ["3"]
    assert await listing(store, Query(root=Words(("alert", "3")))) == []


async def test_a_created_time_that_changes_twice_in_a_page_leaves_nothing_behind(store: Store) -> None:
    await save(store, record("1", START, title="zero"))
    versions = [(1, START, "one"), (2, START + HOUR, "two"), (3, START - HOUR, "three")]
    await save(store, *(record("1", START + n * SECOND, created=created, title=t) for n, created, t in versions))
    for title, found in (("zero", []), ("one", []), ("two", []), ("three", ["1"])):
        assert await listing(store, Query(root=Words((title,)))) == found
        assert await store.count(Query(root=Words((title,)))) == len(found)
    assert await listing(store) == ["1"]


async def test_a_place_that_was_never_given_out_does_no_harm(store: Store) -> None:
    await save(store, record("1", START))
    for key in (-(2**63), -1, 0):
        assert await store.find(EVERYTHING, 10, Position(START, key)) == Found((), None)
    assert len((await store.find(EVERYTHING, 10, Position(START, 2**63))).alerts) == 1


async def test_a_page_of_nothing_has_no_successor(store: Store) -> None:
    assert await store.find(EVERYTHING, 10) == Found((), None)
    await save(store, record("1", START))
    assert await store.find(EVERYTHING, 1) == Found((record("1", START).alert,), None)


# ------------------------------------------------------------------------------------------------ queries


async def agree(store: Store, stored: list[Alert], root: Node | None) -> None:
    query = Query(root=root)
    expected = [alert for alert in stored if matches(query, alert)]
    found: list[Alert] = []
    position: Position | None = None
    while True:
        part = await store.find(query, 2, position)
        found += part.alerts
        if part.next is None:
            break
        position = part.next
    assert sorted(alert.id for alert in found) == sorted(alert.id for alert in expected), query
    assert [alert.created for alert in found] == sorted((alert.created for alert in expected), reverse=True)
    assert await store.count(query) == len(expected)


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_finding_and_counting_agree_with_matching_in_memory(opener: Opener, data: st.DataObject) -> None:
    first = data.draw(st.lists(alerts(storable_texts), min_size=1, max_size=6, unique_by=lambda alert: alert.id))
    later = [
        structs.replace(
            data.draw(alerts(storable_texts)),
            source=alert.source,
            vendor_id=alert.vendor_id,
            updated=alert.updated + SECOND,
        )
        for alert in first
        if data.draw(st.booleans())
    ]
    heads = list({alert.id: alert for alert in first + later}.values())
    roots: list[Node | None] = [data.draw(nodes(heads)) for _ in range(8)]
    roots += [parse(text, now=NOW).root for text in data.draw(st.lists(queries, max_size=4))]

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), ManualClock()) as store:
                for batch in (first, later):
                    saved = await save(store, *(Record(alert, alert.title.encode()) for alert in batch))
                    assert saved.quarantined == 0
                for root in roots:
                    await agree(store, heads, root)

    anyio.run(run)


async def test_only_the_asterisk_is_a_wildcard(store: Store) -> None:
    values = ["a?c", "abc", "a[b]c", "a*c", "a%c", "a_c", "[abc", "a]c", "a^c", "!a-c", "", "a"]
    made = [record(str(number), START, labels=(value,)) for number, value in enumerate(values)]
    await save(store, *made)
    for value in values:
        for pieces in ((value,), (value, ""), ("", value), ("", value, ""), (value[:1], value[1:]), (value, value)):
            await agree(store, [each.alert for each in made], Term("label", Pattern(pieces)))


async def test_missing_values_differ_from_every_value_and_are_compared_with_none(store: Store) -> None:
    made = [record("none", START), record("some", START, risk_score=50, last_seen=START)]
    await save(store, *made)
    stored = [each.alert for each in made]
    for comparison in Comparison:
        for score in (49, 50, 51, 2**70, -(2**70)):
            level = Level("risk_score", comparison, score)
            await agree(store, stored, level)
            await agree(store, stored, Not(level))
            await agree(store, stored, Or((level, Words(("nothing",)))))
        moment = Moment("last_seen", comparison, START)
        await agree(store, stored, moment)
        await agree(store, stored, Not(moment))


async def test_a_wildcard_that_fits_very_many_values_finds_them_all(store: Store) -> None:
    made = [
        record(str(number), START, created=START + number * SECOND, entities=(Entity(EntityKind.IP, f"10.0.{number}"),))
        for number in range(1_200)
    ]
    await save(store, *made)
    stored = [each.alert for each in made]
    many = Term("ip", Pattern(("10.", "")))
    few = Term("ip", Pattern(("10.0.7", "")))
    query = Query(root=And((many, Not(few))))
    assert await store.count(query) == sum(matches(query, alert) for alert in stored)
    assert len(await listing(store, query, limit=100)) == await store.count(query)
    assert await store.count(Query(root=Not(many))) == 0
    assert await store.count(Query(root=Or((many, few)))) == 1_200


@pytest.mark.parametrize("field", ["user", "entity"])
@pytest.mark.parametrize("pieces", [("ann ", ""), ("ann b-", ""), ("ann", "1"), ("", "9"), ("ann b-1", ""), ("", "")])
async def test_however_many_values_fit_those_that_match_are_found(
    store: Store, field: str, pieces: tuple[str, ...]
) -> None:
    made = [
        record(str(number), START, entities=(Entity(EntityKind.USER, f"Ann {'b-' if number % 2 else 'b'}{number}"),))
        for number in range(1_300)
    ]
    await save(store, *made)
    term = Term(field, Pattern(pieces))
    others = Not(Term("user", Pattern(("ann b-7", ""))))
    for node in (term, Not(term), And((term, others))):
        query = Query(root=node)
        assert await store.count(query) == sum(matches(query, each.alert) for each in made)


async def test_a_pattern_longer_than_any_value_finds_nothing(store: Store) -> None:
    await save(store, record("1", START))
    assert await store.count(Query(root=Term("id", Pattern(("", "*" * 60_000, ""))))) == 0


async def test_a_query_nested_without_end_is_refused(store: Store) -> None:
    root: Node = Words(("x",))
    for _ in range(2_000):
        root = Not(Or((root, Words(("y",)))))
    with pytest.raises(QueryError, match="nested"):
        await store.find(Query(root=root), 10)
    assert await store.count(EVERYTHING) == 0


async def test_a_broad_query_is_answered(store: Store) -> None:
    await save(store, record("1", START), record("2", START))
    terms = tuple(Term("id", Pattern((f"no-{number}",))) for number in range(1_500))
    assert await store.count(Query(root=Or((*terms, Term("id", Pattern(("2",))))))) == 1
    assert await store.count(Query(root=And(tuple(Not(term) for term in terms)))) == 2


# ------------------------------------------------------------------------------------------------ leases


async def test_only_one_holds_a_lease(store: Store, clock: ManualClock) -> None:
    lease = await store.acquire("poll:model", "a", TTL)
    assert lease == Lease("poll:model", "a", lease.token if lease else 0, clock.now + TTL)
    assert await store.acquire("poll:model", "b", TTL) is None
    assert await store.acquire("poll:other", "b", TTL) is not None


async def test_renewing_keeps_the_token(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    clock.advance(seconds=5)
    assert await store.acquire(lease.name, lease.holder, TTL) == structs.replace(lease, expires=clock.now + TTL)
    clock.advance(seconds=8)
    assert await store.acquire(lease.name, "b", TTL) is None


async def test_a_lease_that_ran_out_goes_to_another_and_the_first_is_fenced(store: Store, clock: ManualClock) -> None:
    old = await lease_of(store, holder="frozen")
    clock.advance(seconds=10)
    new = await lease_of(store, holder="fresh")
    assert new.token > old.token
    window = Window(START - HOUR, START)
    with pytest.raises(LeaseLost, match="fresh"):
        await store.save("model", page(record("1", START)), old)
    with pytest.raises(LeaseLost):
        await store.cover("model", window, old)
    with pytest.raises(LeaseLost):
        await store.uncover("model", window, old)
    with pytest.raises(LeaseLost):
        await store.report("model", Health(state="ok"), old)
    assert await store.last_seq() == 0
    assert await store.count(EVERYTHING) == 0
    assert await store.states() == ()
    await store.save("model", page(record("1", START)), new)
    assert await store.acquire("poll:model", "frozen", TTL) is None


async def test_a_lease_nobody_overtook_goes_on_though_it_ran_out(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    clock.advance(seconds=100)
    assert (await store.save("model", page(record("1", START)), lease)).created == 1
    renewed = await lease_of(store)
    assert renewed.token == lease.token


async def test_a_lease_given_up_is_free_at_once(store: Store) -> None:
    old = await lease_of(store, holder="a")
    await store.release(old)
    with pytest.raises(LeaseLost, match="nobody"):
        await store.save("model", page(), old)
    new = await lease_of(store, holder="b")
    assert new.token > old.token
    await store.release(old)
    assert await store.acquire("poll:model", "c", TTL) is None


async def test_a_lease_of_before_the_clock_was_set_back_does_not_hold_for_hours(
    store: Store, clock: ManualClock
) -> None:
    await lease_of(store, holder="dead")
    clock.advance(hours=-2)
    assert await store.acquire("poll:model", "b", TTL) is not None


async def test_who_polls_is_told_while_the_lease_lasts(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    await store.report("model", Health(state="ok"), lease)
    assert (await state_of(store)).lease == lease
    clock.now = lease.expires
    assert (await state_of(store)).lease is None
    lease = await lease_of(store)
    assert (await state_of(store)).lease == lease
    await store.release(lease)
    assert (await state_of(store)).lease is None


# ------------------------------------------------------------------------------------------------ what is known of a source


def window(start: int, end: int) -> Window:
    return Window(START + start * SECOND, START + end * SECOND)


@pytest.mark.parametrize(
    ("read", "covered"),
    [
        pytest.param([(0, 1), (1, 2)], [(0, 2)], id="touching"),
        pytest.param([(1, 2), (0, 1)], [(0, 2)], id="touching from below"),
        pytest.param([(0, 5), (3, 8)], [(0, 8)], id="overlapping"),
        pytest.param([(0, 9), (3, 4)], [(0, 9)], id="inside"),
        pytest.param([(3, 4), (0, 9)], [(0, 9)], id="around"),
        pytest.param([(0, 1), (4, 5), (8, 9), (1, 8)], [(0, 9)], id="closing gaps"),
        pytest.param([(4, 5), (0, 1)], [(0, 1), (4, 5)], id="apart"),
        pytest.param([(0, 0)], [(0, 0)], id="an instant"),
    ],
)
async def test_coverage_is_a_set_of_intervals(
    store: Store, read: list[tuple[int, int]], covered: list[tuple[int, int]]
) -> None:
    lease = await lease_of(store)
    for start, end in read:
        await store.cover("model", window(start, end), lease)
    await store.cover("other", window(100, 200), lease)
    assert (await state_of(store)).coverage == tuple(window(start, end) for start, end in covered)


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=25, deadline=None)
@given(spans=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=12))
def test_coverage_is_exactly_what_was_read(opener: Opener, spans: list[tuple[int, int]]) -> None:
    async def run() -> tuple[Window, ...]:
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), ManualClock()) as store:
                lease = await lease_of(store)
                await store.report("model", Health(), lease)
                for start, length in spans:
                    await store.cover("model", window(start, start + length), lease)
                return (await state_of(store)).coverage

    coverage = anyio.run(run)
    assert all(before.end < after.start for before, after in pairwise(coverage))
    for half in range(80):
        moment = START + half * SECOND / 2
        read = any(start * 2 <= half <= (start + length) * 2 for start, length in spans)
        assert any(part.start <= moment <= part.end for part in coverage) == read


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        pytest.param((25, 1_000_000), [(0, 10), (20, 25)], id="from a moment on"),
        pytest.param((22, 28), [(0, 10), (20, 22), (28, 30), (40, 50)], id="out of the middle"),
        pytest.param((5, 45), [(0, 5), (45, 50)], id="over several"),
        pytest.param((20, 30), [(0, 10), (20, 20), (30, 30), (40, 50)], id="one, but for its ends"),
        pytest.param((10, 20), [(0, 10), (20, 30), (40, 50)], id="where nothing is"),
    ],
)
async def test_that_something_was_covered_can_be_forgotten(
    store: Store, taken: tuple[int, int], left: list[tuple[int, int]]
) -> None:
    lease = await lease_of(store)
    for start, end in ((0, 10), (20, 30), (40, 50)):
        await store.cover("model", window(start, end), lease)
        await store.cover("other", window(start, end), lease)
    await store.uncover("model", window(*taken), lease)
    model, other = await store.states()
    assert model.coverage == tuple(window(*each) for each in left)
    assert len(other.coverage) == 3


async def test_a_time_zone_makes_no_difference_to_coverage(store: Store) -> None:
    lease = await lease_of(store)
    east = timezone(timedelta(hours=9))
    await store.cover("model", Window(START.astimezone(east), (START + SECOND).astimezone(east)), lease)
    assert (await state_of(store)).coverage == (window(0, 1),)


async def test_lag_is_measured_at_first_sight_of_a_version(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    await store.cover("model", Window(START - HOUR, START), lease)
    clock.advance(minutes=10)
    made = [record(str(number), clock.now - (number + 1) * SECOND) for number in range(100)]
    await store.save("model", page(*made), lease)
    clock.advance(minutes=5)
    await store.save("model", page(*made), lease)
    state = await state_of(store)
    assert (state.lag_p50, state.lag_p99, state.lag_p999) == (50, 99, 100)


async def test_lag_that_was_told_before_follows_what_came_since(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    await store.cover("model", Window(START - HOUR, START), lease)
    await store.save("model", page(record("quick", clock.now - SECOND)), lease)
    assert (await state_of(store)).lag_p99 == 1
    await store.save("model", page(record("slow", clock.now - 90 * SECOND)), lease)
    assert (await state_of(store)).lag_p99 == 90


async def test_a_version_that_turns_up_in_time_already_read_counts_as_late(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    clock.advance(hours=30)
    await store.cover("model", Window(START, clock.now), lease)
    await store.save("model", page(record("late", START + HOUR)), lease)
    assert (await state_of(store)).lag_p50 == timedelta(hours=29).total_seconds()


async def test_reading_back_history_or_an_outage_tells_nothing_of_lag(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    await store.save("model", page(record("first run", START - HOUR * 20)), lease)
    await store.cover("model", Window(START - HOUR * 24, START), lease)
    clock.advance(days=3)
    await store.save("model", page(record("after an outage", START + HOUR)), lease)
    await store.save("model", page(record("backfill", START - HOUR * 100)), lease)
    state = await state_of(store)
    assert (state.lag_p50, state.lag_p99, state.lag_p999) == (None, None, None)


async def test_content_that_changes_without_its_time_tells_nothing_of_lag(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    await store.cover("model", Window(START - 48 * HOUR, START), lease)
    await save(store, record("1", START))
    clock.advance(hours=12)
    await save(store, record("1", START, title="scored anew"))
    assert (await state_of(store)).lag_p999 == 0


async def test_only_recent_lags_count(store: Store) -> None:
    lease = await lease_of(store)
    await store.cover("model", Window(START - HOUR, START), lease)
    slow = [record(f"s{number}", START - HOUR + SECOND) for number in range(100)]
    quick = [record(f"q{number}", START - SECOND) for number in range(10_000)]
    await store.save("model", page(*slow), lease)
    assert (await state_of(store)).lag_p999 == (HOUR - SECOND).total_seconds()
    await store.save("model", page(*quick), lease)
    assert (await state_of(store)).lag_p999 == 1


async def test_states_tell_of_every_source_by_name(store: Store) -> None:
    assert await store.states() == ()
    await store.report("zeta", Health(state="development"), None)
    await save(store, record("1", START), record("2", START))
    health = Health(state="failing", last_error="no route", last_error_at=START, failures=3, clock_skew=-1.5)
    await store.report("model", health, await lease_of(store))
    model, zeta = await store.states()
    assert (model.source, model.alerts, model.health) == ("model", 2, health)
    assert (zeta.source, zeta.alerts, zeta.health.state, zeta.lease) == ("zeta", 0, "development", None)


async def test_a_source_has_a_memory_of_its_own(store: Store) -> None:
    memory = store.memory("model")
    assert await memory.recall("origin") is None
    await memory.remember("origin", "then")
    await memory.remember("origin", "now")
    assert await memory.recall("origin") == "now"
    assert await store.memory("other").recall("origin") is None


async def test_what_two_make_of_a_value_at_the_same_moment_is_made_of_each_others(
    opener: Opener, tmp_path: Path
) -> None:
    """Two processes, as near as one test comes to them: each has a store of its own on the same place."""

    def one_more(counted: str | None) -> str:
        return str(int(counted or 0) + 1)

    clock = ManualClock()
    async with opener(tmp_path, clock) as one, opener(tmp_path, clock) as other, anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon((one, other)[number % 2].memory("model").amend, "spent", one_more)
    async with opener(tmp_path, clock) as store:
        assert await store.memory("model").recall("spent") == "40"


async def test_a_change_that_is_refused_leaves_what_is_remembered(store: Store) -> None:
    def refuse(value: str | None) -> str:
        raise Unavailable(f"{value} is enough")

    memory = store.memory("model")
    await memory.remember("spent", "5")
    with pytest.raises(Unavailable, match="5 is enough"):
        await memory.amend("spent", refuse)
    assert await memory.amend("spent", lambda value: f"{value}0") == await memory.recall("spent") == "50"
    assert await store.states() == ()


# ------------------------------------------------------------------------------------------------ followers


async def test_large_changes_come_a_few_at_a_time_and_none_is_skipped(store: Store) -> None:
    large = [
        Record(record(str(number), START + number * SECOND).alert, b'{"x":"%b"}' % (b"x" * 3_000_000))
        for number in range(8)
    ]
    await save(store, *large)
    seen: list[int] = []
    while part := await store.changes(seen[-1] if seen else 0, 100):
        assert sum(len(change.raw) for change in part) < 12_000_000
        seen += [change.seq for change in part]
    assert seen == list(range(1, 9))


async def test_a_listing_of_large_alerts_comes_a_few_at_a_time_and_is_whole(store: Store) -> None:
    await save(store, *(record(str(number), START, description="x" * 3_000_000) for number in range(8)))
    ids: list[str] = []
    position: Position | None = None
    while True:
        found = await store.find(EVERYTHING, 100, position)
        assert 1 <= len(found.alerts) <= 4
        ids += [alert.vendor_id for alert in found.alerts]
        if found.next is None:
            break
        position = found.next
    assert sorted(ids) == [str(number) for number in range(8)]


async def test_changes_come_in_the_order_of_saving_and_none_is_skipped(store: Store) -> None:
    assert await store.last_seq() == 0
    for number in range(0, 30, 3):
        await save(store, *(record(str(number + part), START) for part in range(3)))
    seen: list[int] = []
    names: list[str] = []
    while part := await store.changes(seen[-1] if seen else 0, 7):
        seen += [change.seq for change in part]
        names += [change.alert.vendor_id for change in part]
    assert seen == sorted(set(seen))
    assert names == [str(number) for number in range(30)]
    assert seen[-1] == await store.last_seq()
    assert await store.changes(2**63, 10) == ()


async def test_those_who_pass_changes_on_are_told_the_same_undecoded(store: Store) -> None:
    for number in range(3):
        versions = (record(str(each), START + number * SECOND, title=f"version {number}") for each in range(4))
        await save(store, *versions, record(f"new {number}", START))
    changes = await store.changes(0, 100)
    kept = await store.kept_changes(0, 100)
    assert [structs.replace(change, before=None) for change in changes] == [
        Change(
            seq=each.seq,
            kind=each.kind,
            revision=each.revision,
            alert=each.alert,
            before=None,
            raw=each.raw,
            fetched=each.fetched,
            saved=each.saved,
        )
        for each in kept
    ]
    assert [type(each.kind) for each in kept] == [ChangeKind] * len(changes)
    assert await store.kept_changes(3, 2) == kept[3:5]
    assert await store.kept_changes(2**63, 10) == ()


async def test_large_changes_are_passed_on_a_few_at_a_time_and_none_is_skipped(store: Store) -> None:
    large = [
        Record(record(str(number), START + number * SECOND).alert, b'{"x":"%b"}' % (b"x" * 3_000_000))
        for number in range(8)
    ]
    await save(store, *large)
    seen: list[int] = []
    while part := await store.kept_changes(seen[-1] if seen else 0, 100):
        assert sum(len(change.raw) for change in part) < 12_000_000
        seen += [change.seq for change in part]
    assert seen == list(range(1, 9))


async def test_waiting_for_what_is_there_already_does_not_wait(store: Store) -> None:
    await save(store, record("1", START))
    assert await store.wait(0, 0)
    assert not await store.wait(1, 0)


async def test_everybody_who_waits_is_woken_by_a_save(store: Store) -> None:
    woken: list[bool] = []

    async def wait() -> None:
        woken.append(await store.wait(0, 5))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await save(store, record("1", START))
    assert woken == [True] * 20


async def test_who_waits_sees_what_another_opened_store_saves(
    opener: Opener, store: Store, tmp_path: Path, clock: ManualClock
) -> None:
    woken: list[bool] = []
    first_left = anyio.Event()

    async def wait(seconds: float) -> None:
        woken.append(await store.wait(0, seconds))
        first_left.set()

    with anyio.fail_after(5):
        async with opener(tmp_path, clock) as other, anyio.create_task_group() as group:
            group.start_soon(wait, 0.05)  # the first to wait looks out for all, and leaves first
            for _ in range(5):
                group.start_soon(wait, 5)
            await anyio.wait_all_tasks_blocked()
            await first_left.wait()
            await save(other, record("1", START))
    assert woken == [False] + [True] * 5


async def test_a_cancelled_lookout_is_replaced(
    opener: Opener, store: Store, tmp_path: Path, clock: ManualClock
) -> None:
    woken: list[bool] = []

    async def wait() -> None:
        woken.append(await store.wait(0, 5))

    with anyio.fail_after(5):
        async with opener(tmp_path, clock) as other, anyio.create_task_group() as group:
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(store.wait, 0, 5)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(wait)
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                doomed.cancel_scope.cancel()
            await save(other, record("1", START))
    assert woken == [True, True]


async def test_no_read_sees_half_a_page(store: Store) -> None:
    size, pages = 50, 12
    done = anyio.Event()
    counts: set[int] = set()

    async def read() -> None:
        while not done.is_set():
            counts.add(await store.count(Query(root=Words(("alert",)))))
            counts.add(len((await store.find(EVERYTHING, 10_000)).alerts))
            counts.add(len(await store.changes(0, 10_000)))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)
            for number in range(pages):
                await save(store, *(record(f"{number}-{part}", START + number * SECOND) for part in range(size)))
            done.set()
    assert {count % size for count in counts} == {0}
    assert len(counts) > 2


async def test_cancelling_whoever_awaits_leaves_the_store_whole(store: Store) -> None:
    size = 200
    with anyio.fail_after(30):
        for number in range(10):
            batch = [record(f"{number}-{part}", START) for part in range(size)]
            async with anyio.create_task_group() as group:
                group.start_soon(save, store, *batch)
                group.start_soon(store.find, EVERYTHING, 1_000)
                group.start_soon(store.wait, 2**40, 5)
                for _ in range(number):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert await store.count(EVERYTHING) % size == 0
            assert await store.count(EVERYTHING) == len(await store.changes(0, 10_000))
    assert (await save(store, record("after", START))).created == 1


async def test_a_store_that_was_closed_says_so(opener: Opener, tmp_path: Path, clock: ManualClock) -> None:
    async with opener(tmp_path, clock) as closed:
        pass
    for call in (closed.last_seq, lambda: closed.wait(0, 5), lambda: closed.move("archive", 1)):
        with pytest.raises(StoreUnusable, match="closed"):
            await call()


# ------------------------------------------------------------------------------------------------ durable readers


async def test_a_sinks_position_never_moves_back(store: Store) -> None:
    assert await store.position("archive") == 0
    await store.move("archive", 7)
    await store.move("archive", 3)
    assert await store.position("archive") == 7
    assert await store.position("webhook") == 0


async def test_dead_letters_are_told_newest_first_and_once(store: Store) -> None:
    letters = [DeadLetter(sink="webhook", seq=seq, reason=f"no {seq}", at=START + seq * SECOND) for seq in (3, 1, 2)]
    for letter in (*letters, letters[0]):
        await store.bury(letter)
    assert [letter.seq for letter in await store.dead_letters()] == [3, 2, 1]
    assert await store.dead_letters(1) == (letters[0],)


async def test_every_sink_is_told_with_its_place_and_what_it_refused(store: Store) -> None:
    assert await store.sinks() == ()
    await store.move("webhook", 3)
    await store.move("archive", 7)
    for seq in (1, 2):
        await store.bury(DeadLetter(sink="webhook", seq=seq, reason="no", at=START))
    await store.bury(DeadLetter(sink="new", seq=1, reason="no", at=START))
    assert await store.sinks() == (
        SinkState(sink="archive", position=7),
        SinkState(sink="new", position=0, dead_letters=1),
        SinkState(sink="webhook", position=3, dead_letters=2),
    )


async def test_a_sink_that_is_forgotten_leaves_nothing_behind_and_no_other_changes(store: Store) -> None:
    for sink in ("archive", "webhook"):
        await store.move(sink, 7)
        await store.bury(DeadLetter(sink=sink, seq=1, reason="no", at=START))
    await store.forget_sink("webhook", await lease_of(store, "deliver:webhook"))
    assert await store.sinks() == (SinkState(sink="archive", position=7, dead_letters=1),)
    assert [letter.sink for letter in await store.dead_letters()] == ["archive"]
    assert await store.position("webhook") == 0


async def test_a_sink_is_forgotten_by_nobody_who_lost_the_right_to_feed_it(store: Store, clock: ManualClock) -> None:
    await store.move("webhook", 7)
    old = await lease_of(store, "deliver:webhook")
    clock.advance(days=1)
    assert await store.acquire("deliver:webhook", "another:1:a", TTL)
    with pytest.raises(LeaseLost):
        await store.forget_sink("webhook", old)
    assert await store.position("webhook") == 7


# ------------------------------------------------------------------------------------------------ what an archive kept


async def fill_with_versions(store: Store, clock: ManualClock) -> tuple[Change, ...]:
    """Several revisions of alerts of two sources, whose seqs, times and kinds all differ; what the store tells of them."""
    one, other = await lease_of(store), await lease_of(store, "poll:other")
    host = Entity(EntityKind.HOST, "web-01")
    await store.save("model", page(record("1", START, entities=(host,)), record("../2", START)), one)
    clock.advance(seconds=2)
    await store.save("other", page(record("1", START + SECOND, source="other", severity=Severity.HIGH)), other)
    await store.save("model", page(record("1", START + SECOND, status=Status.RESOLVED)), one)
    clock.advance(seconds=2)
    moved = record("1", START + 2 * SECOND, created=START - HOUR, title="reopened", status=Status.NEW)
    await store.save("model", page(record("../2", START, title="same time"), moved), one)
    return await store.changes(0, 100)


async def test_changes_that_are_restored_are_told_and_found_as_before(
    store: Store, opener: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    changes = await fill_with_versions(store, clock)
    assert {change.kind for change in changes} == set(ChangeKind)
    (tmp_path / "again").mkdir()
    async with opener(tmp_path / "again", ManualClock(NOW)) as again:
        assert await again.restore(changes[:3]) == 3
        assert await again.restore(changes[3:]) == len(changes) - 3
        assert await again.changes(0, 100) == changes
        assert await again.last_seq() == await store.last_seq()
        for change in changes:
            assert await again.get(change.alert.id) == await store.get(change.alert.id)
        for text in ("", "reopened", "host:web*", "severity:high", "status:new", "title:alert", "source:other"):
            query = parse(text, now=NOW)
            assert await listing(again, query) == await listing(store, query), text
            assert await again.count(query) == await store.count(query), text
        assert [(state.source, state.alerts) for state in await again.states()] == [("model", 2), ("other", 1)]
        assert {state.coverage for state in await again.states()} == {()}


async def test_what_was_restored_is_not_told_again_when_it_is_polled(
    store: Store, opener: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    changes = await fill_with_versions(store, clock)
    (tmp_path / "again").mkdir()
    async with opener(tmp_path / "again", clock) as again:
        await again.restore(changes)
        for change in changes:
            told = await again.save(
                change.alert.source, page(Record(change.alert, change.raw)), await lease_of(again, change.alert.source)
            )
            assert (told.created, told.updated) == (0, 0)
        assert await again.changes(0, 100) == changes
        new = await save(again, record("1", START + HOUR))
        assert (new.updated, new.last_seq) == (1, changes[-1].seq + 1)
        newest = await again.get("model/1")
        assert newest is not None
        assert newest.revision == 4


async def test_restoring_again_changes_nothing(
    store: Store, opener: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    changes = await fill_with_versions(store, clock)
    assert await store.restore(changes) == 0
    (tmp_path / "again").mkdir()
    async with opener(tmp_path / "again", clock) as again:
        await again.restore(changes[:4])
        assert await again.restore(changes) == len(changes) - 4
        assert await again.changes(0, 100) == changes


async def test_a_change_that_would_come_too_late_is_refused_and_nothing_is_written(
    store: Store, opener: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    changes = await fill_with_versions(store, clock)
    (tmp_path / "again").mkdir()
    async with opener(tmp_path / "again", clock) as again:
        await again.restore(changes[1:2])
        with pytest.raises(StoreError, match="empty"):
            await again.restore([*changes[2:], changes[0]])
        assert [change.seq for change in await again.changes(0, 100)] == [changes[1].seq]


async def test_a_change_that_cannot_be_kept_is_refused_and_nothing_is_written(store: Store) -> None:
    good = Change(
        seq=5,
        kind=ChangeKind.CREATED,
        revision=1,
        alert=record("1", START).alert,
        before=None,
        raw=b"{}",
        fetched=START,
        saved=START,
    )
    bad = structs.replace(good, seq=6, alert=structs.replace(record("2", START).alert, title="lone \ud800 surrogate"))
    with pytest.raises(StoreError, match="change 6"):
        await store.restore([good, bad])
    assert await store.last_seq() == 0


async def test_a_later_revision_is_restored_though_the_one_before_it_is_missing(
    store: Store, opener: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    changes = await fill_with_versions(store, clock)
    last = [change for change in changes if change.alert.id == "model/1"][-1]
    (tmp_path / "again").mkdir()
    async with opener(tmp_path / "again", clock) as again:
        await again.restore([last])
        assert await again.changes(0, 100) == (structs.replace(last, before=None),)
        assert await again.restore([structs.replace(last, seq=90, raw=b'{"other": 1}')]) == 1
        newest = await again.get("model/1")
        assert newest is not None
        assert (newest.seq, newest.revision) == (90, 4)


# ------------------------------------------------------------------------------------------------ order


async def put_in_order(store: Store) -> None:
    for _ in range(100):
        if not await store.tidy():
            return
    raise AssertionError("there is no end to it")


async def test_a_store_that_was_put_in_order_answers_as_before(store: Store, clock: ManualClock) -> None:
    await fill_with_versions(store, clock)
    for number in range(20):
        await save(store, record(f"more-{number}", START + number * SECOND, title=f"word{number % 3} of many"))
    await store.forget(Keep(alerts=15), {"model": ()}, (), await lease_of(store, "retention"))
    queries = [parse(text, now=NOW) for text in ("", "word1", "not word1", "word*", '"of many"', "id:more-19")]

    async def answers() -> list[object]:
        pages = [await store.find(query, 100) for query in queries]
        counts = [await store.count(query) for query in queries]
        groups = [await store.count_by(query, ["label"], 10) for query in queries]
        return [pages, counts, groups, await store.values("id", "", 50), await store.changes(0, 100)]

    before = await answers()
    await put_in_order(store)
    assert await answers() == before
    await save(store, record("later", START + HOUR, title="word1 of many"))
    assert (await listing(store, parse("word1", now=NOW)))[0] == "later"


# ------------------------------------------------------------------------------------------------ forgetting

NOTHING_NEEDED: dict[str, tuple[Window, ...]] = {"model": ()}


async def forget(
    store: Store,
    keep: Keep,
    needed: Mapping[str, Sequence[Window]] = NOTHING_NEEDED,
    sinks: Sequence[str] = (),
) -> Forgotten:
    return await store.forget(keep, needed, sinks, await lease_of(store, "retention"))


async def save_five(store: Store, **fields: Any) -> None:
    await save(store, *(record(str(number), START + number * SECOND, **fields) for number in range(5)))


async def test_without_a_limit_nothing_is_forgotten(store: Store) -> None:
    await save_five(store, status=Status.RESOLVED)
    assert await forget(store, Keep()) == Forgotten()
    assert await store.count(EVERYTHING) == 5


async def test_an_alert_that_is_closed_is_forgotten_by_its_age_and_an_open_one_is_not(store: Store) -> None:
    await save(
        store,
        record("closed", START, status=Status.RESOLVED),
        record("suppressed", START, status=Status.SUPPRESSED),
        record("open", START),
        record("younger", START + HOUR, status=Status.RESOLVED),
    )
    assert await forget(store, Keep(since=START + HOUR)) == Forgotten(alerts=2, changes=2)
    assert sorted(await listing(store)) == ["open", "younger"]
    assert await forget(store, Keep(since=START + HOUR)) == Forgotten()


async def test_of_too_many_alerts_those_that_changed_longest_ago_are_forgotten(store: Store) -> None:
    await save_five(store)
    await save(store, record("0", START + HOUR, created=START))
    assert await forget(store, Keep(alerts=3)) == Forgotten(alerts=2, changes=2)
    assert sorted(await listing(store)) == ["0", "3", "4"]


async def test_what_is_too_old_goes_before_anything_that_is_open(store: Store) -> None:
    await save(
        store, record("open", START), *(record(str(n), START + SECOND, status=Status.RESOLVED) for n in range(3))
    )
    assert (await forget(store, Keep(since=START + HOUR, alerts=1))).alerts == 3
    assert await forget(store, Keep(since=START + HOUR, alerts=1)) == Forgotten()
    assert await listing(store) == ["open"]


async def test_an_alert_is_forgotten_with_all_its_revisions(store: Store) -> None:
    versions = [record("1", START + number * SECOND, title=f"title {number}") for number in range(4)]
    for version in versions:
        await save(store, version)
    await save(store, record("2", START + HOUR))
    assert await forget(store, Keep(alerts=1)) == Forgotten(alerts=1, changes=4)
    assert await store.get("model/1") is None
    assert [change.alert.vendor_id for change in await store.changes(0, 100)] == ["2"]
    assert await store.count(Query(root=Words(("title",)))) == 0
    assert (await state_of(store)).alerts == 1


async def test_a_seq_is_not_used_again_for_what_comes_after_what_was_forgotten(store: Store) -> None:
    await save_five(store)
    await forget(store, Keep(alerts=1))
    await forget(store, Keep(since=START + HOUR, alerts=0))
    assert await store.changes(0, 100) == ()
    assert await store.last_seq() == 5
    assert await save(store, record("9", START)) == Saved(created=1, last_seq=6)


async def test_what_was_forgotten_and_changes_is_created_again(store: Store) -> None:
    await save_five(store)
    await forget(store, Keep(alerts=0))
    await save(store, record("1", START + HOUR, status=Status.RESOLVED))
    change = await store.get("model/1")
    assert change is not None
    assert (change.kind, change.revision, change.before) == (ChangeKind.CREATED, 1, None)
    assert await listing(store, parse("status:resolved", now=NOW)) == ["1"]


async def test_nothing_is_forgotten_that_a_sink_has_not_taken(store: Store) -> None:
    await save_five(store)
    assert await forget(store, Keep(alerts=0), sinks=("archive",)) == Forgotten(over=True)
    await store.move("archive", 2)
    assert await forget(store, Keep(alerts=0), sinks=("archive",)) == Forgotten(alerts=2, changes=2, over=True)
    await store.move("archive", 5)
    await store.move("webhook", 4)
    assert (await forget(store, Keep(alerts=0), sinks=("archive",))).alerts == 2
    assert await listing(store) == ["4"]


async def test_an_alert_whose_newest_revision_a_sink_has_not_taken_keeps_the_ones_before(store: Store) -> None:
    await save_five(store)
    await save(store, record("0", START + 9 * SECOND, created=START, title="again"))
    await store.move("archive", 5)
    await forget(store, Keep(alerts=0))
    (first, again) = await store.changes(0, 100)
    assert again.before == first.alert


async def test_nothing_is_forgotten_that_may_be_read_again(store: Store, clock: ManualClock) -> None:
    clock.advance(days=10)
    await save_five(store)
    needed = {"model": (Window(START + SECOND, START + 2 * SECOND), Window(START + 4 * SECOND, START + HOUR))}
    assert await forget(store, Keep(alerts=0), needed) == Forgotten(alerts=2, changes=2, over=True)
    assert sorted(await listing(store)) == ["1", "2", "4"]
    saved_just_now = {"model": (Window(clock.now, clock.now + HOUR),)}
    assert (await forget(store, Keep(alerts=0), saved_just_now)).alerts == 0


async def test_all_is_needed_of_a_source_that_nothing_is_said_of(store: Store) -> None:
    await save_five(store)
    await save(store, record("1", START, source="other"), source="other")
    assert (await forget(store, Keep(alerts=0), {"other": ()})).alerts == 1
    assert await store.count(EVERYTHING) == 5


async def test_quarantined_records_go_by_their_last_sight(store: Store, clock: ManualClock) -> None:
    lease = await lease_of(store)
    await store.save("model", page(quarantined=(Quarantined(b"old", "x"), Quarantined(b"seen again", "x"))), lease)
    clock.advance(hours=1)
    await store.save("model", page(quarantined=(Quarantined(b"seen again", "x"),)), lease)
    assert await forget(store, Keep(since=clock.now)) == Forgotten(quarantined=1)
    assert (await state_of(store)).quarantined == 1


async def test_quarantined_records_go_when_the_store_is_too_large(store: Store) -> None:
    await store.save("model", page(quarantined=(Quarantined(b"bad", "x"),)), await lease_of(store))
    assert await forget(store, Keep(size=10**9)) == Forgotten()
    assert (await forget(store, Keep(size=1))).quarantined == 1
    assert (await state_of(store)).quarantined == 0


async def test_a_quarantined_record_that_may_be_read_again_stays(store: Store, clock: ManualClock) -> None:
    await store.save("model", page(quarantined=(Quarantined(b"new", "x"),)), await lease_of(store))
    needed = {"model": (Window(clock.now, clock.now + HOUR),)}
    clock.advance(hours=1)
    assert await forget(store, Keep(since=clock.now), needed) == Forgotten()
    assert await forget(store, Keep(since=clock.now)) == Forgotten(quarantined=1)


async def test_forgetting_under_a_lease_that_was_lost_drops_nothing(store: Store, clock: ManualClock) -> None:
    await save_five(store)
    lost = await lease_of(store, "retention")
    clock.advance(seconds=10)
    await lease_of(store, "retention", "other")
    with pytest.raises(LeaseLost):
        await store.forget(Keep(alerts=0), NOTHING_NEEDED, (), lost)
    assert await store.count(EVERYTHING) == 5


async def test_a_value_that_went_with_its_alert_is_found_when_it_comes_again(
    opener: Opener, tmp_path: Path, clock: ManualClock
) -> None:
    """Two processes, for what one remembers of the store the other changes."""

    def host(name: str) -> tuple[Entity, ...]:
        return (Entity(EntityKind.HOST, name),)

    async with opener(tmp_path, clock) as store, opener(tmp_path, clock) as other:
        await save(store, record("1", START, entities=host("web1")))
        await save(store, record("2", START + SECOND, entities=host("web2")))
        await forget(other, Keep(alerts=1))
        await save(other, record("3", START + HOUR, entities=host("db1")))
        await save(store, record("4", START + HOUR, entities=host("web1")))
        for query, ids in (("host:web1", ["4"]), ("host:web2", ["2"]), ("host:db1", ["3"]), ("host:web*", ["4", "2"])):
            assert await listing(store, parse(query, now=NOW)) == ids


@pytest.mark.parametrize("opener", OPENERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_is_left_is_found_and_counted_as_in_memory(opener: Opener, data: st.DataObject) -> None:
    stored = data.draw(st.lists(alerts(storable_texts), min_size=2, max_size=6, unique_by=lambda alert: alert.id))
    limit = data.draw(st.integers(1, len(stored) - 1))
    left = sorted(stored, key=lambda alert: alert.updated)[-limit:]
    roots: list[Node | None] = [data.draw(nodes(stored)) for _ in range(8)]

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opener(Path(folder), ManualClock()) as store:
                for alert in stored:
                    await save(store, Record(alert, alert.title.encode()), source=alert.source)
                await forget(store, Keep(alerts=limit), {alert.source: () for alert in stored})
                found = (await store.find(EVERYTHING, 100)).alerts
                assert sorted(alert.updated for alert in found) == [alert.updated for alert in left]
                for root in roots:
                    await agree(store, list(found), root)

    anyio.run(run)
