# ruff: noqa: ASYNC240 (nothing else runs on these tests' loops)
"""The store's file: private, migrated whole or not at all, and clear about what is wrong with it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import apsw
import pytest
from model_vendor import START, record

from xdr_mcp.alert import Entity, EntityKind
from xdr_mcp.errors import SettingsError, StoreUnusable
from xdr_mcp.interfaces import Page, Store
from xdr_mcp.query import Query, parse
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import explained, migrations, open_writer, refuse_sqlite
from xdr_mcp.store.sqlite.reader import Reader
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.versions import prepare

pytestmark = pytest.mark.anyio

NOBODY = 65534


async def fill(store: Store, alerts: int) -> None:
    lease = await store.acquire("poll:model", "me", timedelta(seconds=9))
    assert lease is not None
    await store.save("model", Page(tuple(record(str(number), START) for number in range(alerts)), START), lease)


async def refused(path: Path) -> str:
    with pytest.raises(StoreUnusable) as caught:
        async with open_store(path) as store:
            await store.find(Query(), 10)
    assert str(path) in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ names


async def test_a_store_is_named_by_a_path_or_a_url(tmp_path: Path) -> None:
    for name in (tmp_path / "a?b#c%20.db", str(tmp_path / "with blank.db"), f"sqlite:///{tmp_path}/url.db"):
        async with open_store(name) as store:
            assert await store.last_seq() == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {"a?b#c%20.db", "with blank.db", "url.db"}


@pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://host/db", "sqlite:///", "https://example.com/db"])
async def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="There is no store"):
        async with open_store(url):
            pass


# ------------------------------------------------------------------------------------------------ privacy


async def test_the_file_and_its_companions_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    old = os.umask(0)
    try:
        async with open_store(folder / "store.db") as store:
            await fill(store, 3)
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    async with open_store(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------------ migrations


def version(path: Path) -> int:
    connection = apsw.Connection(str(path))
    try:
        found: int = connection.pragma("user_version")
        return found
    finally:
        connection.close()


def test_a_store_is_brought_up_to_date_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    scripts = (*migrations(), "CREATE TABLE later (x)", "INSERT INTO later VALUES (1)")
    open_writer(path, scripts[:1]).close()
    assert version(path) == 1
    connection = open_writer(path, scripts)
    assert connection.execute("SELECT x FROM later").get == 1
    connection.close()
    assert version(path) == len(scripts)
    open_writer(path, scripts).close()


def test_bringing_a_store_up_to_date_is_told_before_and_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "store.db"
    caplog.set_level("INFO")
    open_writer(path, migrations()[:1]).close()
    assert caplog.messages == []
    open_writer(path, migrations()).close()
    before, after = caplog.messages
    assert f"bringing the store {path} up to date, format 1 to {len(migrations())}" in before
    assert f"the store {path} is up to date after" in after
    open_writer(path, migrations()).close()
    assert len(caplog.messages) == 2


def test_who_finds_the_store_locked_is_told_that_it_may_be_being_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    holding, waiting = open_writer(path, migrations()[:1]), open_writer(path, migrations()[:1])
    waiting.set_busy_timeout(0)
    holding.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(StoreUnusable, match=r"may be bringing it up to date.*Otherwise find out which"),
        explained(path),
    ):
        waiting.execute("BEGIN IMMEDIATE")
    holding.close()
    waiting.close()


def test_migrations_are_numbered_one_after_the_other() -> None:
    """Two with one number would be taken in another order by a store that had the later of them first."""
    folder = files("xdr_mcp.store.sqlite") / "migrations"
    numbers = sorted(int(entry.name.partition("_")[0]) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    assert numbers == list(range(1, len(migrations()) + 1))


async def test_a_store_whose_values_had_numbers_finds_its_alerts_by_their_values(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    host = Entity(EntityKind.HOST, 'Web 01\'s "copy".example.com')
    old = open_writer(path, migrations()[:3])
    made = Page((record("4711", START, title="Ransom note", entities=(host,)), record("2", START)), START)
    save_page(old, prepare(made), source="model", lease="", now=START)
    old.close()
    async with open_store(path) as store:
        quoted = host.value.replace('"', r"\"")
        for text in ("id:4711", "host:web*", "entity:*copy*", f'host:"{quoted}"', "ransom", "host:*", "4711"):
            (found,) = (await store.find(parse(text, now=START), 9)).alerts
            assert found.vendor_id == "4711", text
        assert await store.count(parse("status:new or status:unknown", now=START)) == 2
        assert await store.values("host", "web", 9) == ('Web 01\'s "copy"', host.value)


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_writer(path, migrations()).close()
    with pytest.raises(apsw.SQLError):
        open_writer(path, (*migrations(), "CREATE TABLE later (x)", "CREATE TABLE broken (x); SELECT no_such"))
    assert version(path) == len(migrations())
    connection = open_writer(path, (*migrations(), "CREATE TABLE later (x)"))
    assert connection.table_exists("main", "later")
    assert not connection.table_exists("main", "broken")
    connection.close()


async def test_a_store_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_writer(path, (*migrations(), "CREATE TABLE later (x)")).close()
    assert "newer xdr-mcp" in await refused(path)
    assert version(path) == len(migrations()) + 1


async def test_a_store_that_a_newer_program_upgrades_meanwhile_is_written_no_more(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        await fill(store, 1)
        open_writer(path, (*migrations(), "CREATE TABLE later (x)")).close()
        with pytest.raises(StoreUnusable, match="Restart"):
            await fill(store, 2)
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*) FROM alerts").get == 1
    connection.close()


@pytest.mark.parametrize("opened_before", [True, False])
@pytest.mark.parametrize("change", ["CREATE TABLE later (x)", "DROP TABLE alerts", "UPDATE changes SET body = x'00'"])
async def test_a_store_that_a_newer_program_upgrades_meanwhile_is_read_no_more(
    tmp_path: Path, change: str, *, opened_before: bool
) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        await fill(store, 1)
        questions = (
            lambda: store.find(Query(), 1),
            lambda: store.find(parse("title:al*", now=START), 1),
            lambda: store.changes(0, 9),
            lambda: store.get("model/0"),
        )
        if opened_before:
            for ask in questions:
                assert await ask()
        open_writer(path, (*migrations(), change)).close()
        for ask in questions * 2:
            with pytest.raises(StoreUnusable, match="Restart"):
                await ask()


def test_a_reader_asks_for_the_format_only_when_something_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    writer = open_writer(path, migrations())
    reader = Reader(path, len(migrations()))
    asked: list[str] = []

    def read(connection: apsw.Connection) -> object:
        connection.exec_trace = lambda _cursor, text, _bindings: not asked.append(text)  # type: ignore[func-returns-value]
        return connection.execute("SELECT count(*) FROM alerts").get

    for _ in range(5):
        reader(read)
    assert sum("user_version" in text for text in asked) == 1
    writer.execute("INSERT INTO positions VALUES ('a', 1)")
    for _ in range(5):
        reader(read)
    assert sum("user_version" in text for text in asked) == 2
    reader.close()
    writer.close()


# ------------------------------------------------------------------------------------------------ what can be wrong


async def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    text = b"this is my diary\n" * 1_000
    path.write_bytes(text)
    assert "is not a database" in await refused(path)
    assert path.read_bytes() == text


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE bookmarks (x)")
    connection.close()
    assert "another program" in await refused(path)


async def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    assert "cannot be opened" in await refused(tmp_path)


async def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert "Choose a folder" in await refused(tmp_path / "data" / "store.db")


async def test_a_damaged_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        await fill(store, 2_000)
    body = path.read_bytes()
    path.write_bytes(body[:16_384] + bytes(b ^ 0xFF for b in body[16_384:]))
    assert "is damaged" in await refused(path)


async def test_a_file_that_was_cut_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        await fill(store, 2_000)
    os.truncate(path, 16_384 * 2)
    assert "is damaged" in await refused(path)


_OPEN_AS_NOBODY = """
import os, sys
import anyio
from xdr_mcp.errors import StoreUnusable
from xdr_mcp.store import open_store

async def main():
    async with open_store(sys.argv[2]):  # has everything imported that nobody could not read
        pass
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        async with open_store(sys.argv[1]):
            print("opened")
    except StoreUnusable as error:
        print(error)

anyio.run(main)
"""


@pytest.mark.parametrize("mode", [0o400, 0o000])
async def test_a_file_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path, mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store.db")
        async with open_store(path) as store:
            await fill(store, 1)
        path.chmod(mode)
        Path(folder).chmod(0o755)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        command = [sys.executable, "-c", _OPEN_AS_NOBODY, str(path), str(tmp_path / "other.db")]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout  # noqa: ASYNC221
    assert str(path) in told
    assert "user who runs xdr-mcp" in told


# ------------------------------------------------------------------------------------------------ the engine


@pytest.mark.parametrize("number", ["3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.2"])
def test_an_sqlite_that_can_lose_commits_is_refused(number: str) -> None:
    with pytest.raises(StoreUnusable, match="apsw"):
        refuse_sqlite(number)


@pytest.mark.parametrize("number", ["3.44.6", "3.50.7", "3.51.3", "3.52.0", "4.0.0", apsw.sqlite_lib_version()])
def test_an_sqlite_that_was_mended_is_taken(number: str) -> None:
    refuse_sqlite(number)


def test_opening_a_store_loads_no_server_and_no_http(tmp_path: Path) -> None:
    program = (
        "import sys, anyio\nfrom xdr_mcp.store import open_store\n"
        "async def main():\n    async with open_store(sys.argv[1]): pass\n"
        "anyio.run(main)\nprint(sorted({'mcp', 'httpx', 'sqlite3', 'lark'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store.db")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip() == "[]"
