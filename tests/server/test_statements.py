"""What each tool asks of SQLite, from the client's call on: by index alone, and a bounded number of statements however many rows are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from mcp import Client
from tool_examples import GUIDE, calls_in, example_client

pytestmark = pytest.mark.anyio

SMALL = {"sqlite_sequence", "sources", "s", "positions", "dead_letters"}
"""A row a source or a sink: these may be read whole."""
BY_WORD = re.compile(r"SCAN postings VIRTUAL TABLE INDEX \d+:\S*M")
"""How FTS5 calls it when it follows the lists of words; without one it would walk all alerts."""
CALLS = calls_in(GUIDE.read_text("utf-8"))
MOST = {"related_alerts": 60, "list_alerts": 30, "wait_for_alerts": 30, "get_alert": 25, "source_status": 25}
"""Statements a call, BEGIN and COMMIT included; 20 where nothing is said. A page of 25 has 25 alerts, and none has statements of its own."""


@contextmanager
def statements() -> Iterator[list[tuple[str, str, Any]]]:
    """File, text and values of every statement that connections opened from now on are asked."""
    told: list[tuple[str, str, Any]] = []

    def watch(connection: apsw.Connection) -> None:
        def note(_cursor: apsw.Cursor, text: str, values: Any) -> bool:
            told.append((connection.filename, text, values))
            return True

        connection.exec_trace = note

    apsw.connection_hooks.append(watch)
    try:
        yield told
    finally:
        apsw.connection_hooks.remove(watch)


async def asked_twice(client: Client, tool: str, arguments: dict[str, Any], forget: Callable[[], None]) -> None:
    """What is done once in a process is done after the first time."""
    await client.call_tool(tool, arguments)
    forget()
    assert not (await client.call_tool(tool, arguments)).is_error


def scans(file: str, text: str, values: Any) -> list[str]:
    """The steps in which SQLite walks a table from end to end."""
    connection = apsw.Connection(file, flags=apsw.SQLITE_OPEN_READONLY)
    steps = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    connection.close()
    made = {step.split()[1] for step in steps if step.startswith(("CO-ROUTINE", "MATERIALIZE"))}
    walked = [step for step in steps if step.startswith("SCAN") and not BY_WORD.match(step)]
    return [step for step in walked if step.split()[1] not in SMALL | made | {"CONSTANT"}]


@pytest.mark.parametrize(("tool", "arguments"), CALLS, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_tool_walks_no_table_and_takes_a_bounded_number_of_statements(
    tmp_path: Path, tool: str, arguments: dict[str, Any]
) -> None:
    with statements() as told:
        async with example_client(tmp_path) as client:
            await asked_twice(client, tool, arguments, told.clear)
            asked = list(told)
            reads = [each for each in asked if each[1].lstrip().startswith(("SELECT", "WITH"))]
    assert reads
    assert [found for each in reads for found in scans(*each)] == []
    assert len(asked) <= MOST.get(tool, 20), [text for _, text, _ in asked]


def test_every_tool_is_among_the_examples() -> None:
    assert {tool for tool, _ in CALLS} >= {*re.findall(r"^#+ `(\w+)`", GUIDE.read_text("utf-8"), re.MULTILINE)}


def test_a_walk_is_noticed(tmp_path: Path) -> None:
    file = str(tmp_path / "walked.db")
    connection = apsw.Connection(file)
    connection.execute(
        "CREATE TABLE alerts (key INTEGER PRIMARY KEY, status); CREATE VIRTUAL TABLE postings USING fts5(a)"
    )
    assert scans(file, "SELECT * FROM alerts WHERE status = ?", (1,)) == ["SCAN alerts"]
    assert scans(file, "SELECT * FROM alerts WHERE key = ?", (1,)) == []
    assert scans(file, "SELECT rowid FROM postings WHERE postings MATCH ?", ("a",)) == []
    assert scans(file, "SELECT rowid FROM postings WHERE rowid > ?", (1,)) != []
