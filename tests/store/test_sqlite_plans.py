"""How queries are answered: counted, not timed, so that a regression fails without a clock."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import apsw
import pytest
from model_vendor import START, record
from sqlite_statements import Statements, plan

from xdr_mcp.alert import Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Page, Position, Record
from xdr_mcp.query import Pattern, parse
from xdr_mcp.store.sqlite.file import PAGE_SIZE, migrations, open_reader, open_writer
from xdr_mcp.store.sqlite.glance import MOST_COUNTED, MOST_STEPS
from xdr_mcp.store.sqlite.listing import FEW, Asked, asked, counted, listed
from xdr_mcp.store.sqlite.saving import NEWEST_VERSIONS, save_page
from xdr_mcp.store.sqlite.versions import prepare
from xdr_mcp.store.sqlite.vocabulary import fitting
from xdr_mcp.store.sqlite.where import _Compiler

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def connection(tmp_path: Path) -> Generator[apsw.Connection, None, None]:
    made = open_writer(tmp_path / "store.db", migrations())
    yield made
    made.close()


def compiled(connection: apsw.Connection, text: str, as_of: datetime | None = None) -> Asked:
    return asked(connection, parse(text, now=NOW), as_of)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "severity>=high",
        "risk_score>=80 since:-24h host:web-01",
        "technique:T1059 host:web-01",
        "host:web*",
        "not host:web*",
        '"lateral movement"',
        "title:ransom* and not status:resolved",
        "risk_score>=80",
        "updated>-30m severity:high",
    ],
)
def test_a_listing_walks_newest_first_without_sorting(connection: apsw.Connection, text: str) -> None:
    statements = Statements(connection)
    question = compiled(connection, text)
    statements.watch(lambda: listed(connection, question, 20, Position(START, 2**62)))
    (listing,) = statements.texts
    told = plan(connection, listing)
    assert "TEMP B-TREE" not in told
    assert "OFFSET" not in listing
    assert "SEARCH c USING INTEGER PRIMARY KEY" in told
    if not question.where.match:
        assert "SEARCH a USING INTEGER PRIMARY KEY" in told


@pytest.mark.parametrize(("number", "statements_of_a_page"), [(FEW - 50, 2), (FEW + 50, 2), (0, 1)])
def test_what_several_lists_have_in_common_since_a_time_is_read_whole_when_it_is_little(
    connection: apsw.Connection, number: int, statements_of_a_page: int
) -> None:
    entities = (Entity(EntityKind.HOST, "web-01"), Entity(EntityKind.USER, "alice"))
    severities = (Severity.LOW, Severity.HIGH)
    made = [
        record(str(n), START, created=NOW - timedelta(seconds=n), entities=entities, severity=severities[n % 2])
        for n in range(number)
    ]
    older = record("older", START, created=NOW - timedelta(days=2), entities=entities, severity=Severity.HIGH)
    save_page(connection, prepare(Page((*made, older), START)), source="x", lease="", now=START)
    question = compiled(connection, "host:web-01 user:alice severity:high since:-24h")
    statements = Statements(connection)
    found: list[str] = []

    def read() -> None:
        position: Position | None = None
        while True:
            page = listed(connection, question, 30, position)
            found.extend(alert.vendor_id for alert in page.alerts)
            if (position := page.next) is None:
                return

    statements.watch(lambda: listed(connection, question, 30, None))
    assert len(statements.texts) == statements_of_a_page
    for text in statements.texts:
        told = plan(connection, text)
        assert "TEMP B-TREE" not in told
        assert not re.search(r"SCAN (?!postings VIRTUAL|wanted VIRTUAL)", told)
    read()
    assert found == [str(n) for n in range(number) if n % 2]


@pytest.mark.parametrize("text", ["", "host:web-01", "host:web-01 severity:high", "host:web-01 user:alice since:-24h"])
def test_of_an_alert_that_is_listed_at_most_two_pages_are_read_and_nothing_of_its_record(
    connection: apsw.Connection, tmp_path: Path, text: str
) -> None:
    entities = (Entity(EntityKind.HOST, "web-01"), Entity(EntityKind.USER, "alice"))
    raw = b'{"evidence": "%s"}' % (b"x" * 5 * PAGE_SIZE)
    made = [
        record(str(n), START, created=NOW - timedelta(minutes=n), entities=entities, severity=Severity.HIGH)
        for n in range(100)
    ]
    page = Page(tuple(Record(each.alert, raw) for each in made), START)
    save_page(connection, prepare(page), source="x", lease="", now=START)
    reader = open_reader(tmp_path / "store.db")
    question = compiled(reader, text)
    listed(reader, question, 1, None)  # what leads there
    before = reader.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0]
    assert len(listed(reader, question, 50, None).alerts) == 50
    assert reader.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0] - before <= 2 * 51
    reader.close()


def test_a_list_that_is_counted_on_the_event_loop_takes_no_more_steps_than_are_allowed_there(
    connection: apsw.Connection,
) -> None:
    number = 400
    made = tuple(record(str(n), START, entities=(Entity(EntityKind.HOST, "web-01"),)) for n in range(number))
    save_page(connection, prepare(Page(made, START)), source="x", lease="", now=START)
    question = compiled(connection, "host:web-01")
    steps: list[int] = []
    connection.trace_v2(
        apsw.SQLITE_TRACE_PROFILE, lambda event: steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
    )
    assert counted(connection, question, MOST_COUNTED) == number
    connection.trace_v2(0)
    assert max(steps) / number < MOST_STEPS / MOST_COUNTED


@pytest.mark.parametrize("text", ["severity>=high", "host:web* and not status:resolved", '"a phrase" or user:alice'])
def test_what_is_a_set_of_alerts_a_value_is_answered_by_one_full_text_expression(
    connection: apsw.Connection, text: str
) -> None:
    where = compiled(connection, text).where
    assert where.match
    assert where.conditions == ()


def test_a_level_is_compared_where_values_or_words_lead_and_leads_where_it_is_rare(connection: apsw.Connection) -> None:
    made = tuple(
        record(str(n), START, severity=Severity.HIGH if n % 2 else Severity.LOW, status=Status.NEW) for n in range(400)
    )
    rare = record("rare", START, severity=Severity.CRITICAL)
    save_page(connection, prepare(Page((*made, rare), START)), source="x", lease="", now=START)
    for text in (
        "host:web-01 severity:high",
        "ransom severity:high",
        "host:web-01 not (severity:low or status:closed)",
    ):
        where = compiled(connection, text).where
        assert ("a.severity" in where.conditions[0], "s4" in where.match) == (True, False)
    for text in (
        "severity:high",
        "severity:high status:new",
        "not host:web-01 severity:high",
        "host:x severity:critical",
    ):
        assert compiled(connection, text).where.conditions == ()


def test_a_condition_is_put_into_words_once(connection: apsw.Connection) -> None:
    page = Page((record("1", START, severity=Severity.HIGH, status=Status.NEW),), START)
    save_page(connection, prepare(page), source="x", lease="", now=START)
    expressed = 0

    def note(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal expressed
        expressed += event == "call" and frame.f_code is _Compiler._expression.__code__

    query = parse("severity>=high status:new since:-24h technique:T1059 host:web-01", now=NOW)
    sys.setprofile(note)
    try:
        where = asked(connection, query).where
    finally:
        sys.setprofile(None)
    assert len(where.conditions) == 3
    assert expressed == 4  # host and technique, and the time twice: the levels, which are compared, are not


def test_a_bound_on_created_bounds_the_walk(connection: apsw.Connection) -> None:
    everything, bounded = (compiled(connection, text).where for text in ("", "since:-24h until:-1h"))
    assert everything.least_key < bounded.least_key < bounded.largest_key < everything.largest_key


@pytest.mark.parametrize("alerts", [1, 100, 1_000])
def test_a_save_reads_in_batches_and_writes_hundreds_of_rows_a_statement(
    connection: apsw.Connection, alerts: int
) -> None:
    statements = Statements(connection)
    page = Page(tuple(record(str(n), START, created=START + n * timedelta(seconds=1)) for n in range(alerts)), START)

    def save() -> None:
        save_page(connection, prepare(page), source="model", lease="poll:model", now=START)

    statements.watch(save)
    read = [text for text in statements.texts if text.startswith("SELECT")]
    written = [text for text in statements.texts if not text.startswith("SELECT")]
    assert len(read) <= 8
    # changes, heads and postings; the source's row and counters; tallies of hours and days
    assert len(written) <= 3 * -(-alerts // 250) + 4
    statements.texts.clear()
    statements.watch(save)
    assert len(statements.texts) <= 4


def test_a_version_that_was_told_is_found_by_index(connection: apsw.Connection) -> None:
    versions = [record("1", START, title=title) for title in ("one", "two", "three")]
    statements = Statements(connection)

    def save() -> None:
        save_page(connection, prepare(Page((*versions, versions[0]), START)), source="x", lease="", now=START)

    save()
    statements.watch(save)
    (lookup, *_) = [text for text in statements.texts if "FROM changes WHERE uid" in text]
    told = plan(connection, lookup)
    assert "SCAN" not in told
    assert "later_versions" in told


def test_what_is_read_of_an_alert_whose_content_always_changes_does_not_grow_with_its_versions(
    connection: apsw.Connection,
) -> None:
    made = tuple(record("1", START, title=f"poll {number}") for number in range(3 * NEWEST_VERSIONS))
    save_page(connection, prepare(Page(made, START)), source="x", lease="", now=START)
    read: list[object] = []

    def trace(_cursor: apsw.Cursor, row: apsw.SQLiteValues) -> apsw.SQLiteValues:
        read.append(row)
        return row

    connection.row_trace = trace
    saved = save_page(connection, prepare(Page((record("1", START), made[1]), START)), source="x", lease="", now=START)
    connection.row_trace = None
    assert (saved.updated, saved.unchanged) == (1, 1)
    assert len(read) < NEWEST_VERSIONS + 20


def test_a_version_is_recognised_by_its_bytes_for_ever_and_by_its_content_among_the_newest(
    connection: apsw.Connection,
) -> None:
    made = [record("1", START, title=f"poll {number}") for number in range(NEWEST_VERSIONS + 2)]

    def save(*records: Record) -> tuple[int, int]:
        saved = save_page(connection, prepare(Page(records, START)), source="x", lease="", now=START)
        return saved.created + saved.updated, saved.unchanged

    assert save(*made) == (len(made), 0)
    assert save(*made) == (0, len(made))
    first, second, third, *_, last = (Record(each.alert, b" " + each.raw) for each in made)
    assert save(first, third, last) == (0, 3)
    assert save(second) == (1, 0)
    assert save(second) == (0, 1)


def test_an_alert_that_moves_in_the_listing_leaves_no_posting_behind(connection: apsw.Connection) -> None:
    for hours in range(3):
        made = record("1", START + timedelta(hours=hours), created=START - timedelta(hours=hours))
        save_page(connection, prepare(Page((made,), START)), source="x", lease="", now=START)
    (posting,) = connection.execute("SELECT rowid FROM postings WHERE postings MATCH 'terms : everything'").fetchall()
    assert posting == (connection.execute("SELECT key FROM alerts").get,)


def test_the_values_of_a_field_are_read_without_stepping_through_all_their_postings(
    connection: apsw.Connection,
) -> None:
    hosts = [Entity(EntityKind.HOST, f"web-{number}") for number in (1, 2, 3)]
    made = tuple(record(str(number), START, entities=(hosts[number % 3],)) for number in range(900))
    save_page(connection, prepare(Page(made, START)), source="x", lease="", now=START)
    statements = Statements(connection)
    statements.watch(lambda: fitting(connection, "host", Pattern(("web", ""))))
    assert len(statements.texts) == 4
    assert fitting(connection, "host", Pattern(("", "-2"))) == ["host:web-2"]


def test_a_value_that_is_asked_for_whole_is_not_looked_up(connection: apsw.Connection) -> None:
    statements = Statements(connection)
    statements.watch(lambda: compiled(connection, "host:web-01 technique:T1059 severity>=high"))
    (told,) = statements.texts
    assert plan(connection, told) == "CO-ROUTINE a; SEARCH tallies USING PRIMARY KEY (unit=?); SCAN a"
