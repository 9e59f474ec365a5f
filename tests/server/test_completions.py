from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import INVALID_PARAMS, Completion, PromptReference, ResourceTemplateReference
from serving import ERAS, NOON, a_server, an_alert

from xdr_mcp.alert import Attack, Entity, EntityKind
from xdr_mcp.query import fold, parse

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

ALERT = ResourceTemplateReference(uri="xdr://alerts/{id}")
SEARCH = ResourceTemplateReference(uri="xdr://alerts/search{?q}")


async def completion(
    client: Client, prompt: str, argument: str, typed: str, already: dict[str, str] | None = None
) -> Completion:
    """What a prompt's argument is completed with."""
    ref = PromptReference(name=prompt)
    told: Any = {"context_arguments": already} if already else {}
    return (await client.complete(ref, {"name": argument, "value": typed}, **told)).completion


async def query_values(client: Client, typed: str) -> list[str]:
    return (await client.complete(SEARCH, {"name": "q", "value": typed})).completion.values


async def test_ids_are_offered_newest_first_for_prompts_and_resources(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(2), an_alert(1)) as (server, _), Client(server.mcp, mode=era) as client:
        offered = [(await completion(client, name, "id", "XDR/4f9a")) for name in ("triage_alert", "explain_detection")]
        read = (await client.complete(ALERT, {"name": "id", "value": ""})).completion
        none = await completion(client, "triage_alert", "id", "graph/")
    for each in (*offered, read):
        assert each.values == [an_alert(1).id, an_alert(2).id]
        assert (each.total, each.has_more) == (2, False)
    assert none.values == []


async def test_the_id_of_an_old_alert_is_found_and_no_more_than_100_are_told(era: str, tmp_path: Path) -> None:
    alerts = [an_alert(number, vendor_id=f"A-{number:04}") for number in range(1, 401)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        old = await completion(client, "triage_alert", "id", "xdr/A-0399")
        many = await completion(client, "triage_alert", "id", "xdr/")
        without_source = await completion(client, "triage_alert", "id", "A-0399")
    assert old.values == ["xdr/A-0399"]
    assert without_source.values == []
    assert many.values == [alert.id for alert in alerts[:100]]
    assert (many.total, many.has_more) == (None, True)


async def test_entities_are_offered_by_the_kind_that_was_chosen(era: str, tmp_path: Path) -> None:
    alert = an_alert(1, attacks=(Attack(technique="T1059.001", technique_name="PowerShell"),))
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        for kind, typed, offered in [
            ("host", "WEB", ["web-01", "web-01.example.com"]),
            ("user", "a", ["alice"]),
            ("technique", "t10", ["T1059", "T1059.001"]),
            ("", "al", ["alice"]),
            ("no such kind", "al", ["alice"]),
        ]:
            found = await completion(client, "hunt_entity", "entity", typed, {"kind": kind} if kind else None)
            assert found.values == offered, kind


async def test_words_of_our_own_are_offered_where_only_they_are_understood(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        kinds = await completion(client, "hunt_entity", "kind", "h")
        severities = await completion(client, "shift_handover", "severity", "")
        periods = await completion(client, "shift_handover", "since", "-")
    assert kinds.values == ["host", "hash"]
    assert severities.values == ["critical", "high", "medium", "low", "informational", "unknown"]
    assert periods.values[0] == "-1h"


TYPED = {
    "": "severity>=critical",
    "sev": "severity>=critical",
    "ho": "host:",
    "not ho": "not host:",
    "-ho": "-host:",
    "(severity>=high or ho": "(severity>=high or host:",
    "severity>=h": "severity>=high",
    "status:o": "status:open",
    "host:web* since:-": "host:web* since:-1h",
    "HOST:we": "HOST:web-01.example.com",
    "hostname=web-01.": "hostname=web-01.example.com",
    "not user:al": 'not user:"alice smith"',
    'user:"alice sm': 'user:"alice smith"',
    'title:"two words" user:al': 'title:"two words" user:"alice smith"',
    "technique:T10": "technique:T1059.001",
}


async def test_a_query_is_completed_where_it_is_typed(era: str, tmp_path: Path) -> None:
    entities = (Entity(EntityKind.HOST, "web-01.example.com"), Entity(EntityKind.USER, "alice smith"))
    alert = an_alert(1, entities=entities, attacks=(Attack(technique="T1059.001"),))
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        for typed, offered in TYPED.items():
            values = await query_values(client, typed)
            assert offered in values
            assert (await completion(client, "incident_report", "query", typed)).values == values
            for query in values:
                if not query.endswith(":"):
                    parse(f"{query})" if query.startswith("(") else query, now=NOON)


async def test_where_nothing_can_be_offered_nothing_is(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, _), Client(server.mcp, mode=era) as client:
        for typed in (
            "nosuchfield:x",
            "host:a,b",
            "risk_score>8",
            'user:"alice smith"',
            "mimikatz",
            f"{'host:web* ' * 400}sev",
        ):
            assert await query_values(client, typed) == [], typed
        assert (await completion(client, "triage_alert", "tone", "c")).values == []


async def test_what_could_not_be_told_as_it_is_is_not_offered(era: str, tmp_path: Path) -> None:
    hostile = ("a\u202eb", "a\x1b[2J", "a![x](https://evil.example)", "a" * 500)
    entities = (*(Entity(EntityKind.USER, value) for value in hostile), Entity(EntityKind.USER, "albert"))
    async with (
        a_server(tmp_path, an_alert(1, entities=entities)) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        users = await completion(client, "hunt_entity", "entity", "a", {"kind": "user"})
        queries = await query_values(client, "user:a")
    assert users.values == ["albert"]
    assert queries == ["user:albert"]


async def test_everything_offered_begins_as_was_typed(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, *map(an_alert, range(1, 30))) as (server, _), Client(server.mcp, mode=era) as client:
        for typed in ("w", "web-1", "ali", "A", "", "z"):
            values = (await completion(client, "hunt_entity", "entity", typed)).values
            assert all(fold(value).startswith(fold(typed)) for value in values)
            assert len(set(values)) == len(values) <= 100


async def test_a_prompt_that_does_not_exist_is_not_completed(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        with pytest.raises(MCPError, match=r"Unknown prompt: triage\. There are triage_alert, ") as refused:
            await completion(client, "triage", "id", "")
    assert refused.value.code == INVALID_PARAMS
