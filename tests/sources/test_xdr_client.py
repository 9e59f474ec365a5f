"""The XDR client as a library: every endpoint, the query dialect, walking lists, callbacks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
import respx
import stamina
from moving_api import BEGIN, MovingApi, alert
from pydantic import SecretStr

from xdr_mcp.errors import AuthenticationError, BadResponse, NotFound, SourceError
from xdr_mcp.sources.xdr import XdrClient, XdrOptions

pytestmark = pytest.mark.anyio

BASE = "https://api.xdr.example.com/xdr-alert"
OPTIONS = XdrOptions(base_url=BASE, auth_token=SecretStr("a-token"), requests_per_minute=1_000_000)


@pytest.fixture(autouse=True)
def no_back_off() -> Iterator[None]:
    stamina.set_testing(True, attempts=2, cap=True)
    yield
    stamina.set_testing(False)


@pytest.fixture
def vendor() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=BASE, assert_all_called=False) as router:
        yield router


@pytest.fixture
async def client() -> AsyncIterator[XdrClient]:
    async with XdrClient(OPTIONS, clock=lambda: BEGIN + timedelta(minutes=4)) as client:
        yield client


Call = Callable[[XdrClient], Awaitable[Any]]

ENDPOINTS: list[tuple[str, str, Call]] = [
    ("GET", "/api/v1/alerts", lambda xdr: xdr.alerts()),
    ("GET", "/api/v1/alerts/a1", lambda xdr: xdr.alert("a1")),
    ("GET", "/api/v1/alerts/a1/events", lambda xdr: xdr.alert_events("a1")),
    ("PATCH", "/api/v1/alerts/a1/events", lambda xdr: xdr.update_alert_events("a1", {"inTimeline": True})),
    ("GET", "/api/v1/alerts/a1/events/stats", lambda xdr: xdr.alert_event_stats("a1")),
    ("GET", "/api/v1/alerts/a1/assets", lambda xdr: xdr.alert_assets("a1")),
    ("GET", "/api/v1/alerts/a1/assets/stats", lambda xdr: xdr.alert_asset_stats("a1")),
    ("GET", "/api/v1/alerts/a1/intelligence", lambda xdr: xdr.alert_intelligence("a1")),
    ("GET", "/api/v1/events", lambda xdr: xdr.events()),
    ("GET", "/api/v1/assets", lambda xdr: xdr.assets()),
    ("GET", "/api/v1/assets/s1", lambda xdr: xdr.asset("s1")),
    ("GET", "/api/v1/intel", lambda xdr: xdr.intel()),
    ("GET", "/api/v1/intel/i1", lambda xdr: xdr.intel_item("i1")),
    ("POST", "/api/v1/intelContext", lambda xdr: xdr.intel_context({"ip": "10.0.0.1"})),
    ("GET", "/api/v1/intelContext/case", lambda xdr: xdr.intel_context_of_case("c1")),
    ("GET", "/api/v1/mitreAttack", lambda xdr: xdr.mitre_attack()),
    ("GET", "/api/v1/mitreAttack/techniques/T1059", lambda xdr: xdr.mitre_technique("T1059")),
    ("GET", "/api/v1/mitreAttack/tactics/TA0002", lambda xdr: xdr.mitre_tactic("TA0002")),
    ("GET", "/api/v1/mitreAttack/versions", lambda xdr: xdr.mitre_versions()),
]


@pytest.mark.parametrize(
    ("method", "path", "call"), ENDPOINTS, ids=[f"{method} {path}" for method, path, _ in ENDPOINTS]
)
async def test_every_endpoint_is_called_where_it_is(
    vendor: respx.MockRouter, client: XdrClient, method: str, path: str, call: Call
) -> None:
    route = vendor.request(method, path).respond(json={"data": {"id": "x", "attributes": {}}})
    await call(client)
    assert route.call_count == 1
    assert route.calls.last.request.headers["authorization"] == "Bearer a-token"


async def test_a_selection_is_sent_in_the_apis_own_dialect(vendor: respx.MockRouter, client: XdrClient) -> None:
    route = vendor.get("/api/v1/events").respond(json={"data": []})
    await client.events(
        fields=["id", "name"],
        filters={"status": ["NEW", "IN_PROGRESS"], "severity": {"eq": "High"}, "type": "edr"},
        sort="-time",
        limit=50,
        offset=100,
        search_text="web-01 & co",
    )
    assert dict(route.calls.last.request.url.params) == {
        "fields": "id,name",
        "filter[status]": "NEW,IN_PROGRESS",
        "filter[severity]": '{"eq":"High"}',
        "filter[type]": "edr",
        "sort": "-time",
        "page[limit]": "50",
        "page[offset]": "100",
        "searchText": "web-01 & co",
    }


async def test_what_is_asked_of_intelligence_and_attack_is_sent(vendor: respx.MockRouter, client: XdrClient) -> None:
    context = vendor.post("/api/v1/intelContext").respond(json={"data": [1]})
    case = vendor.get("/api/v1/intelContext/case").respond(json=[])
    matrix = vendor.get("/api/v1/mitreAttack").respond(json={"tactics": []})
    assert await client.intel_context({"ip": "10.0.0.1"}, fields=["id", "risk"]) == [1]
    assert await client.intel_context_of_case("c 1", fields=["id"]) == []
    assert await client.mitre_attack(version="14", filters={"technique": "T1059"}) == {"tactics": []}
    assert json.loads(context.calls.last.request.content) == {"ip": "10.0.0.1", "fields": "id,risk"}
    assert dict(case.calls.last.request.url.params) == {"caseId": "c 1", "fields": "id"}
    assert dict(matrix.calls.last.request.url.params) == {"version": "14", "filter[technique]": "T1059"}


@pytest.mark.parametrize("data", [{"id": "a1", "type": "alert"}, [{"id": "a1", "type": "alert"}]])
async def test_a_single_alert_comes_as_an_object_or_as_a_list_of_one(
    vendor: respx.MockRouter, client: XdrClient, data: object
) -> None:
    vendor.get("/api/v1/alerts/a1").respond(json={"data": data})
    assert await client.alert("a1") == {"id": "a1", "type": "alert"}


async def test_an_alert_that_is_not_there_is_not_found(vendor: respx.MockRouter, client: XdrClient) -> None:
    vendor.get("/api/v1/alerts/a1").respond(404)
    vendor.get("/api/v1/alerts/a2").respond(json={"data": []})
    with pytest.raises(NotFound):
        await client.alert("a1")
    with pytest.raises(BadResponse, match="0 objects"):
        await client.alert("a2")


async def test_an_identifier_cannot_climb_out_of_its_place(vendor: respx.MockRouter, client: XdrClient) -> None:
    route = vendor.route().respond(json={"data": {"id": "x"}})
    await client.alert("../assets?x=1#y")
    assert route.calls.last.request.url.raw_path == b"/xdr-alert/api/v1/alerts/..%2Fassets%3Fx%3D1%23y"
    for nothing in ("", ".", ".."):
        with pytest.raises(SourceError, match="cannot be asked for by its id"):
            await client.alert(nothing)


async def test_a_listing_shows_items_what_is_beside_them_and_the_total(
    vendor: respx.MockRouter, client: XdrClient
) -> None:
    asset = {"id": "s1", "type": "asset"}
    vendor.get("/api/v1/alerts").respond(
        json={"data": [{"id": "a1"}, "not an object"], "included": [asset, 7], "meta": {"totalRecords": 31}}
    )
    listing = await client.alerts(offset=30)
    assert (listing.items, listing.included, listing.total, listing.offset) == (({"id": "a1"},), (asset,), 31, 30)
    assert len(listing.quarantined) == 1


async def test_a_list_is_walked_to_its_end_a_page_at_a_time(vendor: respx.MockRouter, client: XdrClient) -> None:
    api = MovingApi({f"a{n}": BEGIN for n in range(450)}, total="absent")
    vendor.get("/api/v1/alerts").mock(side_effect=api)
    seen = [item["id"] async for item in client.walk("alerts", filters={"status": "NEW"}, limit=200)]
    assert set(seen) == set(api.rows)
    assert {request["filter[status]"] for request in api.requests} == {"NEW"}
    assert {request["page[limit]"] for request in api.requests} == {"200"}


async def test_the_development_token_never_reaches_the_network(vendor: respx.MockRouter) -> None:
    vendor.route().respond(500)
    async with XdrClient(XdrOptions(auth_token=SecretStr("dev-dummy-token"))) as client:
        with pytest.raises(AuthenticationError, match="development mode"):
            await client.alerts()
        with anyio.move_on_after(0.05) as patience:
            await client.watch()
    assert patience.cancelled_caught
    assert not vendor.calls


# ---------------------------------------------------------------- callbacks


class Telling:
    """What callbacks were told, and the moment when they have been told enough."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.more = anyio.Event()

    def __call__(self, alerts: Sequence[dict[str, Any]]) -> None:
        self.told += [(item["id"], item["attributes"]["updatedAt"]) for item in alerts]
        self.more.set()

    async def wait(self, count: int) -> None:
        with anyio.fail_after(5):
            while len(self.told) < count:
                await self.more.wait()
                self.more = anyio.Event()


async def test_every_callback_hears_of_new_and_changed_alerts_once_and_a_failing_one_stops_nobody(
    vendor: respx.MockRouter, client: XdrClient, caplog: pytest.LogCaptureFixture
) -> None:
    api = MovingApi({"old": BEGIN.replace(year=2025), "a1": BEGIN})
    vendor.get("/api/v1/alerts").mock(side_effect=api)
    telling = Telling()
    heard: list[str] = []

    @client.on_new_alerts
    def failing(_: Sequence[dict[str, Any]]) -> None:
        raise RuntimeError("the callback is broken")

    @client.on_new_alerts
    async def listening(alerts: Sequence[dict[str, Any]]) -> None:
        await anyio.lowlevel.checkpoint()
        heard.extend(item["id"] for item in alerts)

    client.on_new_alerts(telling)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.watch, 0.001, BEGIN)
        await telling.wait(1)
        api.rows["a2"] = BEGIN.replace(minute=1)
        await telling.wait(2)
        api.rows["a1"] = BEGIN.replace(minute=2)
        await telling.wait(3)
        tasks.cancel_scope.cancel()
    times = ["2026-01-10T00:00:00.000Z", "2026-01-10T00:01:00.000Z", "2026-01-10T00:02:00.000Z"]
    assert telling.told == list(zip(["a1", "a2", "a1"], times, strict=True))
    assert heard == ["a1", "a2", "a1"]
    assert "the callback is broken" in caplog.text


async def test_a_watch_outlives_an_outage_but_not_a_refused_credential(
    vendor: respx.MockRouter, client: XdrClient, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([httpx.Response(503), httpx.Response(503), httpx.Response(200, json={"data": [alert("a1", BEGIN)]})])
    vendor.get("/api/v1/alerts").mock(side_effect=lambda _: next(answers, httpx.Response(401)))
    telling = Telling()
    client.on_new_alerts(telling)
    with anyio.fail_after(5), pytest.raises(AuthenticationError):
        await client.watch(0.001, BEGIN)
    assert "watching for alerts failed" in caplog.text
