"""The answers that docs/tools.md shows: a small store, asked by a real client. ``python tests/tool_examples.py`` writes them anew."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from mcp import Client
from serving import NOON, Clock, a_server, poller_of, report, save

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import ContextItems, Window

GUIDE = Path(__file__).parent.parent / "docs" / "tools.md"
EXAMPLE = re.compile(r"^```jsonc\n// (\w+) (\{.*?\})\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A call, as a comment, and the data of its answer."""

HOUR = timedelta(hours=1)
HOST, USER, IP = EntityKind.HOST, EntityKind.USER, EntityKind.IP


class Vendor:
    """Tells more about any alert."""

    name = "xdr"
    idle_reason = ""
    context_parts: Sequence[str] = ("events", "assets", "intelligence")

    async def context(self, vendor_id: str, part: str, limit: int) -> ContextItems:
        del vendor_id, limit
        return {
            "events": ContextItems(
                (
                    {
                        "id": "e-2",
                        "time": "2026-03-01T11:41:07Z",
                        "name": "network connection",
                        "destination": "203.0.113.9:443",
                    },
                    {"id": "e-1", "time": "2026-03-01T11:40:58Z", "name": "process start", "process": "powershell.exe"},
                ),
                14,
            ),
            "assets": ContextItems(({"id": "a-7", "name": "web-01", "type": "host", "status": "NOT_CONTAINED"},), 1),
            "intelligence": ContextItems(({"id": "i-3", "value": "203.0.113.9", "verdict": "malicious"},), 1),
        }[part]


def alert(vendor_id: str, title: str, minutes: int, entities: Sequence[tuple[EntityKind, str]], **told: Any) -> Alert:
    """So many minutes before noon."""
    created = NOON - timedelta(minutes=minutes)
    usual: dict[str, Any] = {
        "source": "xdr",
        "severity": Severity.LOW,
        "status": Status.NEW,
        "created": created,
        "updated": created,
    }
    about = tuple(Entity(kind, value) for kind, value in entities)
    return Alert(**usual | {"vendor_id": vendor_id, "title": title, "entities": about} | told)


def scan(number: int) -> Alert:
    title = f"Port scan from 198.51.100.{number}: {100 + 7 * number} ports"
    return alert(f"C-{300 + number}", title, 60 + number, [(HOST, "fw-01")], rule_id="NET-3010")


CRADLE = alert(
    "A-17",
    "PowerShell download cradle",
    20,
    [(HOST, "web-01"), (USER, "alice"), (IP, "203.0.113.9")],
    severity=Severity.HIGH,
    rule_id="EDR-2044",
    risk_score=80,
    description="An encoded command fetched a script.",
    attacks=(Attack(technique="T1059.001", technique_name="PowerShell", tactic="TA0002", tactic_name="Execution"),),
    labels=("case:77",),
)
DUMP = alert(
    "A-18",
    "Credentials read from LSASS",
    12,
    [(HOST, "web-01"), (USER, "alice")],
    severity=Severity.CRITICAL,
    rule_id="EDR-2005",
    labels=("case:77",),
)
BEACON = alert("A-16", "Beacon to a new domain", 95, [(HOST, "db-02"), (IP, "203.0.113.9")], rule_id="NET-3001")
TRAVEL = alert("M-5", "Impossible travel", 200, [(USER, "alice@example.com")], source="graph", severity=Severity.MEDIUM)


@asynccontextmanager
async def example_client(folder: Path) -> AsyncIterator[Client]:
    """A client of a server that has polled for a while: one source has a gap, the other fails since an hour."""
    clock = Clock(NOON - 3 * HOUR)
    async with a_server(folder, TRAVEL, clock=clock, contexts={"xdr": Vendor()}) as (server, store):
        clock.now = NOON - timedelta(minutes=1)
        lease = await poller_of(store, "xdr")
        await store.cover("xdr", Window(NOON - 72 * HOUR, NOON - 7 * HOUR), lease)
        await store.cover("xdr", Window(NOON - 5 * HOUR, clock.now), lease)
        await store.cover("graph", Window(NOON - 72 * HOUR, NOON - HOUR), await poller_of(store, "graph"))
        await report(store, "ok", "xdr", last_success=clock.now)
        await report(store, "failing", "graph", last_success=NOON - HOUR, last_error="503 Service Unavailable")
        await save(store, *map(scan, range(24, 0, -1)), BEACON, CRADLE, DUMP)
        closed = {name: getattr(TRAVEL, name) for name in TRAVEL.__struct_fields__ if name != "id"}
        await save(store, Alert(**closed | {"status": Status.RESOLVED, "assignee": "bob", "updated": NOON - HOUR}))
        clock.now = NOON
        async with Client(server.mcp) as client:
            yield client


async def answers(calls: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The data that each call is answered with, in this order."""
    told = []
    with TemporaryDirectory() as folder:
        async with example_client(Path(folder)) as client:
            for tool, arguments in calls:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                told.append(result.structured_content or {})
    return told


def calls_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls that the guide shows."""
    return [(tool, json.loads(arguments)) for tool, arguments, _ in EXAMPLE.findall(text)]


def shown(value: Any, indent: str = "") -> str:
    """JSON with a member a line, and an object that fits on a line on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(flat) + len(indent) <= 130:
        return flat
    inner = f"{indent}  "
    if isinstance(value, dict):
        items = [f"{inner}{json.dumps(name)}: {shown(item, inner)}" for name, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{shown(item, inner)}" for item in value) + f"\n{indent}]"


async def renewed(text: str) -> str:
    """The guide with the answers of today. How far the picture reaches is the same in all, and shown once."""
    calls = calls_in(text)
    told = iter(await answers(calls))
    number = count()

    def example(found: re.Match[str]) -> str:
        answer = next(told)
        if next(number):
            answer = {name: value for name, value in answer.items() if name not in {"coverage", "seq"}}
        return f"```jsonc\n// {found[1]} {found[2]}\n{shown(answer)}\n```"

    return EXAMPLE.sub(example, text)


async def rewrite() -> None:
    """Put the answers of today into the guide."""
    GUIDE.write_text(await renewed(GUIDE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    anyio.run(rewrite)
