from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process
from mcp import StdioServerParameters
from processes import a_process, ended_in_order, receive
from serving import BOUND, ERAS, an_alert, data_of, fenced_in, save, watching

from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

RECENT = "xdr://alerts/recent"


def _command(folder: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("process.py")), str(folder / "xdr.db"), "stdio"]


@pytest.mark.parametrize("era", ERAS)
async def test_clients_of_both_eras_call_and_are_told_over_stdio(era: str, tmp_path: Path) -> None:
    program, *arguments = _command(tmp_path)
    async with (
        open_store(tmp_path / "xdr.db") as store,
        watching(StdioServerParameters(command=program, args=arguments), era, [RECENT]) as (client, updates),
    ):
        assert data_of(await client.call_tool("list_alerts", {}))["total"] == 0
        await save(store, an_alert(1))
        assert await updates.next() == RECENT
        assert data_of(await client.call_tool("list_alerts", {}))["total"] == 1


@asynccontextmanager
async def _initialized(folder: Path, version: str = "2025-11-25", stubborn: str = "") -> AsyncIterator[Process]:
    """The server's process, after it answered."""
    parameters = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
    async with a_process(*_command(folder), *filter(None, [stubborn])) as process:
        assert process.stdin
        await process.stdin.send(json.dumps(initialize).encode() + b"\n")
        with anyio.fail_after(4 * BOUND):
            answer = await receive(process.stdout)
        assert json.loads(answer.splitlines()[-1])["id"] == 1
        yield process


async def test_a_client_from_before_structured_content_gets_the_data_as_text(tmp_path: Path) -> None:
    async with open_store(tmp_path / "xdr.db") as store:
        await save(store, an_alert(1))
    async with _initialized(tmp_path, "2025-03-26") as process:
        assert process.stdin
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_alerts", "arguments": {}}}
        for message in ({"jsonrpc": "2.0", "method": "notifications/initialized"}, call):
            await process.stdin.send(json.dumps(message).encode() + b"\n")
        with anyio.fail_after(BOUND):
            result = json.loads(await receive(process.stdout))["result"]
    assert result["structuredContent"] == {"as_text": True}
    (content,) = result["content"]
    (told,) = fenced_in(content["text"])
    assert json.loads(told)["alerts"][0]["id"] == an_alert(1).id


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_ends_it_in_order_while_it_waits_for_input(number: signal.Signals, tmp_path: Path) -> None:
    async with _initialized(tmp_path) as process:
        process.send_signal(number)
        await ended_in_order(process)


async def test_a_second_signal_ends_it_where_it_stands(tmp_path: Path) -> None:
    async with _initialized(tmp_path, stubborn="stubborn") as process:
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(BOUND):
            while b"still here" not in await receive(process.stderr):
                pass  # what else it says
        process.send_signal(signal.SIGINT)
        with anyio.fail_after(BOUND):
            assert await process.wait() == 128 + signal.SIGTERM


async def test_what_hangs_cannot_keep_a_process_that_was_asked_to_stop(tmp_path: Path) -> None:
    async with _initialized(tmp_path, stubborn="stubborn") as process:
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(BOUND):
            assert await process.wait() == 0


async def test_the_end_of_input_ends_it_in_order(tmp_path: Path) -> None:
    async with _initialized(tmp_path) as process:
        assert process.stdin
        await process.stdin.aclose()
        await ended_in_order(process)
