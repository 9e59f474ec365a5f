from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from mcp import Client
from mcp.types import CallToolResult
from serving import ERAS, NOON, a_server, an_alert, data_of, fenced_in, report, save

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Status

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

LEAST = 200
BUDGETS = (LEAST, 600, 1_500, 4_000)
STEPS = ("compact rows", "brief rows", "clusters of what looks alike", "counts and ids", "rows, counts and ids")


def tokens(result: CallToolResult) -> float:
    """What crosses the wire to the model: bytes of UTF-8 / 4."""
    wire = result.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"meta"})
    told = json.dumps(wire["structuredContent"], separators=(",", ":"), ensure_ascii=False)
    frame = json.dumps(
        wire | {"structuredContent": None, "content": [{"type": "text", "text": ""}]}, separators=(",", ":")
    )
    return (len(frame.encode()) + len(told.encode()) + len(wire["content"][0]["text"].encode())) / 4


def varied(number: int) -> Alert:
    """Long and short, plain and hostile, of several rules and hosts."""
    random = Random(number)  # noqa: S311 (makes up alerts)
    words = ["Beacon", "Ünüsual", "logon", "to", "10.0.0.7", "\u202e", "<script>", "🦊", "ransomware", "(x)" * 30]
    return an_alert(
        number,
        title=" ".join(random.choices(words, k=random.choice([2, 6, 60]))),
        description="What happened. " * random.choice([0, 3, 300]),
        rule_id=f"R-{number % 7}",
        risk_score=number % 100,
        labels=tuple(f"label-{each}" for each in range(random.choice([0, 2, 90]))),
        attacks=(Attack(technique="T1059.001", technique_name="PowerShell"),),
        entities=tuple(
            Entity(
                random.choice([EntityKind.HOST, EntityKind.USER, EntityKind.FILE]),
                f"name-{each}" * random.choice([1, 9]),
            )
            for each in range(random.choice([0, 1, 3, 40]))
        ),
    )


def questions(alert_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("list_alerts", {}),
        ("list_alerts", {"limit": 100}),
        ("filter_alerts", {"query": "severity:high", "fields": ["title", "description", "entities"]}),
        ("get_alert", {"id": alert_id, "include_raw": True}),
        ("count_alerts", {}),
        ("count_alerts", {"by": ["entity", "created:hour"], "limit": 100}),
        ("alert_changes", {"since": 0}),
        ("alert_changes", {}),
        ("wait_for_alerts", {"since": 3}),
        ("related_alerts", {"id": alert_id}),
        ("alert_context", {"id": alert_id}),
        ("source_status", {}),
    ]


async def test_every_tool_keeps_its_budget_whatever_the_store_holds(era: str, tmp_path: Path) -> None:
    alerts = [varied(number) for number in range(1, 61)]
    async with a_server(tmp_path, *alerts) as (server, store), Client(server.mcp, mode=era) as client:
        for name in ("graph", "xdr", "xdr-emea"):
            await report(store, "failing", name, last_error="The vendor refused. " * 20, last_success=NOON)
        await save(store, *(varied(number + 100) for number in range(3)), raw=json.dumps({"k": "v" * 20_000}).encode())
        for name, arguments in questions(alerts[4].id):
            for budget in BUDGETS:
                for as_text in (False, True):
                    asked = arguments | {"budget": budget, "as_text": as_text}
                    result = await client.call_tool(name, asked)
                    assert not result.is_error
                    assert tokens(result) <= budget, (name, asked, tokens(result), result.structured_content)


async def test_the_same_question_to_the_same_store_has_the_same_answer_to_the_byte(era: str, tmp_path: Path) -> None:
    alerts = [varied(number) for number in range(1, 41)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        for name, arguments in questions(alerts[2].id):
            for budget in (LEAST, 700, 3_000):
                first, second = [await client.call_tool(name, arguments | {"budget": budget}) for _ in range(2)]
                assert _without_nonces(first) == _without_nonces(second)


def _without_nonces(result: CallToolResult) -> str:
    """The marks of a fence are new in each answer."""
    return re.sub(r"<<<untrusted [0-9a-f]{12}|[0-9a-f]{12}>>>", "", result.model_dump_json())


async def test_a_page_comes_down_the_ladder_step_by_step_and_says_where_it_stands(era: str, tmp_path: Path) -> None:
    alerts = [
        an_alert(
            number,
            title=f"{'Failed' if number % 2 else 'Unusual'} logon {number} " + "and so on " * 6,
            rule_id=f"R-{number}",
        )
        for number in range(1, 26)
    ]
    async with a_server(tmp_path, *alerts) as (server, store), Client(server.mcp, mode=era) as client:
        await report(store, "ok", last_success=NOON)
        seen: list[str] = []
        for budget in range(3_000, LEAST - 1, -50):
            page = data_of(await client.call_tool("list_alerts", {"budget": budget}))
            how = re.sub(r"^\d+ of 25 (?=rows)|; in full \d+ tokens", "", page.get("reduced", "")) or "rows"
            if how not in seen[-1:]:
                seen.append(how)
            ids = [alert_id for row in page["alerts"] for alert_id in (row["id"], *row.get("ids", ()))]
            assert set(ids) <= {alert.id for alert in alerts}
            assert len(ids) == len(set(ids))
            assert (len(ids) == 25) == ("next_cursor" not in page)
            assert page["total"] == 25
            if "counts" in page:
                assert sum(page["counts"]["severity"].values()) == len(ids)
    assert seen == ["rows", *STEPS]


async def test_a_text_is_told_whole_or_with_a_mark_of_what_is_missing(era: str, tmp_path: Path) -> None:
    alerts = [
        an_alert(number, title=f"{chr(64 + number)} title" + " and more" * 20, rule_id=str(number))
        for number in range(1, 20)
    ]
    titles = {alert.title for alert in alerts}
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        for budget in (500, 900, 1_500, 5_000):
            for row in data_of(await client.call_tool("list_alerts", {"budget": budget}))["alerts"]:
                shown, mark, number = row.get("title", alerts[0].title).partition("…[+")
                whole = next(title for title in titles if title.startswith(shown))
                assert len(shown) + int(number.rstrip("]") or 0) == len(whole)
                assert mark or shown == whole


async def test_an_alert_too_long_for_its_budget_loses_whole_fields_the_longest_first(era: str, tmp_path: Path) -> None:
    alert = an_alert(1, description="Long. " * 400, labels=tuple(f"label {number}" for number in range(60)))
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        whole = data_of(await client.call_tool("get_alert", {"id": alert.id}))
        less = data_of(await client.call_tool("get_alert", {"id": alert.id, "budget": 600}))
        least = data_of(await client.call_tool("get_alert", {"id": alert.id, "budget": LEAST}))
    assert whole["alert"]["description"] == alert.description
    assert "reduced" not in whole
    assert less["reduced"] == "without description"
    assert less["alert"]["labels"] == list(alert.labels)
    assert least["alert"]["id"] == alert.id
    assert least["alert"]["title"] == alert.title


async def test_an_alert_that_is_told_as_a_row_is_what_the_schema_promises(era: str, tmp_path: Path) -> None:
    alert = an_alert(1, title="A title that is far too long. " * 100, rule_name="R" * 2_000)
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        told = data_of(await client.call_tool("get_alert", {"id": alert.id, "budget": LEAST}))  # the client checks it
    assert told["reduced"] == "a row of it"
    assert told["alert"]["entities"][0] == {"kind": "host", "value": "web-01.example.com"}
    assert told["untrusted"] == ["entities", "title"]


async def test_a_record_too_long_for_its_budget_is_told_by_its_size(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store), Client(server.mcp, mode=era) as client:
        await save(store, an_alert(1), raw=b'{"k": "%s"}' % (b"v" * 90_000))
        asked = {"id": an_alert(1).id, "include_raw": True}
        told = data_of(await client.call_tool("get_alert", asked))
        roomy = data_of(await client.call_tool("get_alert", asked | {"budget": 50_000}))
    assert told["raw"] == "90009 bytes"
    assert "larger budget" in told["reduced"]
    assert fenced_in(roomy["raw"]) == [json.dumps({"k": "v" * 90_000}, separators=(",", ":"))]


async def test_a_storm_that_names_its_members_only_when_less_is_read_of_it_keeps_the_budget_too(
    era: str, tmp_path: Path
) -> None:
    storm = [an_alert(number, title=f"Beacon {number}", entities=(), rule_id="R") for number in range(1, 42)]
    others = [an_alert(number, title=f"{chr(number - 35)} is odd", rule_id=str(number)) for number in range(100, 126)]
    alerts = [*storm[:15], *others, *storm[15:]]
    times = [NOON - timedelta(minutes=number) for number in range(len(alerts))]
    alerts = [msgspec.structs.replace(alert, created=at) for alert, at in zip(alerts, times, strict=True)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        for budget in range(LEAST, 700, 20):
            result = await client.call_tool("list_alerts", {"budget": budget, "limit": 30})
            assert tokens(result) <= budget


async def test_rows_with_fields_are_fewer_before_they_are_less(era: str, tmp_path: Path) -> None:
    alerts = [an_alert(number, description="It happened. " * 20) for number in range(1, 11)]
    asked = {"fields": ["description"], "budget": 700}
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = data_of(await client.call_tool("list_alerts", asked | cursor))
            assert all(row["description"] == alerts[0].description for row in page["alerts"])
            seen += [row["id"] for row in page["alerts"]]
            if "next_cursor" not in page:
                break
            assert re.match(r"\d of (10|[5-9]) rows; in full \d+ tokens", page["reduced"])
            cursor = {"cursor": page["next_cursor"]}
    assert seen == [alert.id for alert in alerts]


@pytest.mark.parametrize("budget", [LEAST - 1, 50_001, "much"])
async def test_a_budget_beyond_its_bounds_is_refused(era: str, budget: Any, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        for name, arguments in questions("xdr/1"):
            result = await client.call_tool(name, arguments | {"budget": budget})
            assert result.is_error
            assert "budget" in result.content[0].text  # type: ignore[union-attr]


async def test_no_text_is_told_both_structured_and_as_text(era: str, tmp_path: Path) -> None:
    alert = an_alert(1, status=Status.RESOLVED)
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        for name, arguments in questions(alert.id):
            for as_text in (False, True):
                result = await client.call_tool(name, arguments | {"as_text": as_text})
                texts = {text for text in _texts(result.structured_content) if len(text) > 12}
                line = result.content[0].text  # type: ignore[union-attr]
                assert not {text for text in texts if text in line}


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
        case _:
            return []
