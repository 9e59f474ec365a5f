"""The past in an SQLite file: what is kept for it, and how it is found."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from contract_stores import lease_of, save
from model_vendor import START, ManualClock, record

from xdr_mcp.interfaces import Keep, Page
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite import past
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.past import overtaken, seq_at
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.versions import prepare

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


@pytest.fixture
def connection(tmp_path: Path) -> Generator[apsw.Connection, None, None]:
    made = open_writer(tmp_path / "store.db", migrations())
    yield made
    made.close()


def test_the_seq_of_a_moment_is_found_whatever_was_forgotten_between(connection: apsw.Connection) -> None:
    for number in range(20):
        page = Page((record(str(number), START),), START)
        save_page(connection, prepare(page), source="x", lease="", now=START + number * SECOND)
    for forgotten in ((), (1, 2, 3), (9, 10, 11, 12), (20,)):
        connection.executemany("DELETE FROM changes WHERE seq = ?", [(seq,) for seq in forgotten])
        left = [seq for (seq,) in connection.execute("SELECT seq FROM changes")]
        for number in range(-1, 20):
            known = [seq for seq in left if seq <= number + 1]
            at = seq_at(connection, START + number * SECOND)
            assert [seq for seq in left if at is None or seq <= at] == known


def test_what_was_overtaken_is_found_by_index_and_place(connection: apsw.Connection) -> None:
    plan = connection.execute(f"EXPLAIN QUERY PLAN {past._OVERTAKEN}", (0, 0, 0))
    told = [str(row[3]) for row in plan]
    assert "SEARCH c USING COVERING INDEX overtaken (seq>?)" in told
    assert "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)" in told
    assert not any("SCAN" in line and "SCAN CONSTANT" not in line for line in told)


async def test_what_is_kept_of_the_past_of_an_alert_goes_with_it(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", clock=ManualClock()) as store:
        for number in range(3):
            await save(store, record("1", START + number * SECOND))
        await store.forget(Keep(alerts=0), {"model": ()}, (), await lease_of(store, "retention"))
    connection = apsw.Connection(str(tmp_path / "store.db"))
    assert connection.execute("SELECT count(*) FROM moves").get == 0
    connection.close()


def test_a_store_of_before_it_knew_the_past_answers_for_it(connection: apsw.Connection) -> None:
    for number in range(2):
        page = Page((record("1", START + number * SECOND, created=START, title=f"title {number}"),), START)
        save_page(connection, prepare(page), source="x", lease="", now=START + number * SECOND)
    connection.execute("DROP TABLE moves; DROP INDEX overtaken")
    connection.execute(migrations()[1])
    ((_, seq, alert),) = overtaken(connection, 1, 0, 2**62)
    assert (seq, alert.title) == (1, "title 0")
