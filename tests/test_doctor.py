from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from model_vendor import record
from program import TOKEN, running, simulated

from xdr_mcp.cli import main
from xdr_mcp.interfaces import DeadLetter, Health, Page, Quarantined, Store, Window
from xdr_mcp.store import open_store

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("XDR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulated vendor with a few alerts."""
    with simulated("--alerts", "10", folder=tmp_path_factory.mktemp("vendor")) as url:
        yield url


class Told:
    """What doctor said."""

    def __init__(self, **variables: str) -> None:
        found = CliRunner().invoke(main, ["doctor", "--json"], env=variables)
        self.exit_code = found.exit_code
        self.text = found.output
        self.whole: dict[str, Any] = json.loads(found.stdout)

    def __call__(self, part: str, tried: str) -> dict[str, Any]:
        """The finding of one check."""
        found = [each for each in self.whole["findings"] if each["part"] == part and tried in each["tried"]]
        assert found, f"no check of {part} that tried to {tried}: {self.text}"
        finding: dict[str, Any] = found[-1]
        return finding


def fill(folder: Path, *, covered: bool = True, **health: Any) -> None:
    async def save() -> None:
        async with open_store(folder / ".xdr-mcp" / "xdr-mcp.db") as store:
            await _fill(store, covered=covered, **health)

    anyio.run(save)


async def _fill(store: Store, *, covered: bool, **health: Any) -> None:
    lease = await store.acquire("poll:xdr", "test:1:a", timedelta(minutes=1))
    assert lease is not None
    page = Page((record("one", NOW, source="xdr"),), NOW, (Quarantined(b"{", "it is cut short"),))
    await store.save("xdr", page, lease)
    if covered:
        await store.cover("xdr", Window(NOW - timedelta(hours=3), NOW), lease)
    told: dict[str, Any] = {"state": "ok", "last_success": NOW} | health
    await store.report("xdr", Health(**told), lease)


def test_with_nothing_configured_it_says_what_to_set_and_makes_nothing(tmp_path: Path) -> None:
    told = Told()
    assert told.exit_code == 1
    options = told("xdr", "read its options")
    assert options["outcome"] == "fail"
    assert "XDR_BASE_URL" in options["found"]
    assert told("store", "open")["outcome"] == "warn"
    assert list(tmp_path.iterdir()) == []


def test_when_all_is_well_nothing_fails_and_it_ends_with_0(tmp_path: Path, vendor: str) -> None:
    settings = {"XDR_BASE_URL": vendor, "XDR_AUTH_TOKEN": TOKEN}
    with running("poll", folder=tmp_path, env=settings) as poller:
        poller.wait_for(r"\d+ new")
        told = Told(**settings)
        poller.stop()
    assert told.exit_code == 0, told.text
    assert told.whole["counts"]["fail"] == 0
    for part, tried in (
        ("configuration", "read the settings"),
        ("disk", str(tmp_path / "alerts")),
        ("store", "SQLite's version"),
        ("store", "integrity"),
        ("store", "write-ahead log"),
        ("archive", "compare"),
        ("xdr", "cheapest call"),
        ("xdr", "clock"),
        ("xdr", "limits"),
        ("xdr", "how polling goes"),
        ("xdr", "gaps"),
    ):
        assert told(part, tried)["outcome"] == "ok", told.text


def test_it_tells_where_each_setting_came_from_and_no_secret(tmp_path: Path, vendor: str) -> None:
    (tmp_path / ".env").write_text(f"XDR_AUTH_TOKEN={TOKEN}\n")
    told = Told(XDR_BASE_URL=vendor)
    chosen = {each["variable"]: (each["shown"], each["origin"]) for each in told.whole["settings"]}
    assert chosen["XDR_AUTH_TOKEN"] == ("set", ".env")
    assert chosen["XDR_BASE_URL"] == (vendor, "environment")
    assert chosen["XDR_POLL_INTERVAL"] == ("60s", "default")
    assert TOKEN not in told.text


def test_a_refused_credential_fails_with_a_remedy(vendor: str) -> None:
    told = Told(XDR_BASE_URL=vendor, XDR_AUTH_TOKEN="no-such-token-here")
    assert told.exit_code == 1
    assert told("xdr", "cheapest call")["outcome"] == "fail"
    assert "token" in told("xdr", "cheapest call")["remedy"]


def test_a_vendor_out_of_reach_fails_with_another_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told = Told(XDR_BASE_URL=f"http://127.0.0.1:{port}", XDR_AUTH_TOKEN=TOKEN, XDR_MAX_RETRIES="0")
    assert told("xdr", "cheapest call")["outcome"] == "fail"
    assert "network" in told("xdr", "cheapest call")["remedy"]


def test_development_is_a_warning() -> None:
    told = Told(XDR_BASE_URL="https://xdr.example", XDR_AUTH_TOKEN="dev-dummy-token")
    assert told.exit_code == 0
    assert "development" in told("xdr", "cheapest call")["found"]


def test_a_poll_interval_beyond_the_daily_limit_is_warned_about_with_one_that_fits(vendor: str) -> None:
    told = Told(XDR_BASE_URL=vendor, XDR_AUTH_TOKEN=TOKEN, XDR_POLL_INTERVAL="30", XDR_REQUESTS_PER_DAY="2000")
    assert told("xdr", "limits")["outcome"] == "warn"
    assert told("xdr", "limits")["remedy"] == "set XDR_POLL_INTERVAL=44s"


def test_a_typing_error_and_polling_switched_off_are_warned_about() -> None:
    told = Told(XDR_POL_INTERVAL="5", XDR_POLL_ENABLED="false", XDR_AUTH_TOKEN="dev-dummy-token")
    warned = [each["found"] for each in told.whole["findings"] if each["part"] == "configuration"]
    assert any("XDR_POLL_INTERVAL" in line for line in warned)
    assert "XDR_POLL_ENABLED is false" in warned


def test_an_unknown_source_type_fails_without_hiding_the_rest() -> None:
    told = Told(XDR_SOURCES="nobody")
    assert told.exit_code == 1
    assert told("nobody", "read its options")["outcome"] == "fail"
    assert told("store", "SQLite's version")["outcome"] == "ok"


def test_a_damaged_store_fails_without_hiding_the_rest(tmp_path: Path) -> None:
    (tmp_path / ".xdr-mcp").mkdir()
    (tmp_path / ".xdr-mcp" / "xdr-mcp.db").write_bytes(b"no database" * 1000)
    told = Told(XDR_AUTH_TOKEN="dev-dummy-token", XDR_BASE_URL="https://xdr.example")
    assert told.exit_code == 1
    assert told("store", "open")["outcome"] == "fail"
    assert told("xdr", "read its options")["outcome"] == "ok"


def test_damage_inside_the_store_is_found(tmp_path: Path) -> None:
    fill(tmp_path)
    file = tmp_path / ".xdr-mcp" / "xdr-mcp.db"
    content = bytearray(file.read_bytes())
    page = 16_384
    for start in range(3 * page, len(content), page):  # leave the first pages, so that it opens
        content[start : start + 64] = b"\xff" * 64
    file.write_bytes(content)
    told = Told(XDR_AUTH_TOKEN="dev-dummy-token", XDR_BASE_URL="https://xdr.example")
    assert told.exit_code == 1
    assert "fail" in {each["outcome"] for each in told.whole["findings"] if each["part"] == "store"}


def test_a_folder_that_cannot_be_written_fails_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    told = Told(XDR_ALERTS_DIR=str(tmp_path / "taken"))
    assert told("disk", "taken")["outcome"] == "fail"
    assert "XDR_ALERTS_DIR" in told("disk", "taken")["remedy"]


def test_a_data_folder_open_to_others_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / ".xdr-mcp").mkdir(mode=0o755)
    (tmp_path / ".xdr-mcp").chmod(0o755)
    assert told_remedy(Told(), "disk", ".xdr-mcp").startswith("chmod 700")


def told_remedy(told: Told, part: str, tried: str) -> str:
    return str(told(part, tried)["remedy"])


def test_failing_polls_gaps_quarantine_and_dead_letters_are_told(tmp_path: Path) -> None:
    fill(
        tmp_path,
        state="failing",
        failures=7,
        last_error="503 from the vendor",
        remedy="see its status page",
        last_error_at=NOW,
        look_back=420.0,
    )

    async def worsen() -> None:
        async with open_store(tmp_path / ".xdr-mcp" / "xdr-mcp.db") as store:
            lease = await store.acquire("poll:xdr", "test:1:a", timedelta(minutes=1))
            assert lease is not None
            await store.cover("xdr", Window(NOW - timedelta(hours=9), NOW - timedelta(hours=5)), lease)
            await store.save("xdr", Page((record("late", NOW - timedelta(hours=2), source="xdr"),), NOW), lease)
            await store.bury(DeadLetter(sink="archive", seq=1, reason="its name is too long", at=NOW))

    anyio.run(worsen)
    told = Told(XDR_AUTH_TOKEN="dev-dummy-token", XDR_BASE_URL="https://xdr.example")
    polling = told("xdr", "how polling goes")
    assert polling["outcome"] == "fail"
    assert "7 failures in a row, the last: 503 from the vendor" in polling["found"]
    assert polling["remedy"] == "see its status page"
    assert "polled by test:1:a" in polling["found"]
    assert told("xdr", "time from the vendor's change")["found"].endswith("in 99 of 100; each poll reads back 420s")
    assert told("xdr", "gaps")["outcome"] == "warn"
    assert told("xdr", "quarantine")["found"].startswith("1 could not be taken")
    assert told("archive", "refused")["found"] == "1, the newest by archive, change 1: its name is too long"
    assert told("archive", "compare")["found"] == "2 changes still to write"


def test_a_sink_that_is_no_more_is_told_with_a_remedy_that_works(tmp_path: Path) -> None:
    fill(tmp_path)

    async def deliver() -> None:
        async with open_store(tmp_path / ".xdr-mcp" / "xdr-mcp.db") as store:
            await store.move("archive", 1)
            await store.move("webhook", 1)

    anyio.run(deliver)
    development = {"XDR_AUTH_TOKEN": "dev-dummy-token", "XDR_BASE_URL": "https://xdr.example"}
    finding = Told(**development)("store", "sinks that are no more")
    assert finding["outcome"] == "warn"
    assert "webhook took what came up to change 1" in finding["found"]
    command = finding["remedy"].partition("xdr-mcp ")[2].split()
    done = CliRunner().invoke(main, command, env=development)
    assert done.exit_code == 0, done.output
    assert Told(**development)("store", "sinks that are no more")["outcome"] == "ok"


def test_alerts_later_than_any_look_back_are_warned_about(tmp_path: Path) -> None:
    fill(tmp_path)
    told = Told(XDR_AUTH_TOKEN="dev-dummy-token", XDR_BASE_URL="https://xdr.example", XDR_LONGEST_LOOK_BACK="1h")
    assert told("xdr", "time from the vendor's change")["outcome"] == "ok"

    async def be_late() -> None:
        async with open_store(tmp_path / ".xdr-mcp" / "xdr-mcp.db") as store:
            lease = await store.acquire("poll:xdr", "test:1:a", timedelta(minutes=1))
            assert lease is not None
            await store.save("xdr", Page((record("late", NOW - timedelta(hours=2), source="xdr"),), NOW), lease)

    anyio.run(be_late)
    told = Told(XDR_AUTH_TOKEN="dev-dummy-token", XDR_BASE_URL="https://xdr.example", XDR_LONGEST_LOOK_BACK="1h")
    finding = told("xdr", "time from the vendor's change")
    assert finding["outcome"] == "warn"
    assert "XDR_LONGEST_LOOK_BACK" in finding["remedy"]


def test_polls_that_stopped_ending_well_are_warned_about(tmp_path: Path) -> None:
    fill(tmp_path, last_success=NOW - timedelta(hours=1))
    told = Told(XDR_AUTH_TOKEN="dev-dummy-token", XDR_BASE_URL="https://xdr.example")
    assert told("xdr", "how polling goes")["outcome"] == "warn"


def test_people_are_told_the_same_in_lines() -> None:
    found = CliRunner().invoke(main, ["doctor"], env={"XDR_SOURCES": "nobody"})
    assert found.exit_code == 1
    assert "fail nobody: read its options (XDR_NOBODY_…): " in found.stdout
    assert "     → " in found.stdout
    assert found.stdout.splitlines()[-1].endswith(" fail")
