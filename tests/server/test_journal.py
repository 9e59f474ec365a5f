from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from serving import BOUND, ERAS, KEY, Clock, a_server, an_alert, data_of, fault_of, save

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Store
from xdr_mcp.server import build_server
from xdr_mcp.store import open_store

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]


def later(alert: Alert, minutes: int = 1, **changes: Any) -> Alert:
    """The next version of an alert."""
    told = {name: getattr(alert, name) for name in alert.__struct_fields__ if name != "id"}
    return Alert(**told | {"updated": alert.updated + timedelta(minutes=minutes)} | changes)


async def changes(client: Client, **arguments: Any) -> dict[str, Any]:
    return data_of(await client.call_tool("alert_changes", arguments))


# ---------------------------------------------------------------- alert_changes


async def test_the_journal_tells_what_was_created_updated_closed_and_reopened_field_by_field(
    era: str, tmp_path: Path
) -> None:
    first = an_alert(1, labels=("vip",), attacks=(Attack(technique="T1059"),))
    host, user = first.entities
    grown = later(
        first, severity=Severity.CRITICAL, entities=(host, user, Entity(EntityKind.IP, "10.0.0.7")), labels=()
    )
    closed = later(grown, status=Status.RESOLVED, assignee="alice")
    async with (
        a_server(tmp_path, first, grown, closed, later(closed, status=Status.NEW)) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        told = await changes(client, since=0)
    assert [(row["seq"], row["kind"]) for row in told["changes"]] == [
        (1, "created"),
        (2, "updated"),
        (3, "closed"),
        (4, "reopened"),
    ]
    assert told["changes"][0]["severity"] == "high"
    assert told["changes"][0]["about"] == ["host:web-01.example.com", "user:alice"]
    assert [row["fields"] for row in told["changes"][1:]] == [
        {
            "severity": ["high", "critical"],
            "entities": {"added": ["ip:10.0.0.7"]},
            "labels": {"removed": ["vip"]},
        },
        {"status": ["new", "resolved"], "assignee": ["", "alice"]},
        {"status": ["resolved", "new"]},
    ]
    assert all(row["id"] == first.id for row in told["changes"])
    assert (told["next"], told["more"], told["seq"]) == (4, False, 4)


async def test_a_change_of_the_vendors_time_alone_is_told_as_that(era: str, tmp_path: Path) -> None:
    first = an_alert(1)
    async with a_server(tmp_path, first, later(first)) as (server, _), Client(server.mcp, mode=era) as client:
        (change,) = (await changes(client, since=1))["changes"]
    assert list(change["fields"]) == ["updated"]


async def test_of_a_long_list_the_first_few_are_told_and_how_many_more(era: str, tmp_path: Path) -> None:
    first = an_alert(1, entities=())
    grown = later(first, entities=tuple(Entity(EntityKind.HOST, f"h{number}") for number in range(9)))
    async with a_server(tmp_path, first, grown) as (server, _), Client(server.mcp, mode=era) as client:
        (change,) = (await changes(client, since=1))["changes"]
    assert change["fields"]["entities"] == {"added": [f"host:h{number}" for number in range(5)], "more_added": 4}


async def test_without_a_number_the_journal_says_where_it_stands(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1), an_alert(2)) as (server, store), Client(server.mcp, mode=era) as client:
        result = await client.call_tool("alert_changes", {})
        await save(store, an_alert(3))
        told = await changes(client, since=data_of(result)["next"])
    assert data_of(result)["changes"] == []
    assert "since=2" in result.content[0].text  # type: ignore[union-attr]
    assert [row["id"] for row in told["changes"]] == [an_alert(3).id]


async def test_every_answer_carries_the_number_from_which_the_journal_goes_on(era: str, tmp_path: Path) -> None:
    questions: list[tuple[str, dict[str, Any]]] = [
        ("list_alerts", {}),
        ("filter_alerts", {"query": "host:nothing"}),
        ("get_alert", {"id": an_alert(1).id}),
        ("count_alerts", {}),
        ("related_alerts", {"id": an_alert(1).id}),
        ("alert_context", {"id": an_alert(1).id}),
        ("source_status", {}),
        ("wait_for_alerts", {"since": 0}),
    ]
    async with a_server(tmp_path, an_alert(1), an_alert(2)) as (server, _), Client(server.mcp, mode=era) as client:
        for name, arguments in questions:
            assert data_of(await client.call_tool(name, arguments))["seq"] == 2, name


async def test_a_query_narrows_to_what_matches_before_the_change_or_after_it(era: str, tmp_path: Path) -> None:
    first, second = an_alert(1), an_alert(2)
    async with (
        a_server(tmp_path, first, second, later(first, status=Status.RESOLVED)) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        opened = await changes(client, since=0, query="host:web-01* status:new")
        nothing = await changes(client, since=0, query="host:db*")
    assert [row["kind"] for row in opened["changes"]] == ["created", "closed"]
    assert nothing["changes"] == []
    assert (nothing["next"], nothing["more"]) == (3, False)


@pytest.mark.parametrize("arguments", [{"limit": 3}, {"budget": 200}, {"limit": 7, "budget": 400}, {}])
async def test_whoever_goes_on_with_next_misses_none_and_sees_none_twice(
    era: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    alerts = [an_alert(number, title=f"{'Beacon' if number % 3 else 'Logon'} {number} " * 4) for number in range(1, 31)]
    async with (
        a_server(tmp_path, *alerts, *map(later, alerts[:10])) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        seen: list[str] = []
        since = 0
        while True:
            told = await changes(client, since=since, **arguments)
            seen += [alert_id for row in told["changes"] for alert_id in (row["id"], *row.get("ids", ()))]
            assert told["next"] > since
            since = told["next"]
            if not told["more"]:
                break
    assert sorted(seen) == sorted([alert.id for alert in (*alerts, *alerts[:10])])
    assert since == 40


async def test_a_number_that_was_never_given_out_is_refused_with_the_way_on(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, _), Client(server.mcp, mode=era) as client:
        for name in ("alert_changes", "wait_for_alerts"):
            fault = fault_of(await client.call_tool(name, {"since": 99}))
            assert "ahead of the newest, 1" in fault
            assert "since=1" in fault


# ---------------------------------------------------------------- wait_for_alerts


async def test_what_changed_between_two_calls_is_answered_at_once(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, store), Client(server.mcp, mode=era) as client:
        seq = data_of(await client.call_tool("list_alerts", {}))["seq"]
        await save(store, an_alert(2), an_alert(3, severity=Severity.LOW))
        with anyio.fail_after(BOUND):
            told = data_of(await client.call_tool("wait_for_alerts", {"query": "severity:low", "since": seq}))
    assert [row["id"] for row in told["changes"]] == [an_alert(3).id]
    assert told["next"] == 3


async def test_it_waits_until_an_alert_matches_and_passes_over_others(era: str, tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    async with a_server(tmp_path, an_alert(1)) as (server, store), Client(server.mcp, mode=era) as client:
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:

                async def wait() -> None:
                    arguments = {"query": "host:web-03*", "timeout": 60, "since": 1}
                    told.update(data_of(await client.call_tool("wait_for_alerts", arguments)))

                tasks.start_soon(wait)
                for number in (2, 3, 4):
                    await save(store, an_alert(number))
    assert [row["id"] for row in told["changes"]] == [an_alert(3).id]
    assert told["next"] >= 3


async def test_an_alert_that_begins_to_match_counts_and_one_that_ends_to_match_does_not(
    era: str, tmp_path: Path
) -> None:
    first = an_alert(1)
    versions = [first, later(first, severity=Severity.CRITICAL), later(first, 2, severity=Severity.LOW)]
    async with a_server(tmp_path, *versions) as (server, _), Client(server.mcp, mode=era) as client:
        begins = await client.call_tool("wait_for_alerts", {"query": "severity:critical", "since": 1, "timeout": 0})
        ends = await client.call_tool("wait_for_alerts", {"query": "severity:critical", "since": 2, "timeout": 0})
    assert [row["kind"] for row in data_of(begins)["changes"]] == ["updated"]
    assert data_of(ends)["changes"] == []


async def test_a_time_out_is_an_answer_that_says_where_to_go_on(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, _), Client(server.mcp, mode=era) as client:
        with anyio.fail_after(BOUND):
            told = data_of(await client.call_tool("wait_for_alerts", {"query": "host:db*", "timeout": 0.05}))
    assert told["changes"] == []
    assert (told["next"], told["more"]) == (1, False)


class Waited:
    """A store that notes when a wait begins and ends."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.begun = anyio.Event()
        self.ended = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def wait(self, after: int, timeout: float) -> bool:  # noqa: ASYNC109 (the store's)
        if timeout < 30:  # the notifier's own
            return await self._store.wait(after, timeout)
        self.begun.set()
        try:
            return await self._store.wait(after, timeout)
        finally:
            self.ended.set()


@asynccontextmanager
async def a_watched_server(folder: Path) -> AsyncIterator[tuple[Any, Waited]]:
    async with open_store(folder / "xdr.db", clock=Clock()) as store:
        waited = Waited(store)
        server = build_server(waited, version="0", cursor_key=KEY, clock=Clock())
        async with server.running():
            yield server, waited


async def test_a_wait_that_is_cancelled_ends_at_the_server_too(era: str, tmp_path: Path) -> None:
    async with a_watched_server(tmp_path) as (server, waited), Client(server.mcp, mode=era) as client:
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "wait_for_alerts", {"timeout": 300})
                await waited.begun.wait()
                tasks.cancel_scope.cancel()
        with anyio.fail_after(BOUND):
            await waited.ended.wait()
            assert not (await client.call_tool("list_alerts", {})).is_error
