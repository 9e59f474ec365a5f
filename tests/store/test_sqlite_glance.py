"""What is read on the event loop: only what is short whatever is stored, and never waiting."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from strategies import NOW

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.query import parse
from xdr_mcp.store.sqlite.file import migrations
from xdr_mcp.store.sqlite.glance import MOST_COUNTED, MOST_ROWS, Glance, short


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
    ],
)
def test_a_listing_that_follows_one_list_from_its_newest_end_is_short(text: str) -> None:
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
            "host:a user:b",
            "host:a severity:high",
            "severity:high status:new",
        ),
        *('"two words"', "ransom*", "s4", "everything"),
        *("risk_score>=80", "until:-24h", "created:2026-01-01", "updated>-1h"),
    ],
)
def test_what_intersects_skips_or_looks_up_is_not_short(text: str) -> None:
    assert not short(parse(text, now=NOW).root, 1)


@pytest.mark.parametrize(
    ("text", "counted"),
    [("", True), ("host:web-01", True), ("ransom", True), ("severity>=high", False), ("since:-24h", False)],
)
def test_one_list_is_counted_so_far_and_tallies_are_not(text: str, counted: bool) -> None:  # noqa: FBT001 (a case of the table)
    root = parse(text, now=NOW).root
    assert short(root, MOST_ROWS, MOST_COUNTED) == counted
    assert short(root, MOST_ROWS, MOST_COUNTED + 1) == (root is None)


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
