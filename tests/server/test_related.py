from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from serving import ERAS, NOON, a_server, an_alert, data_of, fault_of

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind
from xdr_mcp.server.answers.related import SHARED_BY_MOST

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

HOST, USER, IP = EntityKind.HOST, EntityKind.USER, EntityKind.IP


def about(number: int, *entities: tuple[EntityKind, str], hours: float = 0, **changes: Any) -> Alert:
    """An alert about these, so many hours before noon, like no other in its title."""
    told = {"title": f"Alert {'abcdefghijklmnopqrstuvwxyz'[number % 26] * 5}", "created": NOON - timedelta(hours=hours)}
    return an_alert(number, entities=tuple(Entity(kind, value) for kind, value in entities), **told | changes)


async def related(client: Client, alert: Alert, **arguments: Any) -> dict[str, Any]:
    return data_of(await client.call_tool("related_alerts", {"id": alert.id, **arguments}))


async def test_what_few_share_relates_more_strongly_than_what_many_share(era: str, tmp_path: Path) -> None:
    asked = about(1, (HOST, "web-01"), (USER, "alice"), (IP, "203.0.113.9"))
    rare = about(2, (IP, "203.0.113.9"), hours=40)
    both = about(3, (USER, "alice"), (HOST, "web-01"), hours=30)
    common = [about(number, (USER, "alice"), hours=20 + number) for number in range(4, 24)]
    unrelated = about(30, (HOST, "db-01"))
    async with (
        a_server(tmp_path, asked, rare, both, *common, unrelated) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        told = await related(client, asked, limit=100)
    ids = [row["id"] for row in told["alerts"]]
    assert ids[:2] == [both.id, rare.id]
    assert told["total"] == 22
    assert unrelated.id not in ids
    assert asked.id not in ids
    assert told["alerts"][0]["why"] == ["host:web-01 (2 alerts)", "user:alice (22 alerts)"]
    assert told["alerts"][1]["why"] == ["ip:203.0.113.9 (2 alerts)"]
    assert [row["created"] for row in told["alerts"][2:]] == sorted(
        (row["created"] for row in told["alerts"][2:]), reverse=True
    )


async def test_rule_case_and_technique_relate_too_and_closeness_in_time_adds_to_it(era: str, tmp_path: Path) -> None:
    powershell = (Attack(technique="T1059.001"),)
    asked = about(1, rule_id="R-1", labels=("case:77", "vip"), attacks=powershell)
    same_case = about(2, labels=("case:77",), hours=9)
    same_rule = about(3, rule_id="R-1", hours=9)
    same_technique = about(4, attacks=powershell, hours=9)
    near = about(5, rule_id="R-1", hours=0.25)
    same_label = about(6, labels=("vip",))
    alerts = (asked, same_case, same_rule, same_technique, near, same_label)
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        told = await related(client, asked)
    assert [row["id"] for row in told["alerts"]] == [same_case.id, near.id, same_rule.id, same_technique.id]
    assert [row["why"] for row in told["alerts"]] == [
        ["label:case:77 (2 alerts)"],
        ["rule:R-1 (3 alerts)", "900 s earlier"],
        ["rule:R-1 (3 alerts)"],
        ["technique:T1059.001 (2 alerts)"],
    ]


async def test_one_host_or_user_is_the_same_however_vendors_write_its_name(era: str, tmp_path: Path) -> None:
    asked = about(1, (HOST, "WEB-01.corp.example"), (USER, "CORP\\alice"))
    other = about(2, (HOST, "web-01"), source="graph", hours=9)
    third = about(3, (USER, "alice@corp.example"), source="graph", hours=9)
    async with a_server(tmp_path, asked, other, third) as (server, _), Client(server.mcp, mode=era) as client:
        told = await related(client, asked)
    assert {row["id"] for row in told["alerts"]} == {other.id, third.id}


async def test_what_too_many_share_is_not_followed_and_that_is_said(era: str, tmp_path: Path) -> None:
    crowd = [about(number, (USER, "system"), hours=number) for number in range(100, 100 + SHARED_BY_MOST)]
    some = [about(number, (HOST, "web-01"), hours=number) for number in range(2, 90)]
    asked = about(1, (HOST, "web-01"), (USER, "system"))
    async with a_server(tmp_path, asked, *some, *crowd) as (server, _), Client(server.mcp, mode=era) as client:
        told = await related(client, asked)
    assert all(row["why"][0].startswith("host:web-01") for row in told["alerts"])
    assert told["not_followed"] == [
        {"shared": "host:web-01", "alerts": 89, "read": 50},
        {"shared": "user:system", "alerts": SHARED_BY_MOST + 1, "read": 0},
    ]


async def test_near_duplicates_among_the_related_share_a_row(era: str, tmp_path: Path) -> None:
    asked = about(1, (IP, "203.0.113.9"))
    storm = [about(2, (IP, "203.0.113.9"), vendor_id=f"s{number}", hours=number) for number in range(3, 9)]
    async with a_server(tmp_path, asked, *storm) as (server, _), Client(server.mcp, mode=era) as client:
        told = await related(client, asked)
    (row,) = told["alerts"]
    assert row["count"] == 6
    assert {row["id"], *row["ids"]} == {alert.id for alert in storm}


async def test_alone_in_the_store_an_alert_has_no_relatives(era: str, tmp_path: Path) -> None:
    asked = about(1, (HOST, "web-01"))
    async with (
        a_server(tmp_path, asked, about(2, (HOST, "db-01"))) as (server, _),
        Client(server.mcp, mode=era) as client,
    ):
        told = await related(client, asked)
        fault = fault_of(await client.call_tool("related_alerts", {"id": "xdr/nothing"}))
    assert (told["alerts"], told["total"]) == ([], 0)
    assert "No alert has the id xdr/nothing" in fault
