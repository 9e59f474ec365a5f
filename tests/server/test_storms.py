from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from serving import ERAS, NOON, Clock, a_server, an_alert, data_of, read, save

from xdr_mcp.alert import Alert, Entity, EntityKind, Severity, Status
from xdr_mcp.query import fold, matches, parse
from xdr_mcp.server.answers.faces import face_of, template
from xdr_mcp.server.answers.listing import SCANNED
from xdr_mcp.server.answers.storms import MEMBERS_NAMED, Storm, members_query

pytestmark = pytest.mark.anyio
each_era = pytest.mark.parametrize("era", ERAS)


def firing(number: int, **changes: Any) -> Alert:
    """One of many near-duplicates: the same rule on the same host, another process id and hash each time."""
    told = {
        "title": f"Beacon to 10.0.{number % 200}.7 from process {4000 + number}",
        "rule_id": "R-17",
        "rule_name": "Beacon",
        "entities": (Entity(EntityKind.HOST, "db-01.example.com"), Entity(EntityKind.PROCESS, f"p{number}.exe")),
    }
    return an_alert(number, **told | changes)


def members(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [alert_id for row in rows for alert_id in (row["id"], *row.get("ids", ()))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Beacon to 10.0.3.7:443", "beacon to 192.168.14.1:8080"),
        ("Job 3f2a9c1e-0d4b-4f6e-9a51-0c2d5e7f8a90 failed", "Job 00000000-0000-0000-0000-000000000001 failed"),
        ("Dropped d41d8cd98f00b204e9800998ecf8427e", "Dropped 0cc175b9c0f1b6a831c399e269772661"),
        ("12 failed logons at 2026-03-01 11:59", "3,481 failed logons at 2026-02-28 07:00"),
        ("Process pid=4711", "Process pid=12"),
    ],
)
def test_what_a_counter_a_clock_or_a_hash_wrote_is_no_part_of_a_template(one: str, other: str) -> None:
    assert template(one) == template(other)


@given(
    st.text("0123456789abcdefgzé#-.:,/ ", max_size=60)
    | st.lists(st.sampled_from([*"19afz- .", "3f2a9c1e-0d4b-4f6e-9a51-", "0c2d5e7f8a90"])).map("".join)
)
def test_what_varies_is_a_uuid_a_hexadecimal_id_or_a_number(title: str) -> None:
    uuid, number = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", r"[0-9]+(?:[.:,/-][0-9]+)*"
    hexadecimal = r"(?<![0-9a-z])(?=[a-f]*[0-9])[0-9a-f]{6,}(?![0-9a-z])"
    assert template(title) == re.sub(f"{uuid}|{hexadecimal}|{number}", "#", fold(title))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Beacon to 10.0.3.7", "Beacon from 10.0.3.7"),
        ("Failed logon of alice", "Failed logon of bob"),
        ("Facade loaded", "Decade loaded"),  # words that are spelled with hexadecimal digits
    ],
)
def test_words_are_part_of_a_template(one: str, other: str) -> None:
    assert template(one) != template(other)


@pytest.mark.parametrize(
    "change",
    [
        {"severity": Severity.LOW},
        {"status": Status.RESOLVED},
        {"rule_id": "R-18"},
        {"source": "graph"},
        {"entities": (Entity(EntityKind.HOST, "db-02.example.com"),)},
        {"title": "Something else"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_a_row_says_is_true_of_all_that_it_stands_for(change: dict[str, Any]) -> None:
    assert face_of(firing(1)).fingerprint == face_of(firing(2)).fingerprint
    assert face_of(firing(1)).fingerprint != face_of(firing(2, **change)).fingerprint


@each_era
async def test_a_few_near_duplicates_share_a_row_that_names_them_all(era: str, tmp_path: Path) -> None:
    alerts = [firing(1), an_alert(2), firing(3), firing(5)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        page = data_of(await client.call_tool("list_alerts", {}))
    assert page["total"] == 4
    assert [row["id"] for row in page["alerts"]] == [alerts[0].id, alerts[1].id]
    storm = page["alerts"][0]
    assert (storm["count"], storm["first"], storm["last"]) == (3, "2026-03-01T11:55:00Z", "2026-03-01T11:59:00Z")
    assert storm["ids"] == [alerts[2].id, alerts[3].id]
    assert "count" not in page["alerts"][1]


@each_era
async def test_a_storm_pushes_nothing_else_out_and_its_members_are_found_by_its_query(era: str, tmp_path: Path) -> None:
    storm = [firing(number) for number in range(1, 301)]
    others = [an_alert(number) for number in range(301, 306)]
    async with a_server(tmp_path, *storm, *others) as (server, _), Client(server.mcp, mode=era) as client:
        result = await client.call_tool("filter_alerts", {"query": "severity:high"})
        page = data_of(result)
        told = page["alerts"][0]
        found: list[str] = []
        arguments: dict[str, Any] = {"query": told["query"], "fields": ["title"], "limit": 100}
        while True:
            listed = data_of(await client.call_tool("filter_alerts", arguments))
            found += members(listed["alerts"])
            if "next_cursor" not in listed:
                break
            arguments["cursor"] = listed["next_cursor"]
    assert [row["id"] for row in page["alerts"]] == [storm[0].id, *(alert.id for alert in others)]
    assert told["count"] == 300
    assert "ids" not in told
    assert found == [alert.id for alert in storm]
    assert "305 of 305 alerts, newest first, in 6 rows" in result.content[0].text  # type: ignore[union-attr]


async def test_a_storm_of_the_past_is_asked_for_as_it_was(tmp_path: Path) -> None:
    clock = Clock()
    storm = [firing(number) for number in range(1, 31)]
    async with a_server(tmp_path, *storm, clock=clock) as (server, store), Client(server.mcp) as client:
        clock.now += timedelta(hours=1)
        await save(store, *(firing(number, status=Status.RESOLVED, updated=clock.now) for number in range(1, 31)))
        clock.now += timedelta(hours=1)
        then = data_of(await client.call_tool("list_alerts", {"as_of": "-90m"}))
        (row,) = then["alerts"]
        asked = {"query": row["query"], "as_of": row["as_of"], "fields": ["status"], "limit": 100}
        found = data_of(await client.call_tool("filter_alerts", asked))
        (now,) = data_of(await client.call_tool("list_alerts", {}))["alerts"]
    assert row["as_of"] == then["as_of"]
    assert [each["status"] for each in found["alerts"]] == ["new"] * 30
    assert "as_of" not in now


@each_era
async def test_a_storm_larger_than_one_page_reads_goes_on_on_the_next(era: str, tmp_path: Path) -> None:
    storm = [firing(number) for number in range(1, SCANNED + 31)]
    async with a_server(tmp_path, *storm, an_alert(5_000)) as (server, _), Client(server.mcp, mode=era) as client:
        first = data_of(await client.call_tool("list_alerts", {"limit": 2}))
        second = data_of(await client.call_tool("list_alerts", {"limit": 2, "cursor": first["next_cursor"]}))
    assert [row["count"] for row in first["alerts"]] == [SCANNED]
    assert [row.get("count", 1) for row in second["alerts"]] == [30, 1]
    assert "next_cursor" not in second


@pytest.mark.parametrize("seed", range(6))
async def test_pages_lead_through_every_alert_once_however_storms_are_strewn(seed: int, tmp_path: Path) -> None:
    random = Random(seed)  # noqa: S311 (makes up alerts)
    kinds = [firing, lambda number: firing(number, rule_id="R-18"), an_alert]
    alerts = [random.choice(kinds)(number) for number in range(1, 91)]
    limit, budget = random.choice([1, 3, 7]), random.choice([200, 300, None])
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp) as client:
        seen: list[str] = []
        counted = 0
        arguments: dict[str, Any] = {"limit": limit} | ({"budget": budget} if budget else {})
        while True:
            page = data_of(await client.call_tool("list_alerts", arguments))
            assert 1 <= len(page["alerts"]) <= limit
            counted += sum(row.get("count", 1) for row in page["alerts"])
            seen += members(page["alerts"])
            if "next_cursor" not in page:
                break
            arguments["cursor"] = page["next_cursor"]
    assert counted == page["total"] == len(alerts)
    assert len(seen) == len(set(seen))
    assert set(seen) <= {alert.id for alert in alerts}
    if limit == 1:  # no storm is larger than what is named, so that every id was told
        assert len(seen) == len(alerts)


@each_era
async def test_with_fields_each_alert_has_its_own_row(era: str, tmp_path: Path) -> None:
    alerts = [firing(number) for number in range(1, 6)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        rows = data_of(await client.call_tool("list_alerts", {"fields": "title,created"}))["alerts"]
    assert [row["title"] for row in rows] == [alert.title for alert in alerts]


@each_era
async def test_the_resources_fold_storms_too(era: str, tmp_path: Path) -> None:
    storm = [firing(number) for number in range(1, 61)]
    async with a_server(tmp_path, *storm, an_alert(99)) as (server, _), Client(server.mcp, mode=era) as client:
        for uri in ("xdr://alerts/recent", "xdr://alerts/search?q=severity:high"):
            told = await read(client, uri)
            assert [row.get("count", 1) for row in told["alerts"]] == [60, 1]
            assert told["more"] is False


def test_the_query_of_a_storm_is_said_only_with_what_can_be_said() -> None:
    hostile = firing(1, rule_id='R"17\\', entities=(Entity(EntityKind.HOST, "db\u202e01"),))
    storm = Storm.of(hostile)
    storm.add(firing(2, created=NOON - timedelta(hours=1), updated=NOON))
    query = members_query(storm, "since:-2d")
    assert query.startswith('(since:-2d) source:xdr rule:"R\\"17\\\\" severity:high')
    assert "host" not in query
    assert MEMBERS_NAMED == 20


@pytest.mark.parametrize(
    "title",
    [
        "Malware on web{}",
        "{}th attempt",
        "srv{}db failed over",
        "日本{}語",
        "x{}y{}z",
        "Job_{}_of acme",
        "{}",
        "Beacon to {}",
    ],
)
def test_the_query_of_a_storm_finds_every_member_wherever_its_titles_differ(title: str) -> None:
    alerts = [firing(number, title=title.format(4000 + number, number)) for number in range(1, 31)]
    storm = Storm.of(alerts[0])
    for alert in alerts[1:]:
        assert face_of(alert).fingerprint == face_of(alerts[0]).fingerprint
        storm.add(alert)
    query = parse(members_query(storm, ""), now=NOON)
    assert all(matches(query, alert) for alert in alerts)
