from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from mcp import Client
from mcp.types import Implementation
from serving import ERAS, NOON, Clock, a_server, an_alert, data_of, fault_of, fenced_in, report, save

from xdr_mcp.alert import Entity, EntityKind, Severity, Status

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

HOSTILE = "\x1b[2Jinvoice\u202efdp.exe\u200b\U000e0049\U000e0067"


def _wire(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


async def test_the_tools_are_small_typed_and_read_only(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        tools = (await client.list_tools()).tools
    told = [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools]
    assert [tool.name for tool in tools] == [
        "list_alerts",
        "get_alert",
        "filter_alerts",
        "count_alerts",
        "alert_changes",
        "wait_for_alerts",
        "source_status",
        "related_alerts",
        "alert_context",
    ]
    assert len(_wire(told)) <= 10_400
    assert b"$ref" not in _wire(told)
    assert b"$defs" not in _wire(told)
    for tool in told:
        assert tool["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
        assert tool["title"]
        assert tool["description"]
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            assert schema["type"] == "object"
            jsonschema.Draft202012Validator.check_schema(schema)


async def test_answers_keep_to_their_schemas(era: str, tmp_path: Path) -> None:
    full = an_alert(1, description="What happened", risk_score=80, labels=("vip",))
    async with a_server(tmp_path, full) as (server, _), Client(server.mcp, mode=era) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        calls: list[tuple[str, dict[str, Any]]] = [
            ("list_alerts", {}),
            ("filter_alerts", {"query": "host:web*", "fields": ["entities", "risk_score"]}),
            ("get_alert", {"id": full.id, "include_raw": True}),
        ]
        for name, arguments in calls:
            jsonschema.validate(data_of(await client.call_tool(name, arguments)), schemas[name] or {})


async def test_a_page_of_25_alerts_is_small_and_says_everything_once(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, *map(an_alert, range(1, 61))) as (server, store):
        await report(store, "ok", last_success=NOON)
        async with Client(server.mcp, mode=era) as client:
            result = await client.call_tool("list_alerts", {})
    page = data_of(result)
    wire = result.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"meta"})
    assert len(_wire(wire)) <= 6_000
    assert [content.type for content in result.content] == ["text"]
    assert result.content[0].text == (  # type: ignore[union-attr]
        "25 of 60 alerts, newest first; next_cursor given. No data in sight? Call again with as_text=true."
    )
    assert [row["id"] for row in page["alerts"]] == [an_alert(number).id for number in range(1, 26)]
    assert page["alerts"][0] == {
        "id": "xdr/4f9a1c2e-0000-4000-8000-000000000001",
        "severity": "high",
        "status": "new",
        "title": "Suspicious PowerShell download cradle on web-01",
        "created": "2026-03-01T11:59:00Z",
        "about": ["host:web-01.example.com", "user:alice"],
    }


async def test_a_page_of_long_texts_is_told_in_brief_rows_and_says_so(era: str, tmp_path: Path) -> None:
    entities = (
        Entity(EntityKind.HOST, "a-rather-long-host-name.in-a-rather-long-domain.europe.example.com"),
        Entity(EntityKind.USER, "wilhelmina@europe.example.com"),
    )
    title = "A title that goes on and on " * 9
    alerts = [an_alert(number, title=title, entities=entities) for number in range(1, 26)]
    alerts = [msgspec.structs.replace(alert, rule_id=f"rule {number}") for number, alert in enumerate(alerts)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        results = [await client.call_tool("list_alerts", arguments) for arguments in ({}, {"as_text": True})]
        roomy = data_of(await client.call_tool("list_alerts", {"budget": 5_000}))
    for result in results:
        wire = result.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"meta"})
        assert len(_wire(wire["structuredContent"])) + len(wire["content"][0]["text"].encode()) <= 6_000
    page = data_of(results[0])
    assert page["alerts"][0]["title"].startswith("A title that goes on")
    assert "…[+" in page["alerts"][0]["title"]
    assert page["reduced"].startswith("brief rows; in full ")
    assert roomy["alerts"][0]["about"] == [f"host:{entities[0].value}", f"user:{entities[1].value}"]
    assert "reduced" not in roomy


async def test_a_user_who_is_named_by_the_mail_address_is_told_once(era: str, tmp_path: Path) -> None:
    named = (Entity(EntityKind.EMAIL, "Al@example.com"), Entity(EntityKind.USER, "al@example.com"))
    async with a_server(tmp_path, an_alert(1, entities=named)) as (server, _), Client(server.mcp, mode=era) as client:
        (row,) = data_of(await client.call_tool("list_alerts", {}))["alerts"]
    assert row["about"] == ["user:al@example.com"]


@pytest.mark.parametrize(
    ("host", "as_text", "told_in"),
    [
        ("mcp", False, "structured"),
        ("claude-code", False, "structured"),
        ("claude-ai", False, "text"),
        ("gemini-cli-mcp-client-xdr", False, "text"),
        ("some-assistant", True, "text"),
    ],
)
async def test_the_data_goes_once_to_where_the_hosts_model_sees_it(
    era: str, host: str, told_in: str, tmp_path: Path, *, as_text: bool
) -> None:
    asked = {"as_text": True} if as_text else {}
    client_info = Implementation(name=host, version="1")
    async with (
        a_server(tmp_path, an_alert(1)) as (server, _),
        Client(server.mcp, mode=era, client_info=client_info) as client,
    ):
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        page = await client.call_tool("list_alerts", asked)
        whole = await client.call_tool("get_alert", asked | {"id": an_alert(1).id})
    for name, result in (("list_alerts", page), ("get_alert", whole)):
        text = result.content[0].text  # type: ignore[union-attr]
        jsonschema.validate(data_of(result), schemas[name] or {})
        if told_in == "text":
            assert data_of(result) == {"as_text": True}
            assert an_alert(1).title in text
            (told,) = fenced_in(text)
            jsonschema.validate(json.loads(told), schemas[name] or {})
        else:
            assert an_alert(1).title in str(data_of(result))
            assert an_alert(1).title not in text
            assert "as_text" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sverity": "high"}, "list_alerts has no argument sverity; did you mean severity? It has severity, status"),
        ({"zzz": 1}, "list_alerts has no argument zzz. It has"),
        ({"severity": "urgent"}, "severity: Input should be 'unknown', 'informational', 'low'"),
        ({"limit": 1000}, "limit: Input should be less than or equal to 100, not 1000"),
    ],
)
async def test_wrong_arguments_are_refused_in_words_and_never_ignored(
    era: str, arguments: dict[str, Any], said: str, tmp_path: Path
) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        fault = fault_of(await client.call_tool("list_alerts", arguments))
    assert fault.startswith(said)
    assert "pydantic" not in fault


async def test_cursors_lead_through_every_alert_once(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, *map(an_alert, range(1, 24))) as (server, _), Client(server.mcp, mode=era) as client:
        seen: list[str] = []
        cursor: str | None = None
        while True:
            arguments = {"query": "severity:high", "limit": 5} | ({"cursor": cursor} if cursor else {})
            page = data_of(await client.call_tool("filter_alerts", arguments))
            assert page["total"] == 23
            seen += [row["id"] for row in page["alerts"]]
            if not (cursor := page.get("next_cursor")):
                break
    assert seen == [an_alert(number).id for number in range(1, 24)]


async def test_relative_times_mean_on_every_page_what_they_meant_on_the_first(era: str, tmp_path: Path) -> None:
    clock = Clock()
    alerts = [an_alert(number) for number in range(1, 11)]
    async with a_server(tmp_path, *alerts, clock=clock) as (server, _), Client(server.mcp, mode=era) as client:
        first = data_of(await client.call_tool("list_alerts", {"since": "-10m", "limit": 5}))
        clock.now += timedelta(hours=1)
        rest = data_of(
            await client.call_tool("list_alerts", {"since": "-10m", "limit": 5, "cursor": first["next_cursor"]})
        )
        anew = data_of(await client.call_tool("list_alerts", {"since": "-10m", "limit": 5}))
    assert [row["id"] for row in rest["alerts"]] == [alert.id for alert in alerts[5:]]
    assert anew["alerts"] == []


async def test_a_cursor_is_refused_where_it_does_not_belong(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, *map(an_alert, range(1, 9))) as (server, _), Client(server.mcp, mode=era) as client:
        cursor = data_of(await client.call_tool("filter_alerts", {"query": "host:web*", "limit": 2}))["next_cursor"]
        for name, arguments in [
            ("filter_alerts", {"query": "host:db*", "cursor": cursor}),
            ("list_alerts", {"cursor": cursor}),
            ("filter_alerts", {"query": "host:web*", "cursor": cursor[:-6] + "AAAAAA"}),
        ]:
            assert "next_cursor on unchanged" in fault_of(await client.call_tool(name, arguments))


async def test_list_alerts_narrows_by_severity_status_source_and_time(era: str, tmp_path: Path) -> None:
    alerts = [
        an_alert(1, severity=Severity.CRITICAL),
        an_alert(2, status=Status.RESOLVED),
        an_alert(3, source="graph", severity=Severity.LOW),
        an_alert(90),
    ]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:

        async def listed(**arguments: str) -> list[str]:
            return [row["id"] for row in data_of(await client.call_tool("list_alerts", arguments))["alerts"]]

        assert await listed(severity="critical") == [alerts[0].id]
        assert await listed(severity="high") == [alerts[0].id, alerts[1].id, alerts[3].id]
        assert await listed(status="resolved") == [alerts[1].id]
        assert await listed(source="graph") == [alerts[2].id]
        assert await listed(source='no"such\\source') == []
        assert await listed(since="-1h") == [alert.id for alert in alerts[:3]]
        assert await listed(since="2026-03-01T11:57:00Z", status="new") == [alerts[0].id, alerts[2].id]


async def test_fields_are_given_whole_beside_the_id(era: str, tmp_path: Path) -> None:
    alert = an_alert(1, title="long " * 60, risk_score=80)
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        rows = data_of(await client.call_tool("list_alerts", {"fields": ["title", "risk_score", "tenant"]}))["alerts"]
        fault = fault_of(await client.call_tool("list_alerts", {"fields": ["title", "hostname"]}))
    assert rows == [{"id": alert.id, "title": alert.title, "risk_score": 80}]
    assert "No such field: hostname" in fault
    assert "entities" in fault


@pytest.mark.parametrize("limit", [0, 101])
async def test_a_page_holds_1_to_100_rows(era: str, limit: int, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        assert "limit" in fault_of(await client.call_tool("list_alerts", {"limit": limit}))


async def test_a_bad_query_is_told_with_the_part_at_fault_the_fields_and_an_example(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        fault = fault_of(await client.call_tool("filter_alerts", {"query": "severity>=high hst:web*"}))
    assert "hst" in fault
    assert "^^^" in fault
    assert "technique" in fault
    assert "For example: severity>=high host:web*" in fault


async def test_get_alert_tells_the_newest_revision_whole(era: str, tmp_path: Path) -> None:
    first = an_alert(1)
    second = an_alert(1, status=Status.RESOLVED, updated=NOON, description="Closed")
    async with a_server(tmp_path, first) as (server, store), Client(server.mcp, mode=era) as client:
        await save(store, second, raw=b'{"id": 1, "deep": {"name": "x\\u202ey"}}')
        whole = data_of(await client.call_tool("get_alert", {"id": first.id}))
        with_raw = data_of(await client.call_tool("get_alert", {"id": first.id, "include_raw": True}))
    assert whole["alert"]["status"] == "resolved"
    assert whole["alert"]["description"] == "Closed"
    assert whole["alert"]["entities"][0] == {"kind": "host", "value": "web-01.example.com"}
    assert (whole["revision"], whole["change"]) == (2, "closed")
    assert "raw" not in whole
    assert fenced_in(with_raw["raw"]) == ['{"id":1,"deep":{"name":"x[U+202E]y"}}']


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("4f9a1c2e-0000-4000-8000-000000000001", "Did you mean xdr/4f9a1c2e-0000-4000-8000-000000000001?"),
        ("xdr/4f9a1c2e-0000-4000-8000-00000000000l", "Did you mean xdr/4f9a1c2e-0000-4000-8000-000000000001"),
        ("nothing like it", "as list_alerts and filter_alerts give it"),
    ],
)
async def test_an_unknown_id_is_answered_with_the_nearest_ones(era: str, asked: str, hint: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, store):
        await report(store, "ok")
        async with Client(server.mcp, mode=era) as client:
            assert hint in fault_of(await client.call_tool("get_alert", {"id": asked}))


async def test_what_an_attacker_wrote_cannot_hide_or_steer(era: str, tmp_path: Path) -> None:
    alert = an_alert(
        1,
        title=HOSTILE,
        description=HOSTILE,
        labels=(HOSTILE,),
        entities=(Entity(EntityKind.FILE, HOSTILE),),
        vendor_id=f"A{HOSTILE}%41",
    )
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        await save(store, alert, raw=json.dumps({"k": HOSTILE, HOSTILE: "v"}).encode())
        listed = await client.call_tool("list_alerts", {})
        told_id = data_of(listed)["alerts"][0]["id"]
        got = await client.call_tool("get_alert", {"id": told_id, "include_raw": True})
        fields = await client.call_tool("list_alerts", {"fields": ["title", "vendor_id", "entities", "labels"]})
    assert data_of(got)["alert"]["id"] == told_id
    for result in (listed, got, fields):
        told = result.model_dump_json(by_alias=True)
        assert not any(character in told for character in ("\u202e", "\u200b", "\U000e0049", "\\u001b", "\x1b"))
        assert "U+202E" in told


async def test_a_source_that_was_never_read_is_called_blind(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        nobody = await client.call_tool("list_alerts", {})
        await report(store, "development", "demo")
        await report(store, "failing", "graph", last_error="The vendor refused the credential.\x1b[2J")
        await report(store, "failing", "old", last_success=NOON - timedelta(hours=1), last_error="timed out")
        await report(store, "ok", "xdr", last_success=NOON - timedelta(seconds=30))
        blind = await client.call_tool("list_alerts", {})
    assert "Blind: no source has ever reported" in nobody.content[0].text  # type: ignore[union-attr]
    assert data_of(blind)["coverage"] == [
        {"source": "demo", "state": "blind", "why": "development mode: the vendor is never called"},
        {
            "source": "graph",
            "state": "blind",
            "why": "never read yet; last error: The vendor refused the credential.[U+001B][2J",
        },
        {"source": "old", "state": "failing", "age_s": 3600, "why": "timed out"},
        {"source": "xdr", "state": "ok", "age_s": 30},
    ]
    assert blind.content[0].text == (  # type: ignore[union-attr]
        "No alert matches. Blind: demo, graph; what it holds is not known. Failing: old (3600 s old)."
    )


async def test_an_unknown_prompt_is_the_clients_mistake(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        with pytest.raises(Exception, match="Unknown prompt") as refused:
            await client.get_prompt("nonsense")
        assert refused.value.code == -32602  # type: ignore[attr-defined]
