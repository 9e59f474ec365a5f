"""Records of the XDR Alert Management API, from its pages to an assistant's answer, by real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fake_xdr import TOKEN, FakeXdr, serving
from flow import (
    ARCHIVE,
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
    without_what_changes,
)
from program import settings_for
from truth import check_archive

from xdr_mcp.alert import ChangeKind, Status

pytestmark = pytest.mark.anyio

Records = list[dict[str, Any]]
ORIGINS = {
    "the published records": lambda: published("trellix", "xdr_jsonapi_alert_SYNTHETIC"),
    "our recordings": lambda: recorded("xdr"),
}


def updated(record: dict[str, Any], moment: str, **changes: Any) -> dict[str, Any]:
    return record | {"attributes": record["attributes"] | changes | {"updatedAt": moment}}


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
async def test_records_are_polled_stored_archived_filtered_and_read(
    origin: Callable[[], Records], tmp_path: Path
) -> None:
    records = [updated(record, minutes_ago(10 + number)) for number, record in enumerate(origin())]
    vendor = FakeXdr(largest_page=2)
    for record in records:
        vendor.put(record)
    async with serving(vendor) as url:
        env = settings_for(url, tmp_path, XDR_AUTH_TOKEN=TOKEN)
        assert f"{len(records)} new" in await poll_once(tmp_path, env)
        closed = updated(records[0], minutes_ago(1), status="ACK_COMPLETE")
        vendor.put(closed)
        assert "0 new, 1 changed" in await poll_once(tmp_path, env)
        asked = len(vendor.requests)
        assert "0 new, 0 changed" in await poll_once(tmp_path, env)
        assert len(vendor.requests) > asked

    changes = await all_changes(tmp_path)
    served = sorted([*records, closed], key=json.dumps)
    assert sorted((json.loads(change.raw) for change in changes), key=json.dumps) == served
    assert changes[-1].kind == ChangeKind.CLOSED
    check_archive(changes, tmp_path / ARCHIVE)

    newest = {record["id"]: record for record in [*records, closed]}
    found = {alert["vendor_id"]: alert for alert in await listed("source:xdr", tmp_path, env)}
    assert {identifier: alert["title"] for identifier, alert in found.items()} == {
        identifier: record["attributes"]["name"] for identifier, record in newest.items()
    }
    assert closed["id"] in {alert["vendor_id"] for alert in await listed("status:resolved", tmp_path, env)}

    async with assistant(tmp_path, env) as client:
        rows = await every_row(client)
        assert {row["id"]: row["title"] for row in rows} == {f"xdr/{key}": found[key]["title"] for key in newest}
        for row in rows:
            await check_that_it_is_read_whole(client, row, newest[row["id"].removeprefix("xdr/")])


async def check_that_it_is_read_whole(client: Any, row: dict[str, Any], record: dict[str, Any]) -> None:
    whole = await call(client, "get_alert", id=row["id"], include_raw=True)
    assert record_in(whole) == record
    resource = await read(client, f"xdr://alerts/{quote(row['id'], safe='')}")
    assert without_what_changes(resource) == without_what_changes(whole)
    attributes = record["attributes"]
    conditions = [f'id:"{record["id"]}"', f'rule:"{attributes["ruleId"]}"', f'"{attributes["name"]}"']
    conditions += [f"technique:{attack['technique']}" for attack in whole["alert"].get("attacks", ())]
    conditions += [f'{entity["kind"]}:"{entity["value"]}"' for entity in whole["alert"].get("entities", ())]
    for condition in [*conditions, " and ".join(conditions)]:
        found = (await call(client, "filter_alerts", query=condition))["alerts"]
        assert row in found, condition
    assert Status(row["status"]).closed == any(word in str(attributes["status"]) for word in ("ACK", "SUPPRESS"))
