"""Servers as assistants and operators run them: processes of their own, several on one store, beside a poller."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from flow import call, poll_once, read
from mcp import Client, StdioServerParameters
from program import PATIENCE, command, environment, running, settings_for, simulated
from serving import ERAS, Updates, watching
from truth import Vendor

pytestmark = pytest.mark.anyio

RECENT = "xdr://alerts/recent"
STATUS = "xdr://status"
TAKEN_OVER = 15.0
"""Seconds until another server polls after the one that did was killed: its lease at most, and a poll."""
PROMPTLY = 2.0 + 1.0
"""Seconds for an end in order: two, and one for a busy machine."""


@contextmanager
def company(folder: Path) -> Iterator[tuple[Vendor, dict[str, str]]]:
    """A simulated XDR with twenty alerts where nothing happens by itself, and the settings that poll it."""
    with simulated("--alerts", "20", folder=folder) as url, Vendor(url) as vendor:
        vendor.calm()
        yield vendor, settings_for(url, folder)


def stdio(folder: Path, env: dict[str, str]) -> StdioServerParameters:
    """What an assistant's configuration says."""
    program, *arguments = command("serve")
    return StdioServerParameters(command=program, args=arguments, env=environment(**env), cwd=folder)


@asynccontextmanager
async def told_of(target: Any, *uris: str, era: str = "auto") -> AsyncIterator[tuple[Client, Updates]]:
    with anyio.fail_after(4 * PATIENCE):
        async with watching(target, era, uris) as (client, updates):
            yield client, updates


async def next_within(seconds: float, updates: Updates) -> str:
    """The next notification, where a wait may be longer than usual."""
    with anyio.fail_after(seconds):
        while True:
            with suppress(TimeoutError):
                return await updates.next()


async def polled_by(client: Client) -> str:
    """Who polls, as the status tells it: host, process and more; empty when nobody does."""
    (source,) = (await read(client, STATUS))["sources"]
    return str(source.get("polled_by", ""))


# ---------------------------------------------------------------- where the working directory cannot be written


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write")
async def test_started_where_nothing_can_be_written_it_polls_serves_and_says_where_its_data_lies(
    tmp_path: Path,
) -> None:
    with company(tmp_path) as (vendor, settings):
        own = {name: value for name, value in settings.items() if name not in {"XDR_DATA_DIR", "XDR_ALERTS_DIR"}}
        home = {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "home" / "share")}
        async with told_of(stdio(Path("/proc"), own | home), RECENT) as (client, updates):
            while not (await call(client, "list_alerts", limit=1))["total"]:
                await updates.next()  # polling begins two seconds after the start
            status = await read(client, STATUS)
            listed = (await call(client, "list_alerts", limit=100, fields=["title"]))["alerts"]
            context = await call(client, "alert_context", id=listed[0]["id"])
        truth = vendor.newest_versions()
    share = tmp_path / "home" / "share" / "xdr-mcp"
    assert status["store"] == str(share / "xdr-mcp.db")
    assert status["archive"] == str(share / "alerts")
    assert "/proc cannot be written" in status["note"]
    assert str(share) in status["note"]
    assert {row["id"] for row in listed} == {f"xdr/{identifier}" for identifier in truth}
    assert {"events", "assets", "intelligence"} <= set(context)
    assert "failed" not in context
    assert (share / "xdr-mcp.db").is_file()
    assert (share / "xdr-mcp.db").stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- stdout


def test_stdout_carries_json_rpc_and_nothing_else(tmp_path: Path) -> None:
    """All that is logged at the most talkative, while it polls, answers, refuses and notifies."""
    parameters = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("initialize", parameters),
        ("resources/subscribe", {"uri": RECENT}),
        ("tools/list", {}),
        ("tools/call", {"name": "filter_alerts", "arguments": {"query": "severity>=hihg"}}),
        ("tools/call", {"name": "get_alert", "arguments": {"id": "nothing"}}),
        ("resources/read", {"uri": "xdr://nothing"}),
        ("no/such/method", {}),
    ]
    with (
        company(tmp_path) as (_, settings),
        subprocess.Popen(
            command("serve", "--debug"),
            cwd=tmp_path,
            env=environment(**settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert server.stdin
        assert server.stdout
        patience = threading.Timer(PATIENCE, server.kill)  # reading has no time-out of its own
        patience.start()
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(asked)
        ]
        for message in (requests[0], {"jsonrpc": "2.0", "method": "notifications/initialized"}, *requests[1:]):
            server.stdin.write(json.dumps(message) + "\n")
        server.stdin.write("this is no JSON\n")
        server.stdin.flush()
        lines = []
        try:
            while True:  # until it tells of what it polled; the pipe ends if it dies
                line = server.stdout.readline()
                assert line, server.communicate()
                lines.append(line)
                if "notifications/resources/updated" in line:
                    break
            rest, logged = server.communicate(timeout=PATIENCE)
        finally:
            patience.cancel()
            server.kill()
    messages = [json.loads(line) for line in lines + rest.splitlines()]
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    assert {message.get("id") for message in messages} >= set(range(len(asked)))
    assert "DEBUG" in logged


# ---------------------------------------------------------------- several processes on one store


async def test_of_two_servers_one_polls_and_when_it_is_killed_the_other_takes_over(tmp_path: Path) -> None:
    with (
        company(tmp_path) as (vendor, settings),
        running("serve", "--http", "--port", "0", folder=tmp_path, env=settings) as first,
    ):
        first.wait_for(r"xdr: 2\d new")
        async with told_of(stdio(tmp_path, settings), RECENT) as (client, updates):
            assert f":{first.process.pid}:" in await polled_by(client)
            assert updates.waiting() == []
            first.kill()
            vendor.burst(1)
            assert await next_within(TAKEN_OVER, updates) == RECENT
            second = await polled_by(client)
            assert f":{first.process.pid}:" not in second
            assert second
            total = (await call(client, "list_alerts", limit=1))["total"]
        assert total == len(vendor.newest_versions())


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_tells_at_once_what_another_process_polled(era: str, tmp_path: Path) -> None:
    with company(tmp_path) as (vendor, settings):
        await poll_once(tmp_path, settings)
        follower = stdio(tmp_path, {**settings, "XDR_POLL_ENABLED": "false"})
        async with told_of(follower, RECENT, era=era) as (client, updates):
            before = (await call(client, "list_alerts", limit=1))["total"]
            vendor.burst(3)
            assert "3 new" in await poll_once(tmp_path, settings)
            assert await updates.next() == RECENT  # within the bound of every wait, and not at the next look
            newest = await call(client, "list_alerts", limit=3)
            context = await call(client, "alert_context", id=newest["alerts"][0]["id"])
        assert newest["total"] == before + 3
        assert "is not polled by this process" in context["failed"]["all"]
        assert {row["id"] for row in newest["alerts"]} <= {f"xdr/{key}" for key in vendor.newest_versions()}


async def test_the_first_question_may_be_for_the_context_of_an_alert(tmp_path: Path) -> None:
    with company(tmp_path) as (_, settings):
        await poll_once(tmp_path, settings)
        async with told_of(stdio(tmp_path, settings), RECENT) as (client, _):
            (row,) = (await call(client, "list_alerts", limit=1))["alerts"]
            context = await call(client, "alert_context", id=row["id"])
    assert "failed" not in context


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_over_http_it_ends_promptly_with_streams_of_both_eras_open(
    number: signal.Signals, tmp_path: Path
) -> None:
    with (
        company(tmp_path) as (_, settings),
        running("serve", "--http", "--port", "0", folder=tmp_path, env=settings) as server,
    ):
        url = server.wait_for(r"(http://127\.0\.0\.1:\d+/mcp)")[1]
        server.wait_for(r"xdr: 2\d new")
        async with told_of(url, RECENT) as (modern, _), told_of(url, RECENT, era="legacy") as (legacy, _):
            assert (await call(modern, "list_alerts"))["total"] == (await call(legacy, "list_alerts"))["total"]
            server.process.send_signal(number)
            with anyio.fail_after(PROMPTLY):
                assert await anyio.to_thread.run_sync(server.process.wait, abandon_on_cancel=True) == 0
