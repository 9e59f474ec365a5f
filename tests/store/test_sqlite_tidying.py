"""The full-text index in few pieces: counted by how many of them a question looks into."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest
from model_vendor import START, record

from xdr_mcp.alert import Entity, EntityKind
from xdr_mcp.interfaces import Page
from xdr_mcp.query import parse
from xdr_mcp.store.sqlite.file import migrations, open_reader, open_writer
from xdr_mcp.store.sqlite.listing import asked, listed
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.tidying import merge_some
from xdr_mcp.store.sqlite.versions import prepare

NOW = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def connection(path: Path) -> Generator[apsw.Connection, None, None]:
    made = open_writer(path, migrations())
    yield made
    made.close()


def fill(connection: apsw.Connection, pages: int, alerts: int) -> None:
    for page in range(pages):
        now = START + timedelta(minutes=page)
        made = tuple(
            record(f"{page}-{number}", now, created=now, entities=(Entity(EntityKind.HOST, f"web-{page}-{number}"),))
            for number in range(alerts)
        )
        connection.execute("BEGIN")
        save_page(connection, prepare(Page(made, now)), source="x", lease="", now=now)
        connection.execute("COMMIT")


def pieces(connection: apsw.Connection) -> int:
    """How many of them a question about one value looks into."""
    looks: list[str] = []

    def trace(event: dict[str, Any]) -> None:
        looks.append(event["sql"])

    question = asked(connection, parse("host:web-3-1", now=NOW))
    connection.trace_v2(apsw.SQLITE_TRACE_STMT, trace)
    (alert,) = listed(connection, question, 20, None).alerts
    connection.trace_v2(0)
    assert alert.vendor_id == "3-1"
    return sum("postings_idx" in text for text in looks)


def test_a_question_looks_into_few_pieces_of_an_index_that_is_in_order(connection: apsw.Connection) -> None:
    fill(connection, 31, 10)
    assert pieces(connection) >= 7
    while merge_some(connection):
        pass
    assert pieces(connection) == 1


def test_order_is_made_in_small_steps(connection: apsw.Connection) -> None:
    fill(connection, 3, 500)
    changed = [connection.total_changes()]
    while merge_some(connection, 5):
        changed.append(connection.total_changes())
    steps = [after - before for before, after in pairwise(changed)]
    assert max(steps) < sum(steps) / 3


def test_where_there_is_nothing_to_do_nothing_is_written(connection: apsw.Connection, path: Path) -> None:
    fill(connection, 3, 1)
    while merge_some(connection):
        pass
    other = open_reader(path)
    before = other.data_version()
    assert not merge_some(connection)
    assert other.data_version() == before
    other.close()
