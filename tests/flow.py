"""The whole way of an alert, as people see it: polled by a process, looked at on the command line, asked for by an assistant."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from program import PATIENCE, command, environment
from serving import fenced_in

from xdr_mcp.alert import Change
from xdr_mcp.store import open_store

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
RECORDINGS = Path(__file__).parent / "recordings"
STORE = "data/xdr-mcp.db"
ARCHIVE = "alerts"


def published(vendor: str, kind: str) -> list[dict[str, Any]]:
    """The records of one kind that the vendor's own or other people's documentation shows."""
    path = SAMPLES / f"{vendor}.jsonl"
    if not path.exists():
        pytest.skip("the vendors' published records are not on this machine (../shared/samples)")
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    records = [entry["record"] for entry in entries if entry["kind"] == kind]
    assert records
    return records


def recorded(vendor: str) -> list[dict[str, Any]]:
    """The project's own records in a vendor's shapes."""
    records = [json.loads(path.read_bytes()) for path in sorted((RECORDINGS / vendor).glob("*.json"))]
    assert records
    return records


def minutes_ago(number: float) -> str:
    """A time as vendors write it, in milliseconds."""
    moment = datetime.now(UTC) - timedelta(minutes=number)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def run(*arguments: str, folder: Path, env: Mapping[str, str]) -> CompletedProcess[str]:
    """``xdr-mcp <arguments>`` to its end, while this event loop goes on."""
    with anyio.fail_after(PATIENCE):
        done = await anyio.run_process(command(*arguments), cwd=folder, env=environment(**env), check=False)
    return CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def poll_once(folder: Path, env: Mapping[str, str]) -> str:
    """A run that must succeed; what it says of each source."""
    done = await run("poll", "--once", folder=folder, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def listed(query: str, folder: Path, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the command line finds."""
    done = await run("alerts", "--json", "--limit", "1000", query, folder=folder, env=env)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def all_changes(folder: Path) -> list[Change]:
    """Every change that the store tells."""
    async with open_store(folder / STORE) as store:
        return list(await store.changes(0, 10_000))


@asynccontextmanager
async def assistant(folder: Path, env: Mapping[str, str]) -> AsyncIterator[Client]:
    """An assistant that started the server itself, which follows what others poll."""
    program, *arguments = command("serve")
    own = environment(**env, XDR_POLL_ENABLED="false")
    with anyio.fail_after(PATIENCE):
        async with Client(StdioServerParameters(command=program, args=arguments, env=own, cwd=folder)) as client:
            yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    answer: dict[str, Any] = result.structured_content or {}
    return answer


async def read(client: Client, uri: str) -> dict[str, Any]:
    """What a resource holds."""
    content = (await client.read_resource(uri)).contents[0]
    held: dict[str, Any] = json.loads(content.text)  # type: ignore[union-attr]
    return held


async def every_row(client: Client, **arguments: Any) -> list[dict[str, Any]]:
    """All pages of ``list_alerts``."""
    page = await call(client, "list_alerts", limit=2, **arguments)
    rows: list[dict[str, Any]] = page["alerts"]
    while cursor := page.get("next_cursor"):
        page = await call(client, "list_alerts", limit=2, cursor=cursor, **arguments)
        rows += page["alerts"]
    assert len(rows) == page["total"]
    return rows


def record_in(told: dict[str, Any]) -> Any:
    """The vendor's record that an answer brings, out of its fence."""
    (inside,) = fenced_in(told["raw"])
    return json.loads(inside)


def without_what_changes(told: dict[str, Any]) -> dict[str, Any]:
    """An answer about one alert, but for what differs between two that say the same: its age, and the number of its fence."""
    return told | {"coverage": None, "raw": record_in(told)}
