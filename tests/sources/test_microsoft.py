"""Microsoft Defender XDR: what a Graph alert means, and how the pages are walked."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fake_graph
import httpx
import pytest
import respx
import stamina
from fake_graph import CLIENT_SECRET, FakeGraph, serving
from pydantic import ValidationError
from remembered import Remembered
from starlette.responses import JSONResponse, Response

from xdr_mcp.alert import Alert, EntityKind, Severity, Status, Verdict
from xdr_mcp.errors import AuthenticationError, BadResponse, SettingsError, Unavailable, WindowTooLarge
from xdr_mcp.interfaces import Page, Window
from xdr_mcp.sources.microsoft import MOST_READINGS, MicrosoftOptions, MicrosoftSource, normalise, time_filter

pytestmark = pytest.mark.anyio

RECORDINGS = Path(__file__).parents[1] / "recordings" / "microsoft"
SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples" / "microsoft.jsonl"

START = datetime(2026, 2, 1, tzinfo=UTC)
FEBRUARY = Window(START, START + timedelta(days=28))


@asynccontextmanager
async def reading(graph: FakeGraph, **options: Any) -> AsyncIterator[MicrosoftSource]:
    """A source that reads ``graph`` over a real socket."""
    async with serving(graph) as base_url, opened(fake_graph.options(base_url, **options)) as source:
        yield source


@asynccontextmanager
async def opened(options: dict[str, Any]) -> AsyncIterator[MicrosoftSource]:
    async with MicrosoftSource.open("contoso", MicrosoftOptions.model_validate(options), Remembered()) as source:
        yield source


async def pages_of(source: MicrosoftSource, window: Window = FEBRUARY, *, live: bool = False) -> list[Page]:
    async with aclosing(source.pages(window, live=live)) as pages:
        return [page async for page in pages]


def ids(pages: list[Page]) -> set[str]:
    return {record.alert.vendor_id for page in pages for record in page.records}


def recording(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_bytes())
    return loaded


def minute(number: int, **others: Any) -> dict[str, Any]:
    """An alert that was last updated that many minutes into February."""
    moment = (START + timedelta(minutes=number)).isoformat().replace("+00:00", "Z")
    return {"id": f"alert-{number}", "title": "t", "createdDateTime": moment, "lastUpdateDateTime": moment, **others}


def of_kind(alert: Alert, kind: EntityKind) -> set[str]:
    return set(alert.values_of(kind))


# ---------------------------------------------------------------- what an alert means


def test_every_documented_field_of_an_alert_is_kept() -> None:
    alert = normalise("contoso", recording("ransomware"))

    assert alert.id == "contoso/dae1f0c3b2-7d14-4c1e-9a55-0f5f3e8b6a21_1"
    assert alert.title == "Ransomware behavior detected in the file system"
    assert alert.description == "Many files were renamed and encrypted within a minute."
    assert alert.created == datetime(2026, 2, 11, 7, 2, 13, 440000, tzinfo=UTC)
    assert alert.updated == datetime(2026, 2, 11, 9, 41, 52, 193333, tzinfo=UTC)
    assert alert.first_seen == datetime(2026, 2, 11, 6, 58, 40, 2111, tzinfo=UTC)
    assert alert.last_seen == datetime(2026, 2, 11, 7, 0, 9, 510000, tzinfo=UTC)
    assert (alert.severity, alert.status, alert.verdict) == (Severity.HIGH, Status.IN_PROGRESS, Verdict.TRUE_POSITIVE)
    assert (alert.product, alert.vendor) == ("Microsoft Defender for Endpoint", "Microsoft")
    assert alert.tenant == "4f4c2c5a-90d1-4b7e-8f6a-2d1b9a7c3e10"
    assert alert.category == "Impact"
    assert alert.rule_id == "8f1d33a5-6a4e-4d5f-8c55-9c1d6a3f7711"
    assert alert.assignee == "kim.osei@northwind.example"
    assert alert.techniques == ("T1486", "T1059.001", "T1547.001")
    assert alert.tactics == ("TA0040",)
    assert alert.labels == (
        "Defender Experts", "BlackLock", "Ransom:Win64/BlackLock", "Velvet Tempest", "incident:70412",
    )  # fmt: skip
    assert alert.recommended_actions == (
        "A. Isolate the device",
        "Disconnect it from the network.",
        "Collect an investigation package.",
        "Reset the user's password.",
    )
    assert alert.url.startswith("https://security.microsoft.com/alerts/dae1f0c3b2")


def test_endpoint_evidence_becomes_entities() -> None:
    alert = normalise("contoso", recording("ransomware"))

    assert of_kind(alert, EntityKind.HOST) == {"fin-ws-114.northwind.example", "fin-ws-114"}
    assert of_kind(alert, EntityKind.IP) == {"10.20.4.114", "fe80::1c2d:3e4f", "203.0.113.40", "198.51.100.23"}
    assert of_kind(alert, EntityKind.USER) == {"mara.lind@northwind.example", "NORTHWIND\\mara.lind"}
    assert of_kind(alert, EntityKind.PROCESS) == {"powershell.exe", "winword.exe"}
    assert of_kind(alert, EntityKind.COMMAND) == {"powershell.exe -nop -w hidden -File C:\\ProgramData\\upd.ps1"}
    assert of_kind(alert, EntityKind.FILE) == {
        "C:\\ProgramData\\upd.ps1",
        "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
        "C:\\Program Files\\Microsoft Office\\root\\Office16\\winword.exe",
    }
    assert of_kind(alert, EntityKind.HASH) == {
        "89d1a7b0c2f34e5566778899aabbccddeeff0011",
        "6b1f0a3c5d7e9f11223344556677889900aabbccddeeff00112233445566aabb",
        "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        "aa11bb22cc33dd44ee55ff6677889900112233445566778899aabbccddeeff00",
    }
    assert of_kind(alert, EntityKind.REGISTRY) == {
        "HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Run",
        "HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Run\\Updater",
    }
    assert of_kind(alert, EntityKind.URL) == {"https://cdn.blacklock.example/stage2"}
    assert len(alert.entities) == len(set(alert.entities))


def test_mail_evidence_becomes_entities() -> None:
    alert = normalise("contoso", recording("phishing"))

    assert of_kind(alert, EntityKind.EMAIL) == {
        "tom.weber@northwind.example", "bounce@mailer.fabrikam.example", "billing@fabrikam.example",
    }  # fmt: skip
    assert of_kind(alert, EntityKind.DOMAIN) == {"mailer.fabrikam.example", "fabrikam.example"}
    assert of_kind(alert, EntityKind.IP) == {"192.0.2.77"}
    assert of_kind(alert, EntityKind.URL) == {"https://login.fabr1kam.example/owa"}
    assert of_kind(alert, EntityKind.USER) == {"tweber@northwind.example"}
    assert of_kind(alert, EntityKind.RESOURCE) >= {
        "Microsoft Exchange Online", "Mail Sync Pro", "6a1d0b65-8f9c-4a1d-82b2-08de70a18888",
    }  # fmt: skip
    assert (alert.status, alert.verdict, alert.severity) == (Status.RESOLVED, Verdict.TEST, Severity.INFORMATIONAL)
    assert alert.rule_id == "c2bd4aad-6e1f-4f0c-9d2b-5d3e9f1c7a66"
    assert alert.recommended_actions == ()


def test_cloud_evidence_and_evidence_within_evidence_becomes_entities() -> None:
    alert = normalise("contoso", recording("cloud"))

    assert of_kind(alert, EntityKind.RESOURCE) >= {
        "web-7d9f-x2k8p", "shop", "aks-prod-weu", "/subscriptions/0000/managedClusters/aks-prod-weu", "3f2a9c", "miner.tar",
    }  # fmt: skip
    assert of_kind(alert, EntityKind.IP) == {
        "10.244.1.17", "203.0.113.99", "10.0.0.10", "10.30.0.3", "192.0.2.200",
    }  # fmt: skip
    assert of_kind(alert, EntityKind.DOMAIN) == {"pool.example"}
    assert of_kind(alert, EntityKind.COMMAND) == {"xmrig -o pool.example:3333"}
    assert of_kind(alert, EntityKind.HASH) == {"99887766554433221100ffeeddccbbaa"}
    assert of_kind(alert, EntityKind.MAC) == {"00:00:5e:00:53:af"}
    assert alert.tactics == ("TA0040", "TA0011")


def test_evidence_of_an_unknown_type_is_read_by_the_names_of_its_fields() -> None:
    alert = normalise("contoso", recording("cloud"))

    assert "a-type-of-tomorrow" in of_kind(alert, EntityKind.HOST)
    assert "192.0.2.200" in of_kind(alert, EntityKind.IP)


def test_a_nameless_device_and_a_nameless_account_are_known_by_their_ids() -> None:
    alert = normalise("contoso", recording("cloud"))

    assert "ffeeddccbbaa99887766554433221100ffeeddcc" in of_kind(alert, EntityKind.HOST)
    assert of_kind(alert, EntityKind.USER) == {"S-1-5-21-11-22-33-500"}


@pytest.mark.parametrize(
    ("account", "users"),
    [
        (
            {"accountName": "ann", "domainName": "CORP", "userPrincipalName": "ann.b@corp.example"},
            {"ann.b@corp.example", "CORP\\ann"},
        ),
        (
            {"accountName": "ann", "domainName": "corp.example", "userPrincipalName": "Ann@corp.example"},
            {"Ann@corp.example"},
        ),
        (
            {"accountName": "ann", "domainName": None, "userPrincipalName": "other@corp.example"},
            {"ann", "other@corp.example"},
        ),
        ({"accountName": "SYSTEM", "domainName": "NT AUTHORITY"}, {"NT AUTHORITY\\SYSTEM"}),
        ({"accountName": "ann"}, {"ann"}),
        ({"displayName": "Ann B", "userSid": "S-1-5"}, {"Ann B"}),
        ({"accountName": " ", "azureAdUserId": 7}, set()),
    ],
)
def test_an_account_is_told_once_in_each_of_its_forms(account: dict[str, Any], users: set[str]) -> None:
    alert = normalise("m", minute(1, evidence=[{"@odata.type": "x.userEvidence", "userAccount": account}]))

    assert of_kind(alert, EntityKind.USER) == users


@pytest.mark.parametrize(
    ("classification", "determination", "verdict"),
    [
        ("falsePositive", "notMalicious", Verdict.FALSE_POSITIVE),
        ("truePositive", "multiStagedAttack", Verdict.TRUE_POSITIVE),
        ("truePositive", "securityTesting", Verdict.TRUE_POSITIVE),
        ("informationalExpectedActivity", "securityTesting", Verdict.TEST),
        ("informationalExpectedActivity", "lineOfBusinessApplication", Verdict.BENIGN),
        ("informationalExpectedActivity", None, Verdict.BENIGN),
        ("unknown", "phishing", Verdict.TRUE_POSITIVE),
        ("unknown", "confirmedUserActivity", Verdict.BENIGN),
        ("unknown", "notEnoughDataToValidate", Verdict.UNKNOWN),
        ("unknown", "unknown", Verdict.UNKNOWN),
        (None, None, Verdict.UNKNOWN),
        ("unknownFutureValue", "other", Verdict.UNKNOWN),
    ],
)
def test_classification_and_determination_make_the_verdict(
    classification: str | None, determination: str | None, verdict: Verdict
) -> None:
    assert normalise("m", minute(1, classification=classification, determination=determination)).verdict is verdict


@pytest.mark.parametrize(
    ("told", "severity"),
    [
        ("high", Severity.HIGH),
        ("Medium", Severity.MEDIUM),
        ("unknownFutureValue", Severity.UNKNOWN),
        (None, Severity.UNKNOWN),
    ],
)
def test_severity_is_the_vendors_word(told: str | None, severity: Severity) -> None:
    assert normalise("m", minute(1, severity=told)).severity is severity


def test_an_alert_without_a_title_or_one_of_its_times_still_says_what_it_can() -> None:
    sparse = {"id": "1", "category": "Malware", "createdDateTime": "2026-02-01T00:00:00Z", "evidence": None}

    alert = normalise("m", sparse)

    assert alert.title == "Malware"
    assert alert.updated == alert.created == START
    assert alert.attacks == ()


def test_scalars_in_place_of_lists_and_lists_in_place_of_scalars_are_absorbed() -> None:
    drifted = minute(
        1, mitreTechniques="T1566", systemTags="one", title=["a", "b"], incidentId=7, recommendedActions=["x"]
    )

    alert = normalise("m", drifted)

    assert alert.techniques == ("T1566",)
    assert alert.labels == ("one", "incident:7")
    assert alert.title == "a\nb"
    assert alert.recommended_actions == ("x",)


@pytest.mark.parametrize(
    "wrong", [{"id": None}, {"id": ""}, {"id": 7}, {"createdDateTime": "?", "lastUpdateDateTime": None}]
)
async def test_a_record_without_identity_or_time_is_quarantined_alone(wrong: dict[str, Any]) -> None:
    graph = FakeGraph()
    graph.put(minute(1))
    graph.put_raw("wrong", json.dumps(minute(2) | wrong).encode(), "2026-02-02T00:00:00Z")

    async with reading(graph) as source:
        (page,) = await pages_of(source)

    assert ids([page]) == {"alert-1"}
    assert [json.loads(bad.raw) for bad in page.quarantined] == [minute(2) | wrong]


# ---------------------------------------------------------------- the published records


def published() -> list[dict[str, Any]]:
    if not SAMPLES.exists():
        pytest.skip("the vendors' published records are not on this machine (../shared/samples)")
    entries = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
    return [entry["record"] for entry in entries if entry["kind"] == "graph_alert_v2"]


def strings_of(evidence: Any) -> set[str]:
    """Every text in the evidence that an analyst could pivot on."""
    names = {
        "deviceDnsName", "fileName", "sha1", "sha256", "md5", "processCommandLine", "accountName", "userPrincipalName",
        "registryKey", "ipAddress", "url",
    }  # fmt: skip
    if isinstance(evidence, list):
        return set().union(*map(strings_of, evidence)) if evidence else set()
    if not isinstance(evidence, dict):
        return set()
    own = {value for name, value in evidence.items() if name in names and isinstance(value, str)}
    return own.union(*map(strings_of, evidence.values()))


async def test_every_published_record_is_read_over_http_without_loss() -> None:
    records = published()
    assert records
    graph = FakeGraph(largest_page=2)
    for number, record in enumerate(records):  # two of them share an id
        graph.put_raw(str(number), json.dumps(record).encode(), record["lastUpdateDateTime"])

    async with reading(graph) as source:
        pages = await pages_of(source, Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)))

    read = {record.raw: record.alert for page in pages for record in page.records}
    assert not [bad for page in pages for bad in page.quarantined]
    assert set(read) == {json.dumps(record).encode() for record in records}
    for record in records:
        alert = read[json.dumps(record).encode()]
        assert (alert.vendor_id, alert.title) == (record["id"], record["title"])
        assert alert.severity == record["severity"]
        assert alert.created.isoformat()[:19] == record["createdDateTime"][:19]
        assert alert.updated.isoformat()[:19] == record["lastUpdateDateTime"][:19]
        values = " ".join(entity.value for entity in alert.entities)
        evidence = {name: value for name, value in record.items() if name.lower().endswith("evidence")}
        assert {text for text in strings_of(evidence) if text not in values} == set()


# ---------------------------------------------------------------- asking


def test_bounds_are_rounded_outward_because_graph_keeps_a_seventh_digit() -> None:
    window = Window(START, START.replace(microsecond=999999))

    assert time_filter(window, live=False) == (
        "lastUpdateDateTime ge 2026-02-01T00:00:00.0000000Z and lastUpdateDateTime le 2026-02-01T00:00:00.9999999Z"
    )
    assert time_filter(window, live=True) == "lastUpdateDateTime ge 2026-02-01T00:00:00.0000000Z"


async def test_an_alert_in_the_last_tenth_of_the_windows_last_microsecond_is_read() -> None:
    graph = FakeGraph()
    graph.put(minute(1, lastUpdateDateTime="2026-02-01T00:00:00.1234569Z"))
    moment = START.replace(microsecond=123456)

    async with reading(graph) as source:
        pages = await pages_of(source, Window(moment, moment))

    assert ids(pages) == {"alert-1"}


async def test_graph_is_asked_for_values_newer_than_its_first_version() -> None:
    graph = FakeGraph()

    async with reading(graph, page_size=7) as source:
        await pages_of(source)

    (request,) = graph.requests
    assert request.headers["prefer"] == "include-unknown-enum-members"
    assert request.query_params["$top"] == "7"


@pytest.mark.parametrize("page_by", ["$skip", "$skiptoken"])
@pytest.mark.parametrize("live", [True, False])
async def test_an_alert_updated_while_its_window_is_read_hides_no_other(page_by: Any, live: bool) -> None:  # noqa: FBT001
    graph = FakeGraph(page_by=page_by, largest_page=3)
    for number in range(12):
        graph.put(minute(number))
    updates = iter([10, 7, 9])

    def update_one() -> None:
        if len(graph.requests) > 1 and (number := next(updates, None)) is not None:
            graph.put(minute(number) | {"lastUpdateDateTime": "2026-03-09T00:00:00Z"})

    graph.before_page = update_one
    async with reading(graph) as source:
        pages = await pages_of(source, live=live)

    untouched = {f"alert-{number}" for number in range(12)} - {"alert-7", "alert-9", "alert-10"}
    assert untouched <= ids(pages)


async def test_a_window_that_fits_one_page_or_is_paged_by_token_is_read_once() -> None:
    by_token, one_page = FakeGraph(page_by="$skiptoken", largest_page=2), FakeGraph()
    for graph in (by_token, one_page):
        for number in range(4):
            graph.put(minute(number))
        async with reading(graph) as source:
            await pages_of(source)

    assert len(by_token.requests) == 2
    assert len(one_page.requests) == 1


async def test_a_window_whose_alerts_change_during_every_reading_is_put_off() -> None:
    graph = FakeGraph(largest_page=40)
    for number in range(60):
        graph.put(minute(number))
    victims = iter(range(60))

    def update_one() -> None:
        graph.put(minute(next(victims)) | {"lastUpdateDateTime": "2026-03-09T00:00:00Z"})

    graph.before_page = update_one
    async with reading(graph) as source:
        with pytest.raises(Unavailable, match=f"through {MOST_READINGS} readings"):
            await pages_of(source)


async def test_next_links_that_go_in_circles_are_noticed() -> None:
    graph = FakeGraph()
    async with serving(graph) as base_url, opened(fake_graph.options(base_url)) as source:
        link = f"{base_url}/v1.0/security/alerts_v2?$skiptoken=again"
        await source.check()
        graph.canned.extend(JSONResponse({"value": [minute(1)], "@odata.nextLink": link}) for _ in range(9))
        with pytest.raises(BadResponse, match="circles"):
            await pages_of(source)

    assert len(graph.canned) == 7


@pytest.mark.parametrize("rows", [pytest.param([], id="empty"), pytest.param([minute(1)], id="the same again")])
async def test_next_links_that_lead_through_ever_more_pages_without_news_are_noticed(rows: list[Any]) -> None:
    graph = FakeGraph()
    async with serving(graph) as base_url, opened(fake_graph.options(base_url)) as source:
        await source.check()
        graph.canned.extend(
            JSONResponse({"value": rows, "@odata.nextLink": f"{base_url}/v1.0/security/alerts_v2?$skiptoken={number}"})
            for number in range(100)
        )
        with pytest.raises(BadResponse, match="circles"):
            await pages_of(source)


async def test_a_next_link_that_is_no_text_is_refused_rather_than_taken_for_the_end() -> None:
    graph = FakeGraph()
    async with reading(graph) as source:
        await source.check()
        graph.canned.extend([JSONResponse({"value": [], "@odata.nextLink": {"href": "?"}})] * 2)
        with stamina.set_testing(True, attempts=2), pytest.raises(BadResponse, match="nextLink"):
            await pages_of(source)


async def test_a_page_too_large_to_hold_asks_for_a_shorter_window() -> None:
    graph = FakeGraph()
    async with reading(graph) as source:
        await source.check()
        graph.canned.append(Response(b" " * (32 * 1024 * 1024 + 1)))
        with pytest.raises(WindowTooLarge, match="shorter interval"):
            await pages_of(source)


async def test_an_error_within_a_200_is_no_empty_page() -> None:
    graph = FakeGraph()
    async with reading(graph) as source:
        await source.check()
        graph.canned.extend([JSONResponse({"error": {"code": "UnknownError", "message": "backend timed out"}})] * 2)
        with stamina.set_testing(True, attempts=2), pytest.raises(BadResponse, match="backend timed out"):
            await pages_of(source)


# ---------------------------------------------------------------- connecting


async def test_opening_makes_no_request_and_checking_tells_what_was_reached() -> None:
    graph = FakeGraph()
    graph.put(minute(3))

    async with reading(graph) as source:
        assert (graph.tokens_issued, graph.requests) == (0, [])
        assert await source.check() == "Microsoft Graph answers; newest alert: 2026-02-01 00:03 UTC"
        assert abs(source.vendor_now() - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_empty_tenant_passes_the_check() -> None:
    async with reading(FakeGraph()) as source:
        assert "no alerts" in await source.check()


async def test_a_missing_permission_is_named() -> None:
    graph = FakeGraph()
    async with reading(graph) as source:
        await source.check()
        graph.canned.append(JSONResponse({"error": {"code": "Forbidden", "message": "no"}}, status_code=403))
        with pytest.raises(AuthenticationError, match=r"SecurityAlert\.Read\.All"):
            await source.check()


async def test_a_wrong_secret_is_told_without_telling_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with reading(FakeGraph(), client_secret="not-the-right-secret") as source:
        with pytest.raises(AuthenticationError, match="AADSTS7000215") as refused:
            await source.check()

    assert "not-the-right-secret" not in str(refused.value) + caplog.text


@pytest.mark.parametrize(
    ("cloud", "graph", "login"),
    [
        ("public", "https://graph.microsoft.com", "https://login.microsoftonline.com"),
        ("usgov", "https://graph.microsoft.us", "https://login.microsoftonline.us"),
        ("dod", "https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
    ],
)
@respx.mock
async def test_each_cloud_is_asked_where_it_is(cloud: str, graph: str, login: str) -> None:
    token = respx.post(f"{login}/contoso.example/oauth2/v2.0/token").respond(
        json={"access_token": "t", "expires_in": 60}
    )
    alerts = respx.get(f"{graph}/v1.0/security/alerts_v2").respond(json={"value": []})
    credential = {"tenant_id": "contoso.example", "client_id": "app", "client_secret": "secret"}

    async with opened({**credential, "cloud": cloud}) as source:
        await source.check()

    form = httpx.QueryParams(token.calls.last.request.content.decode())
    assert form["scope"] == f"{graph}/.default"
    assert alerts.call_count == 1


@pytest.mark.parametrize("wrong", [{"tenant_id": "a/../b"}, {"tenant_id": ""}, {"client_id": ""}, {"cloud": "moon"}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MicrosoftOptions.model_validate(fake_graph.options("https://graph.example") | wrong)


async def test_an_address_that_is_none_is_refused_as_a_setting() -> None:
    with pytest.raises(SettingsError, match="https"):
        async with opened(fake_graph.options("graph.example")):
            pass


def test_the_secret_is_not_shown_with_the_settings() -> None:
    assert CLIENT_SECRET not in repr(MicrosoftOptions.model_validate(fake_graph.options("https://graph.example")))
