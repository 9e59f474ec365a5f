"""What the tools cost an assistant, in tokens: to list, a page of 25 alerts from each, and every step of the ladder.

Run it as ``python -m bench.tokens``. The store is that of the evaluation (four tenants over four days, a flood among them), the
server and the client are the real ones, and a token is four bytes of UTF-8 of all that reaches the model: the line of text and
the structured content of an answer, and of the list everything that crosses the wire.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from mcp import Client
from mcp.types import CallToolResult

from evals.estate import connected, world

PAGE = 25
LADDER = (5_000, 1_500, 1_200, 900, 700, 500, 300, 200)
QUERY = "severity>=medium"


async def main() -> None:
    """Print three tables."""
    with TemporaryDirectory() as folder:
        async with world(Path(folder)) as here, connected(here) as client:
            await _print_list(client)
            await _print_answers(client)
            await _print_ladder(client)


async def _print_list(client: Client) -> None:
    tools = (await client.list_tools()).tools
    print("| tools/list | tokens |\n|---|---:|")
    costs = {tool.name: tokens(tool.model_dump(by_alias=True, exclude_none=True, mode="json")) for tool in tools}
    for name, cost in costs.items():
        print(f"| `{name}` | {cost:,.0f} |")
    print(f"| all {len(tools)} | {sum(costs.values()):,.0f} |\n")


async def _print_answers(client: Client) -> None:
    first = (await client.call_tool("list_alerts", {"limit": 1})).structured_content or {}
    one = first["alerts"][0]["id"]
    cases: list[tuple[str, dict[str, Any]]] = [
        ("list_alerts", {"limit": PAGE}),
        ("filter_alerts", {"query": QUERY, "limit": PAGE}),
        ("get_alert", {"id": one}),
        ("count_alerts", {"by": ["severity"]}),
        ("count_alerts", {"by": ["host"], "limit": PAGE}),
        ("alert_changes", {"since": first["seq"] - PAGE, "limit": PAGE}),
        ("wait_for_alerts", {"since": first["seq"] - 3}),
        ("related_alerts", {"id": one, "limit": PAGE}),
        ("alert_context", {"id": one}),
        ("source_status", {}),
    ]
    print("| answer | tokens | rows | alerts | reduced |\n|---|---:|---:|---:|---|")
    for name, arguments in cases:
        result = await client.call_tool(name, arguments)
        print(f"| `{name}({_said(arguments)})` | {_told(result)} |")
    print()


async def _print_ladder(client: Client) -> None:
    print("| budget | tokens | rows | alerts | reduced |\n|---:|---:|---:|---:|---|")
    for budget in LADDER:
        result = await client.call_tool("filter_alerts", {"query": QUERY, "limit": PAGE, "budget": budget})
        print(f"| {budget:,} | {_told(result)} |")


def _told(result: CallToolResult) -> str:
    data = result.structured_content or {}
    rows: list[Any] = next((data[name] for name in ("alerts", "changes", "groups", "sources") if name in data), [])
    alerts = sum(row.get("count", 1 + len(row.get("ids", ()))) for row in rows)
    text = "".join(part.text for part in result.content if part.type == "text")
    cost = tokens(data) + len(text.encode()) / 4
    return f"{cost:,.0f} | {len(rows)} | {alerts} | {data.get('reduced', '')}"


def _said(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value if name != 'id' else '…'}" for name, value in arguments.items())


def tokens(value: object) -> float:
    """Bytes of compact JSON / 4."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) / 4


if __name__ == "__main__":
    anyio.run(main)
