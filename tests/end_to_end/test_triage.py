"""A change from an assistant's proposal through a person at a terminal to the vendor, and back by a poll: real processes."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import fake_graph
import fake_xdr
import pytest
from fake_graph import FakeGraph
from fake_xdr import FakeXdr
from flow import all_changes, assistant, call, minutes_ago, poll_once, run
from mcp import Client, StdioServerParameters
from program import PATIENCE, command, environment, running, settings_for, simulated
from serving import watching
from terminal import at_a_terminal
from truth import Vendor

from xdr_mcp.alert import ChangeKind, Status, Verdict

pytestmark = pytest.mark.anyio

TRIAGE = {"XDR_TRIAGE": "approve", "XDR_WRITE_BACK": "true"}
RECENT = "xdr://alerts/recent"
GRAPH_TIMES = ("createdDateTime", "lastUpdateDateTime")


async def audited(folder: Path, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the log tells, whose chain must be whole: each event, and the state of its proposal from then on."""
    done = await run("audit", "--json", folder=folder, env=env)
    *entries, found = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, found["faults"], found["rows"]) == (0, [], len(entries)), done
    return [(entry["event"], entry["state"]) for entry in entries]


@asynccontextmanager
async def an_assistant_that_polls(folder: Path, env: Mapping[str, str]) -> AsyncIterator[Any]:
    program, *arguments = command("serve")
    server = StdioServerParameters(command=program, args=arguments, env=environment(**env), cwd=folder)
    with anyio.fail_after(4 * PATIENCE):
        async with watching(server, "auto", [RECENT]) as (client, updates):
            while not (await call(client, "list_alerts", limit=1))["total"]:
                await updates.next()
            yield client, updates


async def test_what_an_assistant_proposes_and_a_person_approves_is_done_and_seen(tmp_path: Path) -> None:
    with simulated("--alerts", "20", folder=tmp_path) as url, Vendor(url) as vendor:
        vendor.calm()
        env = settings_for(url, tmp_path, **TRIAGE)
        async with an_assistant_that_polls(tmp_path, env) as (client, updates):
            rows = (await call(client, "filter_alerts", query="status:new", limit=1))["alerts"]
            alert_id = rows[0]["id"]
            before = vendor.newest_versions()
            wanted = {"status": "resolved", "verdict": "false_positive", "comment": "A scanner that we know."}
            proposal = await call(client, "propose_triage", id=alert_id, **wanted)
            assert proposal["changes"] == [
                {"field": "status", "now": "new", "then": "resolved"},
                {"field": "verdict", "now": "unknown", "then": "false_positive"},
            ]
            assert (
                (await call(client, "propose_triage", id=alert_id, **wanted))["proposal"] == proposal["proposal"] == 1
            )
            assert vendor.newest_versions() == before

            with at_a_terminal("approve", "1", folder=tmp_path, env=env) as terminal:
                await terminal.reads("status: new → resolved")
                await terminal.reads("PATCH /api/v1/alerts/")
                await terminal.reads("A scanner that we know")
                await terminal.approves()
                assert await terminal.ended() == 0
            changed = {name for name, digest in vendor.newest_versions().items() if before[name] != digest}
            assert changed == {alert_id.partition("/")[2]}

            while (alert := (await call(client, "get_alert", id=alert_id))["alert"])["status"] != "resolved":
                await updates.next()
            assert alert["verdict"] == "false_positive"
        change = (await all_changes(tmp_path))[-1]
        assert (change.alert.id, change.kind) == (alert_id, ChangeKind.CLOSED)
        assert (change.alert.status, change.alert.verdict) == (Status.RESOLVED, Verdict.FALSE_POSITIVE)
        assert b"A scanner that we know.\\n[xdr-mcp 1-" in change.raw
        assert (await run("approve", folder=tmp_path, env=env)).stdout == "nothing waits for a decision\n"
        assert await audited(tmp_path, env) == [
            ("proposed", "open"),
            ("approved", "applying"),
            ("applied", "applied"),
            ("verified", "verified"),
        ]

        with at_a_terminal("undo", "1", folder=tmp_path, env=env) as terminal:
            await terminal.reads("proposal 2 undoes proposal 1")
            await terminal.reads("status: resolved → new")
            await terminal.approves()
            assert await terminal.ended() == 0
        await poll_once(tmp_path, env)
        change = (await all_changes(tmp_path))[-1]
        assert (change.alert.id, change.kind, change.alert.status) == (alert_id, ChangeKind.REOPENED, Status.NEW)
        await run("approve", folder=tmp_path, env=env)
        assert (await audited(tmp_path, env))[-1] == ("verified", "verified")


def a_record(vendor_id: str = "a1", **attributes: Any) -> dict[str, Any]:
    told = {"name": "Beacon", "status": "NEW", "createdAt": minutes_ago(5), "updatedAt": minutes_ago(5)}
    return {"id": vendor_id, "type": "alert", "attributes": told | attributes}


@asynccontextmanager
async def proposed(folder: Path, **attributes: Any) -> AsyncIterator[tuple[FakeXdr, dict[str, str]]]:
    """A vendor with one alert that an assistant has proposed to close."""
    vendor = FakeXdr()
    vendor.put(a_record(**attributes))
    async with fake_xdr.serving(vendor) as url:
        env = settings_for(url, folder, **TRIAGE, XDR_AUTH_TOKEN=fake_xdr.TOKEN)
        await poll_once(folder, env)
        async with assistant(folder, env) as client:
            await propose(client)
        yield vendor, env


async def propose(client: Client) -> None:
    await call(client, "propose_triage", id="xdr/a1", status="resolved", comment="Seen to.")


async def test_killed_between_the_vendors_deed_and_the_record_it_is_not_done_twice(tmp_path: Path) -> None:
    async with proposed(tmp_path) as (vendor, env):
        done, never = anyio.Event(), anyio.Event()

        async def hang() -> None:
            done.set()
            await never.wait()

        vendor.before_answering = hang
        with at_a_terminal("approve", "1", folder=tmp_path, env=env) as terminal:
            await terminal.approves()
            with anyio.fail_after(PATIENCE):
                await done.wait()
            terminal.process.kill()
            await terminal.ended()
        never.set()
        assert [event for event, _ in await audited(tmp_path, env)] == ["proposed", "approved"]
        with at_a_terminal("approve", "1", folder=tmp_path, env=env) as terminal:
            await terminal.reads("cut off")
            await terminal.reads("nothing is sent")
            await terminal.approves()
            assert await terminal.ended() == 0
        assert [written["status"] for written in vendor.written] == ["ACK_COMPLETE"]
        assert [event for event, _ in await audited(tmp_path, env)] == ["proposed", "approved", "resumed", "applied"]


async def test_an_alert_that_changes_before_the_person_answers_is_shown_again(tmp_path: Path) -> None:
    async with proposed(tmp_path) as (vendor, env):
        with at_a_terminal("approve", "1", folder=tmp_path, env=env) as terminal:
            code = (await terminal.reads(r"To approve, type (\d{4}): "))[1]
            vendor.put(a_record(severity=5, updatedAt=minutes_ago(0)))
            terminal.types(code)
            await terminal.reads("has changed meanwhile, so nothing was sent")
            await terminal.reads("severity: unknown → critical")
            assert vendor.written == []
            await terminal.approves()
            assert await terminal.ended() == 0
        assert len(vendor.written) == 1


async def test_without_a_person_at_a_terminal_nothing_is_approved(tmp_path: Path) -> None:
    async with proposed(tmp_path) as (vendor, env):
        piped = await run("approve", "1", folder=tmp_path, env=env)
        assert piped.returncode == 1
        assert "there is no terminal to ask a person at" in piped.stderr
        with at_a_terminal("approve", "1", folder=tmp_path, env=env) as terminal:
            await terminal.reads(r"To approve, type \d{4}: ")
            terminal.types("yes")
            await terminal.reads("nothing was sent")
            assert await terminal.ended() == 0
        with at_a_terminal("approve", "1", folder=tmp_path, env=env | {"CLAUDECODE": "1"}) as terminal:
            await terminal.reads("Claude Code runs this command")
            assert await terminal.ended() == 1
        refused = await run("approve", "1", folder=tmp_path, env=env | {"XDR_TRIAGE": "off"})
        assert refused.returncode == 2
        assert "XDR_TRIAGE" in refused.stderr
        assert vendor.written == []
        rejected = await run("reject", "1", "--reason", "no", folder=tmp_path, env=env)
        assert rejected.stdout == "proposal 1 is rejected\n"
        assert await audited(tmp_path, env) == [("proposed", "open"), ("rejected", "rejected")]


async def test_defender_is_told_in_its_own_words(tmp_path: Path) -> None:
    graph = FakeGraph()
    graph.put({"id": "da1", "title": "Beacon", "status": "new"} | dict.fromkeys(GRAPH_TIMES, minutes_ago(5)))
    async with fake_graph.serving(graph) as url:
        options = {f"XDR_MICROSOFT_{name}".upper(): value for name, value in fake_graph.options(url).items()}
        env = settings_for(url, tmp_path, XDR_SOURCES="microsoft", XDR_TRIAGE="approve", **options)
        await poll_once(tmp_path, env)
        async with assistant(tmp_path, env) as client:
            wanted = {"status": "resolved", "verdict": "true_positive", "assignee": "alice@example.com"}
            await call(client, "propose_triage", id="microsoft/da1", comment="Reimaged.", **wanted)
        with at_a_terminal("approve", "1", folder=tmp_path, env=env) as terminal:
            await terminal.approves()
            assert await terminal.ended() == 0
        fields, comment = graph.written
        assert (fields["status"], fields["classification"], fields["assignedTo"]) == (
            "resolved",
            "truePositive",
            "alice@example.com",
        )
        assert comment["comment"].startswith("Reimaged.\n[xdr-mcp 1-")
        await poll_once(tmp_path, env)
        await run("approve", folder=tmp_path, env=env)
    assert (await audited(tmp_path, env))[-1] == ("verified", "verified")
    assert (await all_changes(tmp_path))[-1].kind is ChangeKind.CLOSED


async def test_the_demo_shows_the_whole_way(tmp_path: Path) -> None:
    with running("demo", "--port", "0", "--speed", "1", folder=tmp_path) as demo:
        url = demo.wait_for(r"MCP server +(http\S+)")[1]
        decide = shlex.split(demo.wait_for(r"Decide +(.*approve --data-dir \S+)")[1])
        env = dict(word.split("=", 1) for word in decide if "=" in word)
        arguments = decide[decide.index("approve") :]
        with anyio.fail_after(4 * PATIENCE):
            async with Client(url) as client:
                row = (await call(client, "filter_alerts", query="status:new", limit=1))["alerts"][0]
                wanted = {"status": "resolved", "assignee": "alice", "comment": "Seen to."}
                await call(client, "propose_triage", id=row["id"], **wanted)
                with at_a_terminal(*arguments, "1", folder=tmp_path, env=env) as terminal:
                    await terminal.approves()
                    assert await terminal.ended() == 0
            demo.wait_for(rf"^closed\t.*{row['id']}")
