"""What answers cost: how many statements each question takes, and that none of them scans a table or sorts a listing."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta

import apsw
import pytest
from model_vendor import START, record
from sqlite_statements import Statements, plan, planned

from xdr_mcp.alert import Entity, EntityKind, Severity
from xdr_mcp.interfaces import Page, Position
from xdr_mcp.query import Query, facets, parse
from xdr_mcp.store.sqlite import sources
from xdr_mcp.store.sqlite.counting import grouped
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.listing import asked, counted, listed
from xdr_mcp.store.sqlite.revisions import change_at, changes_after, changes_of, newest_seq, uid_of
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.versions import prepare

NOW = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PAGES = 64

QUERIES = [
    *("", "severity>=high", "host:web-1", "host:web*", "not host:web-1", "ransom", '"alert one"', "risk_score>=80"),
    *("severity>=high status:new since:-24h technique:T1059 host:web-1", "updated>-30m", "created:2026-11-01"),
]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Generator[apsw.Connection, None, None]:
    """Some alerts, each changed and moved every minute. Only read."""
    made = open_writer(tmp_path_factory.mktemp("asked") / "store.db", migrations())
    made.execute("BEGIN")
    for minute in range(PAGES):
        now = START + minute * MINUTE
        page = tuple(
            record(str(n), now, created=now, severity=Severity.HIGH, entities=(Entity(EntityKind.HOST, f"web-{n}"),))
            for n in range(3)
        )
        save_page(made, prepare(Page(page, now)), source="x", lease="", now=now)
    made.execute("COMMIT")
    yield made
    made.close()


def costs(connection: apsw.Connection, work: Callable[[], object]) -> list[str]:
    """What was asked; nothing by scanning a table, but for those that have a row a source or a table."""
    statements = Statements(connection)
    statements.watch(work)
    for text in set(statements.texts):
        told = plan(connection, text)
        scanned = set(re.findall(r"SCAN (\w+)(?! VIRTUAL)(?= |;|$)", told))
        subqueries = set(re.findall(r"(?:CO-ROUTINE|MATERIALIZE) (\w+)", told))
        assert scanned - subqueries <= {"sources", "s", "sqlite_sequence", "CONSTANT"}, (text, told)
        assert "AUTOMATIC" not in told, (text, told)
    return statements.texts


@pytest.mark.parametrize("text", QUERIES)
def test_a_page_and_a_count_take_one_statement_more_than_what_must_be_looked_up(
    connection: apsw.Connection, text: str
) -> None:
    query = parse(text, now=NOW)
    looked_up = len(costs(connection, lambda: asked(connection, query)))
    assert looked_up <= (3 if "*" in text else 1)
    question = asked(connection, query)
    (listing,) = costs(connection, lambda: listed(connection, question, 20, None))
    assert "TEMP B-TREE" not in plan(connection, listing)
    assert len(costs(connection, lambda: counted(connection, question))) == 1


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("by", [["severity"], ["created:hour", "status"], ["risk_score"], ["host", "updated:day"]])
def test_counting_by_anything_takes_one_statement(connection: apsw.Connection, text: str, by: list[str]) -> None:
    question = asked(connection, parse(text, now=NOW))
    assert len(costs(connection, lambda: grouped(connection, question, facets(by), 10))) == 1


@pytest.mark.parametrize("text", QUERIES)
def test_the_past_costs_the_search_for_its_seq_and_two_statements_besides(
    connection: apsw.Connection, text: str
) -> None:
    query = parse(text, now=NOW)
    extra = len(costs(connection, lambda: asked(connection, query, NOW - MINUTE))) - len(
        costs(connection, lambda: asked(connection, query))
    )
    assert 1 <= extra <= 10  # 192 changes: eight halvings
    question = asked(connection, query, START + 20 * MINUTE)
    assert len(costs(connection, lambda: listed(connection, question, 20, None))) <= 3
    assert len(costs(connection, lambda: counted(connection, question))) == 2
    assert len(costs(connection, lambda: grouped(connection, question, facets(["host"]), 10))) == 2


@pytest.mark.parametrize(
    "text", [text for text in QUERIES if "*" not in text]
)  # FTS5 plans each look at its vocabulary
def test_what_was_asked_before_with_other_values_is_not_planned_again(connection: apsw.Connection, text: str) -> None:
    def ask(number: int) -> None:
        ago = number * MINUTE
        for as_of in (None, START + ago):
            question = asked(connection, parse(text, now=NOW - ago), as_of)
            listed(connection, question, 20 + number, Position(START, 2**62 - number))
            counted(connection, question, 100 + number)
            grouped(connection, question, facets(["severity", "created:hour"]), 10)
        changes_of(connection, uid_of("model/1"), number)
        changes_after(connection, number, number)

    assert planned(connection, lambda: ask(1), lambda: ask(2)) == 0


def test_one_alert_its_revisions_and_the_journal_take_one_statement_each(connection: apsw.Connection) -> None:
    uid = uid_of("model/1")
    for work in (
        lambda: change_at(connection, uid, None),
        lambda: change_at(connection, uid, 100),
        lambda: changes_of(connection, uid, 10),
        lambda: changes_after(connection, 100, 10),
        lambda: newest_seq(connection),
    ):
        assert len(costs(connection, work)) == 1
    assert len(changes_of(connection, uid, 1_000)) == PAGES


def test_summaries_read_tallies_and_no_alert(connection: apsw.Connection) -> None:
    for text in ("", "severity>=high", "status:open since:2026-11-01", "not (severity:low or verdict:benign)"):
        question = asked(connection, parse(text, now=NOW))
        for by in (["severity"], ["status", "created:day"], ["created:month"]):
            (told,) = costs(connection, lambda: grouped(connection, question, facets(by), 10))  # noqa: B023 (called at once)
            assert "FROM tallies" in told
            assert "FROM alerts" not in told
    (told,) = costs(connection, lambda: counted(connection, asked(connection, Query())))
    assert told.endswith("FROM sources")


def test_the_state_of_sources_takes_two_statements_a_source_while_nothing_new_arrived(
    connection: apsw.Connection,
) -> None:
    lags = sources.Lags()
    costs(connection, lambda: sources.states(connection, START, lags))
    assert len(costs(connection, lambda: sources.states(connection, START, lags))) == 2
