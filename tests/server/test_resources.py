from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from mcp import Client, MCPError
from serving import ERAS, NOON, a_server, an_alert, fenced_in, poller_of, read, report, save

from xdr_mcp.alert import Severity
from xdr_mcp.interfaces import DeadLetter, Health, Window

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

INVALID_PARAMS = -32602


async def test_resources_are_listed_with_types_and_descriptions(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    assert [str(resource.uri) for resource in resources] == ["xdr://alerts/recent", "xdr://status"]
    assert [template.uri_template for template in templates] == ["xdr://alerts/search{?q}", "xdr://alerts/{id}"]
    assert {told.mime_type for told in resources} | {told.mime_type for told in templates} == {"application/json"}
    assert all(told.description for told in resources)
    assert all(told.description for told in templates)


async def test_recent_holds_the_newest_alerts_and_coverage(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, *map(an_alert, range(1, 31))) as (server, store):
        await report(store, "ok", last_success=NOON)
        async with Client(server.mcp, mode=era) as client:
            recent = await read(client, "xdr://alerts/recent")
    assert [row["id"] for row in recent["alerts"]] == [an_alert(number).id for number in range(1, 26)]
    assert recent["more"] is True
    assert recent["coverage"] == [{"source": "xdr", "state": "ok", "age_s": 0}]


@pytest.mark.parametrize(
    "vendor_id", ["A-1", "a/b", "../../etc/passwd", "50%", "a?b#c", "übel\u202e\x00", "a b+c", "/root"]
)
async def test_an_alert_is_read_under_its_encoded_id_however_hostile(era: str, vendor_id: str, tmp_path: Path) -> None:
    alert = an_alert(1, vendor_id=vendor_id)
    async with a_server(tmp_path, alert) as (server, _), Client(server.mcp, mode=era) as client:
        for uri in (f"xdr://alerts/{quote(alert.id, safe='')}", f"xdr://alerts/xdr/{quote(vendor_id)}"):
            told = await read(client, uri)
            assert told["alert"]["title"] == alert.title
            assert fenced_in(told["raw"]) == ['{"vendor":"record"}']


@pytest.mark.parametrize(
    "uri", ["xdr://alerts/xdr%2Fmissing", "xdr://alerts/nosource", "xdr://nothing", "xdr://alerts/xdr/../../secret"]
)
async def test_what_is_not_there_is_invalid_params_in_both_eras(era: str, uri: str, tmp_path: Path) -> None:
    async with a_server(tmp_path, an_alert(1)) as (server, _), Client(server.mcp, mode=era) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
    assert refused.value.code == INVALID_PARAMS


async def test_a_saved_search_holds_what_matches_now(era: str, tmp_path: Path) -> None:
    alerts = [an_alert(1), an_alert(2, severity=Severity.LOW), an_alert(3)]
    async with a_server(tmp_path, *alerts) as (server, _), Client(server.mcp, mode=era) as client:
        found = await read(client, f"xdr://alerts/search?q={quote('severity>=high and host:web*')}")
        everything = await read(client, "xdr://alerts/search")
        with pytest.raises(MCPError, match="hst") as refused:
            await client.read_resource(f"xdr://alerts/search?q={quote('hst:web*')}")
    assert [row["id"] for row in found["alerts"]] == [alerts[0].id, alerts[2].id]
    assert len(everything["alerts"]) == 3
    assert refused.value.code == INVALID_PARAMS


async def test_status_tells_lag_look_back_gaps_errors_with_remedy_holder_position_and_dead_letters(
    era: str, tmp_path: Path
) -> None:
    async with a_server(tmp_path, an_alert(1), facts=lambda: {"data_dir": "here"}) as (server, store):
        lease = await poller_of(store, "xdr")
        await store.cover("xdr", Window(NOON - timedelta(hours=9), NOON - timedelta(hours=3)), lease)
        await store.cover("xdr", Window(NOON - timedelta(hours=2), NOON - timedelta(seconds=40)), lease)
        await save(store, an_alert(2))  # as late as two minutes
        error = {"last_error": "503 from the vendor", "last_error_at": NOON, "remedy": "see its status page"}
        health = Health(state="ok", last_attempt=NOON, last_success=NOON, look_back=420.0, **error)  # type: ignore[arg-type]
        await store.report("xdr", health, lease)
        await store.bury(DeadLetter(sink="archive", seq=1, reason="its name is too long", at=NOON))
        await store.move("archive", 1)
        async with Client(server.mcp, mode=era) as client:
            status = await read(client, "xdr://status")
        seq = await store.last_seq()
    assert status["data_dir"] == "here"
    assert status["seq"] == seq
    (source,) = status["sources"]
    assert source["source"] == "xdr"
    assert source["state"] == "ok"
    assert source["age_s"] == 40
    assert source["alerts"] == 2
    assert source["last_success"] == "2026-03-01T12:00:00Z"
    assert source["covered"] == [
        ["2026-03-01T03:00:00Z", "2026-03-01T09:00:00Z"],
        ["2026-03-01T10:00:00Z", "2026-03-01T11:59:20Z"],
    ]
    assert source["gaps"] == [["2026-03-01T09:00:00Z", "2026-03-01T10:00:00Z"]]
    assert source["polled_by"] == "tests"
    assert (source["lag_p50_s"], source["lag_p99_s"], source["look_back_s"]) == (120, 120, 420)
    assert (source["last_error"], source["remedy"]) == ("503 from the vendor", "see its status page")
    assert status["sinks"] == [{"sink": "archive", "behind": 1, "dead_letters": 1}]
