"""The guide that this project began with, claim by claim, under the names it uses; reached through ``xdr-mcp poll``."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from program import Running, finished, running, simulated
from truth import Vendor

SECRET = "correct-horse-battery/staple+7"
DUMMY = "dev-dummy-token"
NAME = re.compile(r"alert_(?P<id>.+)-[0-9a-f]{12}_(?P<timestamp>\d{8}T\d{6}\.\d{6}Z)(?:-r\d+)?\.json")
PROMPTLY = 2.0 + 1.0
"""Seconds for an end in order: two, and one for a busy machine."""
QUIET = 1.0
"""Seconds without a connection that are taken for never: ten polls."""


@contextmanager
def polling(*arguments: str, folder: Path, url: str = "", token: str = SECRET, **variables: str) -> Iterator[Running]:
    """The poller as a service in ``folder``, with the guide's variables and no other, and the command line's options."""
    told = {"XDR_BASE_URL": url, "XDR_AUTH_TOKEN": token, "XDR_POLL_INTERVAL": "1", **variables}
    with running("poll", *arguments, folder=folder, env=told) as poller:
        yield poller


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "alerts").rglob("alert_*")}


# ---------------------------------------------------------------- configuration


def test_the_variables_of_the_guide_are_taken_and_do_what_they_say(tmp_path: Path) -> None:
    with simulated("--token", SECRET, "--alerts", "40", folder=tmp_path) as url:
        variables = {"XDR_POLL_INTERVAL": "30", "XDR_POLL_ENABLED": "true", "XDR_MAX_ALERTS_PER_POLL": "7"}
        with polling("--debug", folder=tmp_path, url=url, **variables) as poller:
            poller.wait_for(r"polling every 30s")
            poller.wait_for(r"GET .*page\[limit\]=7 ")
            assert int(poller.wait_for(r"xdr: (\d+) new")[1]) >= 40  # the size of a request, not of a poll
            assert poller.stop() == 0
    told = "".join(poller.lines)
    for line in (
        f"XDR_BASE_URL={url} (environment)",
        "XDR_AUTH_TOKEN=set (environment)",
        "XDR_POLL_INTERVAL=30s (environment)",
        "XDR_POLL_ENABLED=true (environment)",
        "XDR_MAX_ALERTS_PER_POLL=7 (environment)",
    ):
        assert line in told
    assert "is not a setting" not in told


def test_polling_that_is_not_enabled_is_refused_with_the_reason(tmp_path: Path) -> None:
    found = finished("poll", folder=tmp_path, XDR_AUTH_TOKEN=DUMMY, XDR_POLL_ENABLED="false")
    assert found.returncode == 2
    assert "XDR_POLL_ENABLED" in found.stderr


def test_the_command_line_of_the_guide_is_taken_and_wins(tmp_path: Path) -> None:
    with simulated("--token", SECRET, "--alerts", "10", folder=tmp_path) as url:
        options = ("--interval", "60", "--base-url", url, "--auth-token", SECRET)
        with polling(*options, folder=tmp_path, url="http://127.0.0.1:9", token="wrong") as poller:
            poller.wait_for("polling every 60s")
            poller.wait_for("xdr: 1[0-9] new")
            assert poller.stop() == 0


# ---------------------------------------------------------------- persistence


def test_each_alert_is_a_file_in_alerts_in_the_working_directory(tmp_path: Path) -> None:
    with simulated("--token", SECRET, "--alerts", "20", folder=tmp_path) as url, Vendor(url) as vendor:
        vendor.calm()
        with polling(folder=tmp_path, url=url) as poller:
            poller.wait_for("xdr: 2[0-9] new")
            assert poller.stop() == 0
        done = finished("poll", "--once", folder=tmp_path, XDR_BASE_URL=url, XDR_AUTH_TOKEN=SECRET)
        assert done.returncode == 0, done.stderr
        truth = vendor.newest_versions()
    named = [NAME.fullmatch(name) for name in files(tmp_path)]
    assert all(named)
    assert {name["id"] for name in named if name} == set(truth)
    for name, content in files(tmp_path).items():
        held = json.loads(content)
        assert held["raw"]["id"] in name
        assert held["alert"]["title"]
        assert held["provenance"]["source"] == "xdr"


def test_what_was_processed_is_not_processed_again_after_a_restart(tmp_path: Path) -> None:
    with simulated("--token", SECRET, "--alerts", "20", folder=tmp_path) as url, Vendor(url) as vendor:
        vendor.calm()
        done = finished("poll", "--once", folder=tmp_path, XDR_BASE_URL=url, XDR_AUTH_TOKEN=SECRET)
        assert re.search(r"xdr: 2\d new", done.stdout), done.stderr
        before = files(tmp_path)
        for _ in range(2):
            with polling("--debug", folder=tmp_path, url=url) as poller:
                poller.wait_for(r"xdr: 0 new, 0 changed, \d+ known")
                assert poller.stop() == 0
    assert files(tmp_path) == before


# ---------------------------------------------------------------- development mode


@pytest.mark.parametrize("arguments", [("poll",), ("poll", "--once"), ("serve", "--http", "--port", "0")], ids=" ".join)
def test_in_development_the_service_runs_and_nobody_is_called(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(QUIET)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        told = {"XDR_BASE_URL": url, "XDR_AUTH_TOKEN": DUMMY, "XDR_POLL_INTERVAL": "0.1"}
        with running(*arguments, folder=tmp_path, env=told) as service:
            service.wait_for("development mode: .* never called")
            with pytest.raises(TimeoutError):
                listening.accept()
            assert (service.process.poll() is None) == ("--once" not in arguments)
            assert service.stop() == 0 if "--once" not in arguments else service.process.wait(PROMPTLY) == 0
    status = finished("status", folder=tmp_path)
    assert "xdr development" in status.stdout


def test_with_any_other_token_the_vendor_is_called(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with polling(folder=tmp_path, url=url, token="not-the-dummy"):
            listening.accept()[0].close()


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "at rest"),
        (signal.SIGTERM, "at rest"),
        (signal.SIGTERM, "between pages"),
        (signal.SIGINT, "while the vendor does not answer"),
    ],
)
def test_a_signal_ends_it_promptly_with_0_and_leaves_whole_files(
    moment: str, number: signal.Signals, tmp_path: Path
) -> None:
    reached = {
        "at rest": r"xdr: \d+ new",
        "between pages": r"page\[offset\]=[1-9].*filter",
        "while the vendor does not answer": r"GET .* sort=",
    }
    vices = {"while the vendor does not answer": "stall:1:60s"}
    world = ("--token", SECRET, "--alerts", "300", "--seed", "7", "--faults", vices.get(moment, ""))
    more = {"XDR_MAX_ALERTS_PER_POLL": "20", "XDR_REQUESTS_PER_MINUTE": "60000", "XDR_INITIAL_LOOKBACK": "7d"}
    with simulated(*world, folder=tmp_path) as url, Vendor(url) as vendor:
        with polling("--debug", folder=tmp_path, url=url, **more) as poller:
            poller.wait_for(reached[moment])
            poller.process.send_signal(number)
            assert poller.process.wait(PROMPTLY) == 0
        assert all(json.loads(content)["raw"]["id"] in name for name, content in files(tmp_path).items())
        vendor.calm()
        done = finished("poll", "--once", folder=tmp_path, XDR_BASE_URL=url, XDR_AUTH_TOKEN=SECRET, **more)
        assert done.returncode == 0, done.stderr
        identifiers = {json.loads(content)["raw"]["id"] for content in files(tmp_path).values()}
        assert identifiers == set(vendor.newest_versions())


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("vice", ["5xx", "401", "429-seconds", "reset"])
def test_it_goes_on_in_spite_of_the_api_s_errors(vice: str, tmp_path: Path) -> None:
    with (
        simulated("--token", SECRET, "--alerts", "20", "--faults", f"{vice}:1", folder=tmp_path) as url,
        Vendor(url) as vendor,
        polling(folder=tmp_path, url=url, XDR_MAX_RETRIES="0", XDR_POLL_INTERVAL="0.1") as poller,
    ):
        poller.wait_for(r"WARNING .*\(failure 2; next in")
        vendor.calm()
        poller.wait_for(r"xdr: 2\d new")
        assert poller.stop() == 0


# ---------------------------------------------------------------- debug mode


def secrets_in_any_form() -> list[str]:
    return [SECRET, quote(SECRET, safe=""), quote(SECRET), base64.b64encode(SECRET.encode()).decode().rstrip("=")]


@pytest.mark.parametrize("by", ["environment", "command line", "file"])
def test_debug_shows_what_happens_and_never_the_token(by: str, tmp_path: Path) -> None:
    if by == "file":
        (tmp_path / ".env").write_text(f"XDR_AUTH_TOKEN={SECRET}\n", "ascii")
    given = ("--auth-token", SECRET) if by == "command line" else ()
    with simulated("--token", SECRET, "--alerts", "5", folder=tmp_path) as url, Vendor(url) as vendor:
        options = {"token": SECRET if by == "environment" else "", "XDR_MAX_RETRIES": "0"}
        with polling("--debug", *given, folder=tmp_path, url=url, **options) as poller:
            poller.wait_for(r"DEBUG .*XDR_BASE_URL=http")  # configuration
            poller.wait_for(r"DEBUG .*reading what changed from .* to now")  # steps
            poller.wait_for(r"DEBUG .*GET .*/alerts sort=-updatedAt")  # requests
            poller.wait_for(r"DEBUG .*connection connect tcp complete")  # the connection's state
            poller.wait_for(r"DEBUG .*/alerts → 200, \d+ bytes, \d+ ms")  # responses
            poller.wait_for(r"DEBUG .*a page of \d+ alerts")  # steps
            poller.wait_for(r"DEBUG .*wrote alert_\S+\.json: created \w+ \w+ xdr/")  # alert details
            httpx.post(f"{url.partition('/xdr-alert')[0]}/_sim/faults", json={"vices": "401:1"}, trust_env=False)
            poller.wait_for(r"WARNING .*failure 1; next in")  # failures
            vendor.calm()
            poller.wait_for(r"/alerts → 200")
            assert poller.stop() == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".env")
    for secret in secrets_in_any_form():
        assert secret not in "".join(poller.lines)
        assert secret.encode() not in kept
