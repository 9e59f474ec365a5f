from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import click
import pytest
from click.testing import CliRunner, Result
from model_vendor import record
from program import PATIENCE, TOKEN, command, environment, finished, running, simulated

from xdr_mcp.alert import Attack, Entity, EntityKind, Severity, Status
from xdr_mcp.cli import COMMANDS, EXIT_CODES, command_named, main
from xdr_mcp.interfaces import DeadLetter, Health, Page, Record, Window
from xdr_mcp.settings import Settings
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import migrations, open_writer

DOCUMENTATION = Path(__file__).parent.parent / "docs" / "command-line.md"
NOW = datetime.now(UTC).replace(microsecond=0)
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]\u202egnp.exe\u200b\r\nxdr-mcp: all is well"
DEVELOPMENT = {"XDR_AUTH_TOKEN": "dev-dummy-token"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("XDR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simulated vendor with 60 alerts."""
    with simulated("--alerts", "60", folder=tmp_path_factory.mktemp("vendor")) as url:
        yield url


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(main, arguments, env=variables)


def some_alerts() -> tuple[Record, ...]:
    return (
        record(
            "one",
            NOW - timedelta(hours=2),
            source="xdr",
            title="Ransomware behaviour",
            severity=Severity.CRITICAL,
            entities=(Entity(EntityKind.HOST, "web-01"), Entity(EntityKind.USER, "alice")),
            attacks=(Attack(technique="T1486"),),
            description="Files were encrypted.\nMany.",
        ),
        record(
            "two", NOW - timedelta(hours=1), source="xdr", title=HOSTILE, severity=Severity.LOW, status=Status.RESOLVED
        ),
    )


def fill(folder: Path, *records: Record) -> None:
    """A store with these alerts, polled a moment ago."""

    async def save() -> None:
        async with open_store(folder / ".xdr-mcp" / "xdr-mcp.db") as store:
            lease = await store.acquire("poll:xdr", "test:1:a", timedelta(minutes=1))
            assert lease is not None
            await store.save("xdr", Page(records or some_alerts(), NOW), lease)
            await store.cover("xdr", Window(NOW - timedelta(hours=9), NOW - timedelta(hours=5)), lease)
            await store.cover("xdr", Window(NOW - timedelta(hours=4), NOW), lease)
            await store.report("xdr", Health(state="ok", last_success=NOW), lease)

    anyio.run(save)


# ---------------------------------------------------------------- help


def commands() -> list[str]:
    return sorted(COMMANDS)


def test_there_is_a_command_for_everything_promised() -> None:
    promised = (
        "alerts approve audit backfill demo doctor forget-sink poll rebuild reject serve show simulate status undo"
    )
    assert commands() == promised.split()


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_that_fits_a_terminal_line_in_the_list(name: str) -> None:
    found = run(name, "--help")
    assert found.exit_code == 0
    assert "..." not in command_named(name).get_short_help_str(limit=65)


@pytest.mark.parametrize("name", commands())
def test_every_option_is_explained_there_and_in_the_documentation(name: str) -> None:
    section = DOCUMENTATION.read_text(encoding="utf-8").partition(f"\n## `xdr-mcp {name}")[2].partition("\n## ")[0]
    for parameter in command_named(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert any(f"`{spelling}" in section for spelling in parameter.opts), parameter.opts


def test_the_exit_codes_are_told_by_help_and_documentation() -> None:
    documentation = DOCUMENTATION.read_text(encoding="utf-8")
    told = run("--help").output
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in told
        assert f"| {code} | {meaning} |" in documentation


def test_the_help_of_alerts_teaches_the_query_language() -> None:
    told = " ".join(run("alerts", "--help").output.split())
    for piece in ("'severity>=high and not status:resolved'", "since:-24h", "technique", "* is the only wildcard"):
        assert piece in told


def test_looking_imports_neither_the_mcp_sdk_nor_an_http_client(tmp_path: Path) -> None:
    fill(tmp_path)
    program = (
        "import sys\nfrom xdr_mcp.cli import main\n"
        "for line in (['--help'], ['alerts'], ['status'], ['show', 'one']):\n"
        "    try: main(line)\n    except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'mcp', 'httpx', 'uvicorn', 'starlette'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_same_command(tmp_path: Path) -> None:
    found = finished("--version", folder=tmp_path)
    assert found.returncode == 0
    assert found.stdout.startswith("xdr-mcp, version ")


def test_what_mcp_json_names_is_what_we_serve() -> None:
    servers = json.loads((DOCUMENTATION.parent.parent / "mcp.json").read_text())["mcpServers"]
    assert servers["xdr"]["args"] == ["serve"]
    assert Path(servers["xdr"]["command"]).name == "xdr-mcp"
    default = Settings()
    assert servers["xdr-http"]["url"] == f"http://{default.http_host}:{default.http_port}/mcp"


# ---------------------------------------------------------------- poll


def test_poll_once_stores_and_archives_everything_that_is_due(tmp_path: Path, vendor: str) -> None:
    found = run("poll", "--once", "--base-url", vendor, "--auth-token", TOKEN)
    assert found.exit_code == 0, found.output
    listed = [json.loads(line) for line in run("alerts", "--json", "--limit", "1000").stdout.splitlines()]
    assert len(listed) >= 60
    assert found.stdout.startswith(f"xdr: {len(listed)} new")
    files = list((tmp_path / "alerts").rglob("alert_*.json"))
    assert len(files) == len(listed)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {alert["id"] for alert in listed} == {json.loads(file.read_text())["alert"]["id"] for file in files}


def test_polling_once_more_tells_nothing_twice(tmp_path: Path, vendor: str) -> None:
    options = ("poll", "--once", "--base-url", vendor, "--auth-token", TOKEN, "--alerts-dir", "elsewhere")
    assert run(*options).exit_code == 0
    files = {file.name for file in (tmp_path / "elsewhere").iterdir()}
    again = run(*options)
    assert again.exit_code == 0
    assert "xdr: 0 new, 0 changed" in again.stdout
    assert {file.name for file in (tmp_path / "elsewhere").iterdir()} == files


def test_a_backfill_reads_what_lies_before_the_first_poll(tmp_path: Path, vendor: str) -> None:
    settings = {"XDR_BASE_URL": vendor, "XDR_AUTH_TOKEN": TOKEN, "XDR_REQUESTS_PER_MINUTE": "60000"}
    first = run("poll", "--once", **settings, XDR_INITIAL_LOOKBACK="1s")
    assert first.exit_code == 0
    assert len(list((tmp_path / "alerts").glob("alert_*.json"))) < 60
    found = run("backfill", "--since", "30d", **settings)
    assert found.exit_code == 0
    assert len(list((tmp_path / "alerts").glob("alert_*.json"))) >= 60
    again = run("backfill", "--since", "30d", **settings)
    told = re.search(r"xdr: (\d+) new, (\d+) changed", again.stdout)
    assert told is not None
    assert int(told[1]) + int(told[2]) < 10  # what came or changed meanwhile, and not the history again


@pytest.mark.parametrize(("since", "told"), [("soon", "write it like"), ("2999-01-01", "not in the past")])
def test_a_backfill_from_no_time_in_the_past_ends_with_2(since: str, told: str) -> None:
    found = run("backfill", "--since", since)
    assert found.exit_code == 2
    assert told in found.output


def test_refused_credentials_end_with_3(vendor: str) -> None:
    found = run("poll", "--once", "--base-url", vendor, "--auth-token", "not-the-token-at-all")
    assert found.exit_code == 3
    assert "401" in found.stderr
    assert "Traceback" not in found.stderr
    assert "not-the-token-at-all" not in found.output


def test_a_vendor_that_cannot_be_reached_ends_with_4() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = run("poll", "--once", "--base-url", f"http://127.0.0.1:{port}", "--auth-token", TOKEN, XDR_MAX_RETRIES="0")
    assert found.exit_code == 4
    assert found.stderr.splitlines()[-1].startswith("xdr-mcp: ")


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (("poll", "--interval", "soon"), {}, "XDR_POLL_INTERVAL='soon' from the command line"),
        (("poll", "--once"), {}, "XDR_BASE_URL is not set"),
        (("poll",), {**DEVELOPMENT, "XDR_POLL_ENABLED": "false"}, "XDR_POLL_ENABLED is false"),
        (("poll", "--once"), {"XDR_SOURCES": "nobody"}, "nobody"),
        (("poll", "--base-url", "x"), {"XDR_SOURCES": "microsoft"}, "--base-url"),
        (("serve", "--http", "--host", "0.0.0.0"), DEVELOPMENT, "XDR_HTTP_TOKEN"),  # noqa: S104 (refused)
        (("simulate", "--faults", "bad-weather"), {}, "bad-weather"),
        (("simulate", "--history", "soon"), {}, "--history"),
        (("poll", "--nonsense"), {}, "--nonsense"),
    ],
)
def test_wrong_usage_and_settings_end_with_2_and_one_message(
    arguments: tuple[str, ...], variables: dict[str, str], told: str
) -> None:
    found = run(*arguments, **variables)
    assert found.exit_code == 2, found.output
    assert told in found.stderr
    assert "Traceback" not in found.output


def test_a_traceback_is_shown_on_request() -> None:
    found = run("poll", "--once", "--debug")
    assert found.exit_code == 2
    assert "Traceback" in found.stderr


def test_debugging_shows_requests_and_configuration_and_no_secret(vendor: str) -> None:
    found = run("poll", "--once", "--debug", "--base-url", vendor, "--auth-token", TOKEN)
    assert "GET " in found.stderr
    assert "XDR_BASE_URL=" in found.stderr
    assert "XDR_AUTH_TOKEN=set (command line)" in found.stderr
    assert TOKEN not in found.output


def test_polling_in_development_calls_nobody_and_says_so(tmp_path: Path) -> None:
    with running("poll", folder=tmp_path, env=DEVELOPMENT) as poller:
        poller.wait_for("development mode")
        assert poller.stop(signal.SIGTERM) == 0
    assert "xdr development" in run("status").stdout
    assert run("poll", "--once", **DEVELOPMENT).exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_polling_ends_in_order_by_one_signal(number: signal.Signals, tmp_path: Path, vendor: str) -> None:
    settings = {"XDR_BASE_URL": vendor, "XDR_AUTH_TOKEN": TOKEN}
    with running("poll", folder=tmp_path, env=settings) as poller:
        poller.wait_for(r"\d+ new")
        assert poller.stop(number) == 0
    assert "polled by nobody now" in " ".join(run("status").stdout.split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_work_ends_with_the_signal_s_number(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        silent.settimeout(PATIENCE)
        settings = {"XDR_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "XDR_AUTH_TOKEN": TOKEN}
        with running("poll", "--once", folder=tmp_path, env=settings) as poller, closing(silent.accept()[0]):
            assert poller.stop(number) == code


def test_a_typing_error_in_a_variable_is_warned_about(tmp_path: Path) -> None:
    with running("poll", folder=tmp_path, env={**DEVELOPMENT, "XDR_POL_INTERVAL": "5"}) as poller:
        poller.wait_for("XDR_POL_INTERVAL is not a setting and does nothing; did you mean XDR_POLL_INTERVAL?")
        poller.stop()


def test_logs_are_json_on_request(tmp_path: Path) -> None:
    with running("poll", folder=tmp_path, env={**DEVELOPMENT, "XDR_LOG_FORMAT": "json"}) as poller:
        line = json.loads(poller.wait_for("development mode").string)
        poller.stop()
    assert line["level"] == "warning"
    assert line["logger"] == "xdr_mcp.poller"


# ---------------------------------------------------------------- alerts and show


def test_piped_alerts_are_tab_separated_and_newest_first(tmp_path: Path) -> None:
    fill(tmp_path)
    newest, oldest = run("alerts").stdout.splitlines()
    created = (NOW - timedelta(hours=2)).isoformat().replace("+00:00", "Z")
    assert oldest.split("\t") == [
        created,
        "critical",
        "new",
        "xdr/one",
        "Ransomware behaviour",
        "web-01, alice",
        "T1486",
    ]
    assert newest.split("\t")[3] == "xdr/two"


@pytest.mark.parametrize("arguments", [("alerts",), ("alerts", "--json"), ("show", "two"), ("show", "--json", "two")])
def test_what_attackers_write_cannot_steer_the_terminal(arguments: tuple[str, ...], tmp_path: Path) -> None:
    fill(tmp_path)
    found = run(*arguments)
    assert found.exit_code == 0
    assert not set(found.stdout) & set("\x1b\x07\r\u202e\u200b")
    assert "u202e" in found.stdout
    assert "[bold red]" in found.stdout
    assert not [line for line in found.stdout.splitlines() if line.startswith("xdr-mcp: all is well")]


def test_a_terminal_is_given_a_table_and_nothing_that_steers_it(tmp_path: Path) -> None:
    fill(tmp_path)
    shown = on_a_terminal(tmp_path, "alerts")
    assert "Ransomware behaviour" in shown
    assert "2 of 2 alerts" in shown
    assert "[bold red]" in shown
    assert not [steering for steering in ("\x1b[2J", "\x1b]0;", "\u202e", "\u200b", "\x07") if steering in shown]


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """What a terminal is sent when the command's output is one."""
    import pty  # noqa: PLC0415 (not on Windows)

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(TERM="xterm", COLUMNS="200"),
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
    ):
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how a terminal says that nobody has its other end any more
            pass
        os.close(ours)
    return shown.decode()


def test_a_query_chooses_alerts_and_the_limit_how_many(tmp_path: Path) -> None:
    fill(tmp_path)
    assert "xdr/one" in run("alerts", "severity>=high", "host:web*").stdout
    assert run("alerts", "severity:medium").stdout == ""
    assert len(run("alerts", "--limit", "1").stdout.splitlines()) == 1


def test_a_bad_query_ends_with_2_and_marks_what_is_wrong(tmp_path: Path) -> None:
    fill(tmp_path)
    found = run("alerts", "sevrity>=high")
    assert found.exit_code == 2
    assert "^^^^^^^" in found.stderr
    assert "For example: severity>=high" in found.stderr


def test_without_a_store_looking_ends_with_5_and_makes_nothing(tmp_path: Path) -> None:
    for arguments in (("alerts",), ("status",), ("show", "x"), ("alerts", "--follow")):
        found = run(*arguments)
        assert found.exit_code == 5
        assert "XDR_DATA_DIR" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_no_database_ends_with_5(tmp_path: Path) -> None:
    (tmp_path / ".xdr-mcp").mkdir()
    (tmp_path / ".xdr-mcp" / "xdr-mcp.db").write_bytes(b"not a database at all, and longer than a header" * 100)
    found = run("status")
    assert found.exit_code == 5
    assert "Traceback" not in found.output


def test_show_tells_all_of_an_alert_by_its_whole_id_or_the_vendor_s(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = run("show", "xdr/one").stdout
    assert whole == run("show", "one").stdout
    for piece in ("critical", "T1486", "host      web-01", "Files were encrypted.", "Many."):
        assert piece in whole
    told = json.loads(run("show", "--json", "one").stdout)
    assert told["alert"]["title"] == "Ransomware behaviour"
    assert told["raw"]["id"] == "one"
    assert json.loads(run("show", "--raw", "one").stdout) == told["raw"]


def test_an_unknown_alert_ends_with_1(tmp_path: Path) -> None:
    fill(tmp_path)
    found = run("show", "nobody")
    assert found.exit_code == 1
    assert "no alert 'nobody'" in found.stderr


def test_following_tells_what_another_process_saves_until_ctrl_c(tmp_path: Path) -> None:
    fill(tmp_path)
    with running("alerts", "--follow", "--json", "severity>=high", folder=tmp_path) as follower:
        known = json.loads(follower.wait_for("xdr/one").string)
        assert known["change"] is None
        fill(
            tmp_path,
            record("three", NOW, source="xdr", severity=Severity.LOW),
            record("four", NOW, source="xdr", severity=Severity.HIGH),
        )
        told = json.loads(follower.wait_for("xdr/").string)
        assert (told["id"], told["change"], told["revision"]) == ("xdr/four", "created", 1)
        assert follower.stop(signal.SIGINT) == 0


def test_following_into_a_pipe_puts_what_happened_first(tmp_path: Path) -> None:
    fill(tmp_path)
    with running("alerts", "-f", folder=tmp_path) as follower:
        follower.wait_for("^known\t.*xdr/two")
        closed = record("one", NOW, source="xdr", status=Status.RESOLVED)
        fill(tmp_path, closed)
        assert follower.wait_for("xdr/one").string.startswith("closed\t")
        assert follower.stop(signal.SIGTERM) == 0


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    fill(tmp_path, *(record(str(number), NOW, source="xdr", title="x" * 500) for number in range(600)))
    with subprocess.Popen(
        command("alerts", "--limit", "600"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writer:
        assert writer.stdout
        assert writer.stderr
        writer.stdout.readline()
        writer.stdout.close()
        assert writer.stderr.read() == b""


def test_a_query_that_begins_with_a_minus_is_told_where_it_goes(tmp_path: Path) -> None:
    fill(tmp_path)
    refused = run("alerts", "-status:resolved")
    assert refused.exit_code == 2
    assert "xdr-mcp alerts -- '-status:resolved'" in refused.stderr
    assert run("alerts", "--", "-status:resolved").stdout.count("\n") == 1


def test_a_list_from_a_source_that_is_not_read_says_so_beside_the_result() -> None:
    assert run("poll", "--once", **DEVELOPMENT).exit_code == 0
    for arguments in ([], ["--json"]):
        found = run("alerts", *arguments)
        assert found.stdout == ""
        assert "xdr is development" in found.stderr


# ---------------------------------------------------------------- status


@pytest.mark.parametrize("name", ["status", "alerts", "doctor"])
def test_a_command_that_brings_an_older_store_up_to_date_says_on_stderr_what_it_waits_for(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / ".xdr-mcp").mkdir(mode=0o700)
    open_writer(tmp_path / ".xdr-mcp" / "xdr-mcp.db", migrations()[:4]).close()
    assert "up to date, format 4 to" in run(name).stderr
    assert run(name).stderr.count("up to date, format") == 0


def test_status_tells_how_polling_goes(tmp_path: Path) -> None:
    fill(tmp_path)
    told = run("status").stdout
    for piece in (
        "xdr ok",
        "alerts        2",
        "gaps ",
        "test:1:a",
        str(tmp_path / ".xdr-mcp/xdr-mcp.db"),
        "archive behind  2",
    ):
        assert piece in told
    whole = json.loads(run("status", "--json").stdout)
    (source,) = whole["sources"]
    assert source["health"]["state"] == "ok"
    assert len(source["gaps"]) == 1
    assert whole["archive_behind"] == 2


def test_status_tells_lag_look_back_the_last_error_with_its_remedy_and_dead_letters(tmp_path: Path) -> None:
    fill(tmp_path)

    async def worsen() -> None:
        async with open_store(tmp_path / ".xdr-mcp" / "xdr-mcp.db") as store:
            lease = await store.acquire("poll:xdr", "test:1:a", timedelta(minutes=1))
            assert lease is not None
            await store.save("xdr", Page((record("late", NOW - timedelta(hours=2), source="xdr"),), NOW), lease)
            error = {"last_error": "503 from the vendor", "last_error_at": NOW, "remedy": "see its status page"}
            await store.report("xdr", Health(state="failing", failures=7, look_back=420.0, **error), None)  # type: ignore[arg-type]
            await store.move("archive", 1)
            await store.bury(DeadLetter(sink="archive", seq=1, reason="its name is too long", at=NOW))

    anyio.run(worsen)
    told = " ".join(run("status").stdout.split())
    for piece in (
        "lag 2h half the time, 2h at most in 99 of 100",
        "look-back 7min",
        "last error 503 from the vendor",
        "remedy see its status page",
        "dead letters 1 ",
        "polled by test:1:a",
    ):
        assert piece in told
    whole = json.loads(run("status", "--json").stdout)
    (source,) = whole["sources"]
    assert source["lag_p50"] > 3_600
    assert source["lag_p99"] >= source["lag_p50"]
    assert source["health"]["look_back"] == 420
    assert source["health"]["remedy"] == "see its status page"
    assert source["lease"]["holder"] == "test:1:a"
    assert whole["sinks"] == [{"sink": "archive", "position": 1, "dead_letters": 1}]


# ---------------------------------------------------------------- forget-sink


def test_a_sink_that_is_fed_or_was_never_known_is_not_forgotten(tmp_path: Path) -> None:
    fill(tmp_path)

    async def deliver() -> None:
        async with open_store(tmp_path / ".xdr-mcp" / "xdr-mcp.db") as store:
            await store.move("archive", 1)
            await store.move("webhook", 1)
            assert await store.acquire("deliver:webhook", "elsewhere:1:a", timedelta(minutes=1))

    anyio.run(deliver)
    for sink, code, reason in (("archive", 2, "is fed"), ("nobody", 2, "archive, webhook"), ("webhook", 1, "stop it")):
        found = run("forget-sink", sink)
        assert (found.exit_code, reason in found.stderr) == (code, True), found.stderr
    assert len(json.loads(run("status", "--json").stdout)["sinks"]) == 2


# ---------------------------------------------------------------- serve, simulate, demo


def test_a_server_over_stdio_works_where_the_working_directory_cannot_be_written(tmp_path: Path) -> None:
    folder = Path("/proc/self") if sys.platform == "linux" else tmp_path
    home = tmp_path / "home"
    found = finished("serve", folder=folder, XDG_DATA_HOME=str(home), **DEVELOPMENT)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""
    assert f"so {home}" in found.stderr
    assert (home / "xdr-mcp" / "xdr-mcp.db").exists()


def test_a_server_without_any_setting_starts_and_tells_what_is_missing(tmp_path: Path) -> None:
    with running("serve", folder=tmp_path, stdin=subprocess.PIPE) as server:
        server.wait_for("xdr is not polled: .*XDR_BASE_URL is not set")
        assert "xdr disabled" in run("status").stdout


def test_a_server_over_http_tells_its_url_and_ends_in_order(tmp_path: Path) -> None:
    with running("serve", "--http", "--port", "0", folder=tmp_path, env=DEVELOPMENT) as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+/mcp")[0]
        server.wait_for(f"claude mcp add --transport http xdr {url}")
        assert server.stop(signal.SIGTERM) == 0


def test_a_source_of_no_known_type_does_not_keep_the_server_down(tmp_path: Path) -> None:
    env = {"XDR_SOURCES": "xdr,mystery", **DEVELOPMENT}
    with running("serve", folder=tmp_path, env=env, stdin=subprocess.PIPE) as server:
        server.wait_for("mystery is not polled: there is no source type 'mystery'")


def test_polling_once_warns_of_a_variable_that_nothing_reads(tmp_path: Path) -> None:
    found = finished("poll", "--once", folder=tmp_path, XDR_POLL_INTERVALL="20", **DEVELOPMENT)
    assert found.returncode == 0
    assert "XDR_POLL_INTERVALL is not a setting and does nothing; did you mean XDR_POLL_INTERVAL?" in found.stderr


def test_an_address_without_http_is_refused_and_not_ignored() -> None:
    refused = run("serve", "--port", "9000", **DEVELOPMENT)
    assert refused.exit_code == 2
    assert "--http, which is missing" in refused.stderr


def test_a_server_that_asks_for_a_token_tells_how_to_send_it_and_not_what_it_is(tmp_path: Path) -> None:
    secret = {"XDR_HTTP_TOKEN": "a-secret-long-enough"}
    with running("serve", "--http", "--port", "0", folder=tmp_path, env=DEVELOPMENT | secret) as server:
        told = server.wait_for(r"claude mcp add --transport http xdr .*")[0]
        assert told.endswith('--header "Authorization: Bearer $XDR_HTTP_TOKEN"')
        assert server.stop(signal.SIGTERM) == 0


def test_a_port_that_is_taken_ends_with_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run("simulate", "--port", port).exit_code == 2
        found = run("serve", "--http", "--port", port, **DEVELOPMENT)
    assert found.exit_code == 2
    assert port in found.stderr


def test_a_demo_whose_terminal_is_closed_leaves_nothing(tmp_path: Path) -> None:
    with running("demo", "--port", "0", folder=tmp_path) as demo:
        data = Path(demo.wait_for(r"xdr-mcp alerts --data-dir (\S+)")[1])
        assert demo.stop(signal.SIGHUP) == 0
    assert not data.exists()


def test_the_demo_needs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / ".env").write_text("XDR_POLL_INTERVAL=nonsense\n")
    with running("demo", "--port", "0", "--speed", "5000", folder=folder) as demo:
        demo.wait_for(r"MCP server    http://127\.0\.0\.1:\d+/mcp")
        demo.wait_for("claude mcp add --transport http xdr-demo http://")
        demo.wait_for("modelcontextprotocol/inspector")
        data = Path(demo.wait_for(r"xdr-mcp alerts --data-dir (\S+)")[1])
        demo.wait_for(r"^(created|updated|closed)\t")
        assert run("alerts", "--data-dir", str(data), "--limit", "5").stdout.count("\n") == 5
        assert demo.stop(signal.SIGINT) == 0
    assert not data.exists()
    assert [each.name for each in folder.iterdir()] == [".env"]


def test_a_server_loads_nothing_that_draws_before_it_answers() -> None:
    loaded = "import sys; from xdr_mcp.cli import command_named; command_named('serve'); print('rich' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
