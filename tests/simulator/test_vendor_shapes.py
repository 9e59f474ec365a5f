"""What each endpoint answers, as the vendor's API is known to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from xdr_mcp.simulator import DEFAULT_TOKEN, Auth, Drift, Estate, Faults, create_app

pytestmark = pytest.mark.anyio

ATTRIBUTES = {
    "tenantId",
    "customerId",
    "name",
    "message",
    "severity",
    "score",
    "confidence",
    "risk",
    "ruleId",
    "ruleOrigin",
    "generatedBy",
    "sources",
    "status",
    "assignee",
    "isSilent",
    "isIntelAvailable",
    "isSuppressed",
    "alertMetadataSuppressed",
    "isCorrelated",
    "inTimeline",
    "inPin",
    "suppressedTime",
    "createdAt",
    "updatedAt",
    "time",
    "lastAggregatedTime",
    "totalEventMatchCount",
    "alertAggregationCount",
    "assetsCount",
    "artefacts",
    "attacks",
    "recommendedActions",
    "supportingData",
}
EVENT = {
    "id",
    "name",
    "source",
    "message",
    "severity",
    "score",
    "confidence",
    "risk",
    "artefactType",
    "sanitized",
    "time",
    "createdAt",
    "updatedAt",
}
ASSET = {"id", "name", "type", "hash", "source", "uebaAssetId", "status", "hostname", "ipAddress", "risk", "location"}


@pytest.fixture
def app(clock: Any) -> Any:
    return create_app(Estate(3, clock, rate=4))


async def first_case_alert(vendor: httpx.AsyncClient) -> dict[str, Any]:
    answer = await vendor.get("/alerts", params={"filter[ruleId]": "EDR-2083", "page[limit]": 1})
    alert: dict[str, Any] = answer.json()["data"][0]
    return alert


async def test_a_page_holds_ten_alerts_with_all_documented_attributes_and_what_they_include(
    app: Any, client_of: Any
) -> None:
    async with client_of(app) as vendor:
        page = (await vendor.get("/alerts")).json()
    assert set(page) == {"data", "included", "links", "meta"}
    assert len(page["data"]) == 10
    assert page["meta"]["totalRecords"] == len(app.state.simulator.truth())
    included = {(one["type"], one["id"]) for one in page["included"]}
    assert len(included) == len(page["included"])
    for alert in page["data"]:
        assert alert["type"] == "alert"
        assert ATTRIBUTES <= set(alert["attributes"])
        linked = [one for relation in alert["relationships"].values() for one in relation["data"]]
        assert {(one["type"], one["id"]) for one in linked} <= included


async def test_fields_narrow_the_attributes(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        page = (await vendor.get("/alerts", params={"fields": "name,severity"})).json()
        one = (await vendor.get(f"/alerts/{page['data'][0]['id']}", params={"fields": "status"})).json()
    assert {frozenset(alert["attributes"]) for alert in page["data"]} == {frozenset({"name", "severity"})}
    assert set(one["data"]["attributes"]) == {"status"}


async def test_one_alert_is_an_object_and_equals_its_place_in_the_list(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        listed = (await vendor.get("/alerts", params={"page[limit]": 1})).json()
        single = (await vendor.get(f"/alerts/{listed['data'][0]['id']}")).json()
    assert single == {"data": listed["data"][0], "included": listed["included"]}


async def test_the_parts_of_an_alert_are_listed_and_counted(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        alert = await first_case_alert(vendor)
        path = f"/alerts/{alert['id']}"
        parts = {
            part: (await vendor.get(f"{path}/{part}")).json()["data"]
            for part in ("events", "events/stats", "assets", "assets/stats")
        }
    assert EVENT - {"id"} <= set(parts["events"][0]["attributes"])
    assert parts["events"][0]["attributes"]["primarySecondaryFields"]["target_process"] == "lsass.exe"
    assert parts["events/stats"]["attributes"]["total"] == len(parts["events"])
    assert set(parts["assets"][0]["attributes"]) >= ASSET
    assert {one["attributes"]["type"] for one in parts["assets"]} == {"host", "user"}
    assert parts["assets/stats"]["attributes"]["byType"] == {"host": 1, "user": 1}


async def test_intelligence_of_an_alert_concerns_its_artefacts(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        beacon = (await vendor.get("/alerts", params={"filter[ruleId]": "NET-3105"})).json()["data"][0]
        intel = (await vendor.get(f"/alerts/{beacon['id']}/intelligence")).json()["data"]
        item = (await vendor.get(f"/intel/{intel[0]['id']}")).json()["data"]
    assert {one["attributes"]["value"] for one in intel} <= set(beacon["attributes"]["artefacts"])
    assert {one["attributes"]["type"] for one in intel} == {"domain", "ip"}
    assert item == intel[0]


@pytest.mark.parametrize(("path", "text"), [("/events", "lsass"), ("/assets", "dc01"), ("/intel", "tidewrack")])
async def test_search_text_narrows_whatever_the_case(app: Any, client_of: Any, path: str, text: str) -> None:
    async with client_of(app) as vendor:
        everything = (await vendor.get(path, params={"page[limit]": 1000})).json()
        found = (await vendor.get(path, params={"searchText": text.upper(), "page[limit]": 1000})).json()
    expected = [one for one in everything["data"] if text in str(one).casefold()]
    assert found["data"] == expected
    assert 0 < len(expected) < everything["meta"]["totalRecords"]


async def test_a_contained_host_says_so(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        assets = (await vendor.get("/assets", params={"filter[status]": "CONTAINED", "page[limit]": 100})).json()[
            "data"
        ]
        one = (await vendor.get(f"/assets/{assets[0]['id']}")).json()["data"]
    assert "HM-FS01" in {asset["attributes"]["name"] for asset in assets}
    assert one == assets[0]


async def test_context_connects_intelligence_alerts_and_cases(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        alert = await first_case_alert(vendor)
        case = alert["attributes"]["supportingData"]["caseId"]
        context = (await vendor.get("/intelContext/case", params={"caseId": case})).json()["data"]
        wanted = {"searchText": "tidewrack", "fields": ["value", "alerts"]}
        found = (await vendor.post("/intelContext", json=wanted)).json()["data"]
    assert alert["id"] in context["attributes"]["alerts"]
    assert all(set(one["attributes"]) == {"value", "alerts"} for one in found)
    assert set(context["attributes"]["alerts"]) & {alert for one in found for alert in one["attributes"]["alerts"]}


async def test_attack_is_told_as_matrix_technique_tactic_and_versions(app: Any, client_of: Any) -> None:
    async with client_of(app) as vendor:
        versions = (await vendor.get("/mitreAttack/versions")).json()["data"]
        matrix = (await vendor.get("/mitreAttack", params={"version": versions[-1]["id"]})).json()["data"]
        technique = (await vendor.get("/mitreAttack/techniques/T1059.001")).json()["data"]
        tactic = (await vendor.get("/mitreAttack/tactics/TA0002")).json()["data"]
        unknown = await vendor.get("/mitreAttack", params={"version": "1"})
    assert matrix["attributes"]["version"] == versions[-1]["id"]
    assert len(matrix["attributes"]["tactics"]) == 14
    assert technique["attributes"]["tactics"] == ["TA0002 - Execution"]
    assert {"id": "T1059.001", "name": technique["attributes"]["name"]} in tactic["attributes"]["techniques"]
    assert unknown.status_code == 404


async def test_updating_the_timeline_changes_the_alert(app: Any, client_of: Any, clock: Any) -> None:
    async with client_of(app) as vendor:
        alert = await first_case_alert(vendor)
        clock.advance(seconds=1)
        wanted = {"data": [{"id": alert["relationships"]["events"]["data"][0]["id"], "type": "event"}]}
        answer = await vendor.patch(f"/alerts/{alert['id']}/events", json=wanted)
        after = (await vendor.get(f"/alerts/{alert['id']}")).json()["data"]
        refused = await vendor.patch(f"/alerts/{alert['id']}/events", json={"data": [{"id": "other"}]})
    assert answer.status_code == 200
    assert after["attributes"]["updatedAt"] > alert["attributes"]["updatedAt"]
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/alerts/00000000-0000-4000-8000-000000000000", 404),
        ("/alerts/not-a-uuid", 404),
        ("/nothing", 404),
        ("/mitreAttack/techniques/T9999", 404),
        ("/intelContext/case?caseId=none", 404),
        ("/alerts?page[limit]=ten", 400),
        ("/alerts?page[limit]=0", 400),
        ("/alerts?page[offset]=-1", 400),
        ("/alerts?filter[severity]={broken", 400),
        ('/alerts?filter[severity]={"near":3}', 400),
        ('/alerts?filter[updatedAt]={"gte":"yesterday"}', 400),
        ("/alerts?sort=updatedAt;drop", 400),
    ],
)
async def test_errors_are_json_with_a_list_of_errors(app: Any, client_of: Any, path: str, status: int) -> None:
    async with client_of(app) as vendor:
        answer = await vendor.get(path)
    assert answer.status_code == status
    (error,) = answer.json()["errors"]
    assert error["status"] == str(status)
    assert error["detail"]


async def test_every_answer_carries_the_vendors_date(client_of: Any, clock: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("5xx:x1"))
    async with client_of(app) as vendor:
        answers = [await vendor.get("/alerts") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 200]
    assert {answer.headers["date"] for answer in answers} == {"Tue, 28 Jul 2026 20:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": DEFAULT_TOKEN}, 401),
        ({"authorization": f"Bearer {DEFAULT_TOKEN}"}, 200),
        ({"x-fireeye-api-key": DEFAULT_TOKEN}, 200),
        ({"x-trellix-api-token": f"Bearer {DEFAULT_TOKEN}"}, 200),
    ],
)
async def test_a_token_is_taken_in_each_of_the_vendors_headers(
    app: Any, client_of: Any, headers: dict[str, str], status: int
) -> None:
    async with client_of(app) as vendor:
        vendor.headers.pop("x-fireeye-api-key")
        answer = await vendor.get("/alerts", headers=headers)
    assert answer.status_code == status
    assert ("errors" in answer.json()) == (status == 401)


@pytest.mark.parametrize("basic", [True, False])
async def test_client_credentials_buy_a_token_that_ends(client_of: Any, clock: Any, *, basic: bool) -> None:
    app = create_app(Estate(3, clock, rate=4), auth=Auth(clients={"soc": "s3cret"}))
    form = {"grant_type": "client_credentials", "scope": "xdr.alr.r"}
    if not basic:
        form |= {"client_id": "soc", "client_secret": "s3cret"}
    async with client_of(app) as vendor:
        url = "http://vendor.test/iam/v1.0/token"
        token = (await vendor.post(url, data=form, auth=("soc", "s3cret") if basic else None)).json()
        vendor.headers["x-fireeye-api-key"] = ""
        vendor.headers["authorization"] = f"{token['token_type']} {token['access_token']}"
        statuses = [(await vendor.get("/alerts")).status_code]
        clock.advance(seconds=token["expires_in"])
        statuses.append((await vendor.get("/alerts")).status_code)
        refused = await vendor.post(url, data={**form, "client_secret": "x"}, auth=("soc", "x") if basic else None)
    assert statuses == [200, 401]
    assert refused.status_code == 401


DRIFTED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "relationship": lambda alert: "relationship" in alert,
    "status-object": lambda alert: isinstance(alert["attributes"]["status"], dict),
    "severity-word": lambda alert: isinstance(alert["attributes"]["severity"], str),
    "attacks-text": lambda alert: isinstance(alert["attributes"]["attacks"], str),
    "attacks-texts": lambda alert: any(isinstance(one, str) for one in alert["attributes"]["attacks"]),
    "attacks-dict": lambda alert: "techniques" in alert["attributes"]["attacks"],
    "attacks-dict-id": lambda alert: "technique_id" in alert["attributes"]["attacks"],
    "actions-text": lambda alert: isinstance(alert["attributes"]["recommendedActions"], str),
    "genai-snake": lambda alert: "genai_summary" in alert["attributes"],
    "nested-included": lambda alert: "included" in alert,
    "odd-id": lambda alert: alert["id"].startswith("ALERT:"),
}


@pytest.mark.parametrize("drift", DRIFTED)
async def test_a_drift_shows_in_some_records_and_in_none_without_it(client_of: Any, clock: Any, drift: str) -> None:
    counts = []
    for wanted in ("", drift, "all"):
        async with client_of(create_app(Estate(3, clock, rate=4), drift=wanted)) as vendor:
            alerts = (await vendor.get("/alerts", params={"page[limit]": 1000})).json()["data"]
        counts.append(sum(bool(DRIFTED[drift](alert)) for alert in alerts))
    assert counts[0] == 0
    assert 0 < counts[1] < len(alerts)
    assert counts[2] > 0


async def test_a_version_drifts_the_same_way_each_time_it_is_read(client_of: Any, clock: Any) -> None:
    async with client_of(create_app(Estate(3, clock, rate=4), drift="all")) as vendor:
        first, second = [(await vendor.get("/alerts", params={"page[limit]": 1000})).content for _ in range(2)]
    assert first == second


async def test_an_odd_id_opens_its_alert_as_a_list_of_one(client_of: Any, clock: Any) -> None:
    async with client_of(create_app(Estate(3, clock, rate=4), drift="odd-id,single-list")) as vendor:
        alerts = (await vendor.get("/alerts", params={"page[limit]": 100})).json()["data"]
        odd = next(alert for alert in alerts if alert["id"].startswith("ALERT:"))
        single = (await vendor.get(f"/alerts/{odd['id']}")).json()["data"]
    assert single == [odd]


async def test_errors_may_be_plain_text(client_of: Any, clock: Any) -> None:
    async with client_of(create_app(Estate(3, clock, rate=4), drift="text-errors")) as vendor:
        answer = await vendor.get("/alerts/none")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")


def test_an_unknown_drift_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'odd-id'"):
        Drift.parse("odd-ids")
