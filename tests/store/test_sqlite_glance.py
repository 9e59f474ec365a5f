"""What is read on the event loop: only what is short whatever is stored, and never waiting."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import apsw
import pytest
from anyio.lowlevel import checkpoint
from contract_stores import save
from loop_calls import called
from model_vendor import START, record
from strategies import NOW

from xdr_mcp.alert import Entity, EntityKind, Severity
from xdr_mcp.errors import StoreUnusable
from xdr_mcp.query import Query, parse
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import migrations
from xdr_mcp.store.sqlite.glance import (
    LARGEST,
    MOST_COUNTED,
    MOST_PAGES,
    MOST_ROWS,
    MOST_SECONDS,
    MOST_STEPS,
    Glance,
    TooLong,
    look_often,
    short,
    short_count,
)
from xdr_mcp.store.sqlite.listing import asked, counted, listed

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "some.db"
    connection = apsw.Connection(str(made))
    connection.execute("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    connection.pragma("user_version", len(migrations()))
    connection.close()
    return made


def read(connection: apsw.Connection) -> object:
    return connection.execute("SELECT x FROM t").get


@pytest.mark.parametrize(
    "text",
    [
        "",
        "severity>=high",
        "not status:resolved",
        "host:web-01",
        "entity:10.1.2.3",
        "ransom",
        "title:ransom since:-24h",
        "host:web-01 severity:high since:-24h not (status:closed or verdict:benign)",
        "host:a user:b severity:high",
    ],
)
def test_a_listing_that_follows_lists_from_its_newest_end_is_short(text: str) -> None:
    assert short(parse(text, now=NOW).root, MOST_ROWS)
    assert not short(parse(text, now=NOW).root, MOST_ROWS + 1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "host:web*",
            "host:*",
            "not host:web-01",
            "host:a or host:b",
            "host:a user:b*",
            "host:a not user:b",
        ),
        *('"two words"', "ransom*", "s4", "everything"),
        *("risk_score>=80", "until:-24h host:a", "created!=2026-01-01", "updated>-1h"),
    ],
)
def test_what_skips_or_looks_up_is_not_short(text: str) -> None:
    assert not short(parse(text, now=NOW).root, 1)


@pytest.mark.parametrize(
    "text", ["", "severity:high status:new", "until:-24h", "created:2026-01-01", "not (severity:low or status:new)"]
)
def test_what_tallies_answer_is_walked_through_and_counted(text: str) -> None:
    root = parse(text, now=NOW).root
    assert short(root, MOST_ROWS, MOST_COUNTED + 1)
    assert short_count(root)


@pytest.mark.parametrize("text", ["host:web-01", "ransom", "ransom since:-24h"])
def test_one_list_is_counted_so_far(text: str) -> None:
    root = parse(text, now=NOW).root
    assert short(root, MOST_ROWS, MOST_COUNTED)
    assert not short(root, MOST_ROWS, MOST_COUNTED + 1)
    assert short_count(root)


def test_what_is_compared_beside_a_list_is_not_counted() -> None:
    root = parse("host:web-01 severity:high", now=NOW).root
    assert not short(root, MOST_ROWS, MOST_COUNTED)
    assert not short_count(root)


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["severity:critical status:new", "severity:critical"])
async def test_what_takes_longer_than_it_seems_is_found_in_a_thread(tmp_path: Path, text: str) -> None:
    """Two of many thousand, the oldest."""
    async with open_store(tmp_path / "store.db") as store:
        rare = [record(str(n), START, created=START - DAY, severity=Severity.CRITICAL) for n in range(2)]
        common = [record(str(n), START, created=START + n * SECOND) for n in range(2, MOST_STEPS // 4)]
        await save(store, *rare, *common)
        query = parse(text, now=NOW)
        found = []

        async def find() -> None:
            found.append(await store.find(query, 1, most=10))

        for hops in (1, 1):
            assert (await called(find))["anyio.to_thread.run_sync"] == hops
        assert (await called(partial(store.find, Query(), 10)))["anyio.to_thread.run_sync"] == 0  # nothing was broken
    assert [(len(each.alerts), each.total, each.alerts[0].severity) for each in found] == [
        (1, 2, Severity.CRITICAL)
    ] * 2


@pytest.mark.anyio
async def test_summaries_are_read_on_the_event_loop_and_what_reads_alerts_is_not(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        await save(store, *(record(str(n), START) for n in range(3)))
        for text, by, hops in (
            ("", ["severity"], 0),
            ("severity>=low since:-30d", ["created:day", "status"], 0),
            ("", ["host"], 1),
            ("", ["risk_score"], 1),
            ("host:web-01", ["severity"], 1),
        ):
            told = await called(partial(store.count_by, parse(text, now=NOW), by, 10))
            assert told["anyio.to_thread.run_sync"] == hops, (text, by)


@pytest.mark.anyio
async def test_levels_are_compared_beside_a_list_and_rare_ones_are_intersected_with_it(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        severities = [Severity.CRITICAL, *[Severity.HIGH, Severity.LOW] * 100]
        await save(store, *(record(str(n), START, severity=severity) for n, severity in enumerate(severities)))
        for text, number in (("source:model severity:high", 100), ("source:model severity:critical", 1)):
            assert len((await store.find(parse(text, now=NOW), 100)).alerts) == number


@pytest.mark.anyio
@pytest.mark.parametrize("late", [False, True])
async def test_an_intersection_is_left_within_the_full_text_index_when_it_takes_too_long(
    tmp_path: Path, *, late: bool
) -> None:
    """Every other alert has one host and every other one the other, so that nothing is found to stop at."""
    async with open_store(tmp_path / "store.db") as store:
        hosts = [(Entity(EntityKind.HOST, "a"),), (Entity(EntityKind.HOST, "b"),)]
        await save(store, *(record(str(n), START, entities=hosts[n % 2]) for n in range(10_000)))
    glance = Glance(tmp_path / "store.db")
    query = parse("host:a host:b", now=NOW)
    looks: list[float] = []

    def clock() -> float:
        looks.append(2 * MOST_SECONDS if late and looks else 0)
        return looks[-1]

    def work(connection: apsw.Connection) -> int:
        question = asked(connection, query)
        look_often(connection, clock)
        return len(listed(connection, question, 10, None).alerts)

    if late:
        with pytest.raises(TooLong):
            glance(work)
        assert len(looks) == 2
    else:
        assert glance(work) == 0
        assert len(looks) > 3
    assert glance(lambda connection: counted(connection, asked(connection, Query()))) == 10_000  # nothing was broken
    glance.close()


def test_what_reads_many_pages_is_too_long(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?)", [(bytes(3_000),)] * 10 * MOST_PAGES)
    connection.execute("COMMIT")
    connection.close()
    glance = Glance(path)
    steps: dict[str, int] = {}

    def work(connection: apsw.Connection) -> object:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, lambda event: steps.update(event["stmt_status"]))
        return connection.execute("SELECT sum(length(x)) FROM t").get

    with pytest.raises(TooLong):
        glance(work)
    assert steps["SQLITE_STMTSTATUS_VM_STEP"] < MOST_STEPS / 2
    assert glance(lambda connection: connection.execute("SELECT x FROM t LIMIT 1").get) == 1  # nothing was broken
    glance.close()


@pytest.mark.anyio
async def test_what_is_large_is_read_in_a_thread(tmp_path: Path) -> None:
    """On the event loop, 30 MB of one record took 35 milliseconds, and a page of large alerts 20."""
    large = "x" * LARGEST
    made = record("large", START, description=large)
    async with open_store(tmp_path / "store.db") as store:
        await save(store, record("small", START), made)

        async def get(vendor_id: str) -> None:
            told = await store.get(f"model/{vendor_id}")
            assert told is not None
            assert told.alert.vendor_id == vendor_id

        async def find() -> None:
            assert [alert.description for alert in (await store.find(Query(), 10)).alerts] == [large, ""]

        for work, hops in ((partial(get, "large"), 1), (find, 1), (partial(get, "small"), 0)):
            assert (await called(work))["anyio.to_thread.run_sync"] == hops


def test_a_locked_file_is_not_waited_for(path: Path) -> None:
    glance = Glance(path)
    other = apsw.Connection(str(path))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(apsw.BusyError):
        glance(read)
    other.execute("COMMIT")
    assert glance(read) == 1
    other.close()
    glance.close()


def test_what_fails_leaves_nothing_open(path: Path) -> None:
    glance = Glance(path)
    with pytest.raises(ZeroDivisionError):
        glance(lambda _: 1 // 0)
    with pytest.raises(apsw.SQLError):
        glance(lambda connection: connection.execute("SELECT no_such"))
    other = apsw.Connection(str(path))
    other.execute("DROP TABLE t")  # fails while anybody reads
    other.close()
    glance.close()
    with pytest.raises(StoreUnusable, match="closed"):
        glance(read)


@pytest.mark.anyio
async def test_reads_that_follow_one_another_let_others_have_a_turn(tmp_path: Path) -> None:
    turned = anyio.Event()

    async def turn() -> None:
        turned.set()

    async with open_store(tmp_path / "store.db") as store, anyio.create_task_group() as others:
        await checkpoint()
        others.start_soon(turn)
        with pytest.raises(StopIteration):
            store.last_seq().send(None)  # the first waits for nobody
        assert not turned.is_set()
        for _ in range(20_000):  # a hundred take longer than a millisecond
            await store.last_seq()
        assert turned.is_set()
