"""Microsoft Defender XDR from Graph's pages to an assistant's answer, by real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fake_graph
import pytest
from fake_graph import FakeGraph, serving
from flow import (
    ARCHIVE,
    STORE,
    all_changes,
    assistant,
    call,
    every_row,
    listed,
    minutes_ago,
    poll_once,
    published,
    read,
    record_in,
    recorded,
    run,
    without_what_changes,
)
from program import settings_for, simulated
from truth import Vendor, check_archive, differences, digest_of

from xdr_mcp.alert import ChangeKind, Severity

pytestmark = pytest.mark.anyio

Records = list[dict[str, Any]]
ORIGINS = {
    "the published records": lambda: published("microsoft", "graph_alert_v2"),
    "our recordings": lambda: recorded("microsoft"),
}


def settings(url: str, folder: Path, **more: str) -> dict[str, str]:
    options = {f"XDR_MICROSOFT_{name}".upper(): value for name, value in fake_graph.options(url).items()}
    places = {"XDR_DATA_DIR": str(folder / "data"), "XDR_ALERTS_DIR": str(folder / ARCHIVE)}
    return {"XDR_SOURCES": "microsoft", **options, **places, **more}


def recent(records: Records) -> Records:
    """The records as if they had been updated in the last minutes: the later in the list, the later. Ids may repeat."""
    moments = (minutes_ago(len(records) - number) for number in range(len(records)))
    return [
        record | {"lastUpdateDateTime": moment.replace("Z", "1234Z")}  # Graph writes seven digits
        for record, moment in zip(records, moments, strict=True)
    ]


def put_first_versions(graph: FakeGraph, records: Records) -> Records:
    """Serve the first record of each id; those left over are later versions."""
    later = []
    seen: set[str] = set()
    for record in records:
        if record["id"] in seen:
            later.append(record)
        else:
            graph.put(record)
        seen.add(record["id"])
    return later


def by_raw(changes: list[Any]) -> list[dict[str, Any]]:
    return sorted((json.loads(change.raw) for change in changes), key=json.dumps)


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
async def test_records_are_polled_stored_archived_filtered_and_read(
    origin: Callable[[], Records], tmp_path: Path
) -> None:
    records = recent(origin())
    graph = FakeGraph(largest_page=2)
    later = put_first_versions(graph, records)
    first = [record for record in records if record not in later]
    async with serving(graph) as url:
        env = settings(url, tmp_path)
        assert f"{len(first)} new" in await poll_once(tmp_path, env)
        for record in later or [first[0] | {"status": "resolved", "lastUpdateDateTime": minutes_ago(0)}]:
            graph.put(record)
            first.append(record)
        assert "0 new, 1 changed" in await poll_once(tmp_path, env)
    assert graph.tokens_issued == 2

    changes = await all_changes(tmp_path)
    assert by_raw(changes) == sorted(first, key=json.dumps)
    assert [change.kind for change in changes].count(ChangeKind.CREATED) == len({record["id"] for record in first})
    check_archive(changes, tmp_path / ARCHIVE)

    newest = {record["id"]: record for record in first}
    await check_the_command_line(newest, tmp_path, env)
    await check_the_assistant(newest, tmp_path, env)


async def check_the_command_line(newest: dict[str, dict[str, Any]], folder: Path, env: dict[str, str]) -> None:
    found = {alert["vendor_id"]: alert for alert in await listed("source:microsoft", folder, env)}
    assert found.keys() == newest.keys()
    for identifier, alert in found.items():
        record = newest[identifier]
        assert alert["title"] == record["title"]
        assert Severity(alert["severity"]) == Severity(record["severity"])
    high = {identifier for identifier, record in newest.items() if Severity(record["severity"]).rank >= 4}
    assert {alert["vendor_id"] for alert in await listed("severity>=high", folder, env)} == high
    unsolved = {identifier for identifier, record in newest.items() if record.get("status") != "resolved"}
    assert {alert["vendor_id"] for alert in await listed("not status:resolved", folder, env)} == unsolved
    assert await listed("source:xdr", folder, env) == []


async def check_the_assistant(newest: dict[str, dict[str, Any]], folder: Path, env: dict[str, str]) -> None:
    async with assistant(folder, env) as client:
        rows = await every_row(client, source="microsoft")
        assert {row["id"] for row in rows} == {f"microsoft/{identifier}" for identifier in newest}
        for row in rows:
            record = newest[row["id"].removeprefix("microsoft/")]
            whole = await call(client, "get_alert", id=row["id"], include_raw=True)
            assert whole["alert"]["title"] == record["title"]
            assert record_in(whole).keys() == record.keys()
            resource = await read(client, f"xdr://alerts/{quote(row['id'], safe='')}")
            assert without_what_changes(resource) == without_what_changes(whole)
            (found,) = (await call(client, "filter_alerts", query=f'id:"{record["id"]}"'))["alerts"]
            assert found == row
            await check_that_evidence_is_found(client, record, row["id"])


async def check_that_evidence_is_found(client: Any, record: dict[str, Any], alert_id: str) -> None:
    """Pivot on every host, user and file that the record names."""
    fields = {"deviceDnsName": "host", "userPrincipalName": "user", "fileName": "file", "sha1": "hash"}
    for name, value in texts_of(record):
        if name in fields:
            query = f'{fields[name]}:"{value}"'
            found = await call(client, "filter_alerts", query=query)
            assert alert_id in {row["id"] for row in found["alerts"]}, query


def texts_of(value: Any) -> set[tuple[str, str]]:
    """Every named text that is not empty, however deep."""
    if isinstance(value, list):
        return set().union(*map(texts_of, value))
    if not isinstance(value, dict):
        return set()
    own = {(name, text) for name, text in value.items() if isinstance(text, str) and text}
    return own.union(*map(texts_of, value.values()))


async def test_two_vendors_share_a_store_and_stay_apart(tmp_path: Path) -> None:
    graph = FakeGraph(largest_page=2)
    records = recent(recorded("microsoft"))
    put_first_versions(graph, records)
    with simulated("--alerts", "120", "--seed", "4", folder=tmp_path) as xdr_url, Vendor(xdr_url) as vendor:
        vendor.calm()
        async with serving(graph) as url:
            env = settings_for(xdr_url, tmp_path, **settings(url, tmp_path, XDR_SOURCES="xdr,microsoft"))
            told = await poll_once(tmp_path, env)
        truth = vendor.newest_versions()
    assert f"xdr: {len(truth)} new" in told
    assert f"microsoft: {len(records)} new" in told

    changes = await all_changes(tmp_path)
    assert {change.alert.source for change in changes} == {"xdr", "microsoft"}
    kept = {change.alert.vendor_id: digest_of(change.raw) for change in changes if change.alert.source == "xdr"}
    assert differences(kept, truth) == {}
    check_archive(changes, tmp_path / ARCHIVE)
    assert (tmp_path / STORE).is_file()

    async with assistant(tmp_path, env) as client:
        for source, count in (("xdr", len(truth)), ("microsoft", len(records))):
            page = await call(client, "list_alerts", source=source, limit=100)
            assert page["total"] == count
            assert {row["id"].partition("/")[0] for row in page["alerts"]} == {source}
        coverage = (await call(client, "list_alerts", limit=1))["coverage"]
        assert {told["source"]: told["state"] for told in coverage} == {"xdr": "ok", "microsoft": "ok"}


async def test_one_vendor_s_failure_does_not_keep_the_other_s_alerts_out(tmp_path: Path) -> None:
    graph = FakeGraph()
    records = recent(recorded("microsoft"))
    put_first_versions(graph, records)
    async with serving(graph) as url:
        env = settings_for(url, tmp_path, **settings(url, tmp_path, XDR_SOURCES="xdr,microsoft"))
        done = await run("poll", "--once", folder=tmp_path, env=env)
    assert done.returncode == 1
    assert "404" in done.stderr  # Graph has no such API
    changes = await all_changes(tmp_path)
    assert {change.alert.source for change in changes} == {"microsoft"}
    check_archive(changes, tmp_path / ARCHIVE)
