"""Writing to a simulated alert: a new revision that is true from then on, whatever the company does next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from xdr_mcp.simulator import Estate, create_app
from xdr_mcp.simulator.revision import canonical, digest_of

pytestmark = pytest.mark.anyio

ClientOf = Callable[[Starlette], httpx.AsyncClient]


async def one(client: httpx.AsyncClient, alert_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/alerts/{alert_id}")).json()["data"]
    return found


async def write(client: httpx.AsyncClient, alert_id: str, **attributes: Any) -> httpx.Response:
    body = {"data": {"id": alert_id, "type": "alert", "attributes": attributes}}
    return await client.patch(f"/alerts/{alert_id}", json=body)


def truth(app: Starlette) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in app.state.simulator.truth()}


@pytest.mark.parametrize("bulk", [False, True])
async def test_what_is_written_is_a_new_revision_of_that_alert_alone(
    clock: Any, client_of: ClientOf, *, bulk: bool
) -> None:
    estate = Estate(clock=clock, alerts=0 if bulk else 20, rate=0 if bulk else 12, stories=not bulk)
    if bulk:
        estate.bulk(20)
    app = create_app(estate)
    estate.freeze()
    async with client_of(app) as client:
        before = truth(app)
        alert_id = min(before)
        clock.advance(minutes=1)
        told = (await write(client, alert_id, status="ACK_FP", assignee="alice", note="Known.")).json()["data"]
        after = truth(app)
        listed = (await client.get("/alerts", params={"sort": "-updatedAt", "page[limit]": 1})).json()["data"]
    assert told["attributes"]["status"] == "ACK_FP"
    assert told["attributes"]["assignee"] == "alice"
    assert [note["note"] for note in told["attributes"]["supportingData"]["notes"]][-1] == "Known."
    assert after[alert_id]["revision"] == before[alert_id]["revision"] + 1
    assert after[alert_id]["updatedAt"] > before[alert_id]["updatedAt"]
    assert after[alert_id]["digest"] == digest_of(canonical(told))
    assert listed == [told]
    assert {name for name in after if after[name] != before.get(name)} == {alert_id}


async def test_what_the_company_does_later_keeps_what_was_written(clock: Any, client_of: ClientOf) -> None:
    app = create_app(Estate(clock=clock, speed=60, history=timedelta(hours=1)))
    async with client_of(app) as client:
        for alert_id in truth(app):
            await write(client, alert_id, status="IN_PROGRESS", assignee="alice")
        written = truth(app)
        clock.advance(minutes=30)
        moved = [name for name, line in truth(app).items() if name in written and line != written[name]]
        assert moved
        for alert_id in moved:
            attributes = (await one(client, alert_id))["attributes"]
            assert (attributes["status"], attributes["assignee"]) == ("IN_PROGRESS", "alice")
        assert all(truth(app)[name]["revision"] > written[name]["revision"] for name in moved)


async def test_a_status_that_is_taken_back_is_no_suppression_any_more(clock: Any, client_of: ClientOf) -> None:
    app = create_app(Estate(clock=clock, alerts=3))
    async with client_of(app) as client:
        alert_id = min(truth(app))
        suppressed = (await write(client, alert_id, status="SUPPRESS")).json()["data"]["attributes"]
        back = (await write(client, alert_id, status="NEW")).json()["data"]["attributes"]
    assert (suppressed["isSuppressed"], bool(suppressed["suppressedTime"])) == (True, True)
    assert (back["isSuppressed"], back["suppressedTime"]) == (False, None)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"status": "CLOSED"}, {"severity": 1}, {"assignee": 7}, {"note": ""}, {"note": "x" * 5_001}, {"status": []}],
)
async def test_what_cannot_be_written_is_refused(attributes: Any, clock: Any, client_of: ClientOf) -> None:
    app = create_app(Estate(clock=clock, alerts=3))
    async with client_of(app) as client:
        before = truth(app)
        alert_id = min(before)
        assert (await write(client, alert_id, **attributes)).status_code == 422
        assert (await client.patch(f"/alerts/{alert_id}", json={"data": []})).status_code == 422
        assert (await client.patch(f"/alerts/{alert_id}", content=b"[")).status_code == 400
        assert (await write(client, "nothing", status="NEW")).status_code == 404
        assert truth(app) == before
