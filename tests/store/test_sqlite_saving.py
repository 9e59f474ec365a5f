"""How a page gets into the file: counted, not timed, so that a regression fails without a clock."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from model_vendor import START, record

from xdr_mcp.interfaces import Page, Record
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.versions import prepare

ALERTS = 12


@pytest.fixture
def connection(tmp_path: Path) -> Generator[apsw.Connection, None, None]:
    made = open_writer(tmp_path / "store.db", migrations())
    yield made
    made.close()


def save(connection: apsw.Connection, *records: Record) -> None:
    connection.execute("BEGIN")
    save_page(connection, prepare(Page(records, START)), source="model", lease="poll:model", now=START)
    connection.execute("COMMIT")


def segments(connection: apsw.Connection) -> int:
    """Pieces that the full-text index is in: each was written whole, and is merged with others one day."""
    found: int = connection.execute("SELECT count(DISTINCT segid) FROM postings_idx").get
    return found


@pytest.mark.parametrize("step", [-1, 1])
def test_a_page_is_one_piece_of_the_full_text_index_in_whatever_order_it_came(
    connection: apsw.Connection, step: int
) -> None:
    newest_first = [record(str(n), START, created=START - n * timedelta(seconds=1)) for n in range(ALERTS)]
    save(connection, *newest_first[::step])
    assert segments(connection) == 1


def test_so_are_alerts_that_change_and_move_among_new_ones(connection: apsw.Connection) -> None:
    created = [START - n * timedelta(minutes=1) for n in range(3 * ALERTS)]
    save(connection, *(record(str(n), START, created=created[n]) for n in range(0, len(created), 3)))
    later = START + timedelta(hours=1)
    moved = timedelta(seconds=30)
    save(connection, *(record(str(n), later, created=created[n] + (n % 2) * moved) for n in range(len(created))))
    assert segments(connection) == 2
