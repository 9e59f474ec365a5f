"""Tallies are what counting the alerts would give, whatever was done to them."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from contract_stores import lease_of, save
from model_vendor import START, ManualClock, record

from xdr_mcp.alert import Severity, Status, Verdict
from xdr_mcp.interfaces import Keep, Page, Record
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.tallies import HOUR
from xdr_mcp.store.sqlite.versions import prepare

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
DRAW = random.Random(11)  # noqa: S311 (a fixed disorder)


def drawn(vendor_id: str, number: int) -> Record:
    return record(
        vendor_id,
        START + number * SECOND,
        created=START + timedelta(minutes=DRAW.randrange(-9_000, 9_000)),
        severity=DRAW.choice(list(Severity)),
        status=DRAW.choice(list(Status)),
        verdict=DRAW.choice(list(Verdict)[:2]),
    )


def kept_and_counted(connection: apsw.Connection) -> tuple[list[Any], list[Any]]:
    kept = list(connection.execute("SELECT * FROM tallies ORDER BY 1, 2, 3, 4, 5"))
    counted: list[Any] = []
    for unit in (1, 24):
        length = unit * HOUR
        start = f"(created - (created % {length} + {length}) % {length}) / {HOUR}"
        counted += connection.execute(
            f"SELECT {unit}, {start}, severity, status, verdict, count(*) FROM alerts GROUP BY 2, 3, 4, 5 ORDER BY 2, 3, 4, 5"  # noqa: S608 (numbers)
        )
    return kept, counted


async def test_tallies_follow_whatever_is_saved_changed_moved_restored_and_forgotten(tmp_path: Path) -> None:
    clock = ManualClock()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with open_store(tmp_path / "a" / "store.db", clock=clock) as store:
        for number in range(30):
            await save(store, *(drawn(str(DRAW.randrange(60)), number) for _ in range(DRAW.randrange(12))))
        changes = await store.changes(0, 10_000)
        async with open_store(tmp_path / "b" / "store.db", clock=clock) as again:
            for start in range(0, len(changes), 7):
                await again.restore(changes[start : start + 7])
        await store.forget(Keep(alerts=11), {"model": ()}, (), await lease_of(store, "retention"))
    sizes = []
    for name in ("a", "b"):
        connection = apsw.Connection(str(tmp_path / name / "store.db"))
        kept, counted = kept_and_counted(connection)
        assert kept == counted
        sizes.append(sum(row[-1] for row in kept) / 2)
        connection.close()
    assert sizes[0] == 11 < sizes[1]


def test_a_store_of_before_tallies_has_them_counted_when_it_is_opened(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "store.db", migrations())
    times = [START, START + SECOND, START - timedelta(days=40_000), START + timedelta(hours=13)]
    page = Page(tuple(record(str(number), START, created=time) for number, time in enumerate(times)), START)
    save_page(connection, prepare(page), source="x", lease="", now=START)
    connection.execute("DROP TABLE tallies")
    connection.execute(migrations()[2])
    kept, counted = kept_and_counted(connection)
    assert kept == counted
    assert len(kept) == 6
    connection.close()
