"""What a record of the XDR Alert Management API becomes, in every shape it has been seen in."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict
from xdr_mcp.sources.xdr import to_alert
from xdr_mcp.vendor_json import NORMALISER_FAILURES

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "trellix.jsonl"

RECORD: dict[str, Any] = {
    "id": "7b0e2c1a-5f5e-4a1f-9a3c-0a3f6a2d1e11",
    "type": "alert",
    "attributes": {
        "tenantId": "5d7c1b9e-1111-4222-8333-944455556666",
        "customerId": "CUST-7",
        "name": "Macro spawned a shell",
        "message": "winword.exe started powershell.exe",
        "severity": 4,
        "score": 82,
        "confidence": 3,
        "risk": 4,
        "ruleId": "rule-7",
        "generatedBy": "correlation",
        "sources": ["edr", "email"],
        "status": "NEW",
        "assignee": None,
        "createdAt": "2026-01-10T08:00:00.000Z",
        "updatedAt": "2026-01-10T09:00:00.125Z",
        "time": "2026-01-10T07:59:30.000Z",
        "lastAggregatedTime": "2026-01-10T08:59:00.000Z",
        "totalEventMatchCount": 7,
        "alertAggregationCount": 2,
        "artefacts": ["203.0.113.9", "evil.example", "hxxp://x"],
        "attacks": {"techniques": ["T1059.001"]},
        "recommendedActions": ["Isolate the host"],
        "supportingData": {},
    },
    "relationships": {
        "assets": {"data": [{"id": "asset-7", "type": "asset"}]},
        "events": {"data": [{"id": "event-7", "type": "event"}]},
    },
}


def mapped(*included: Any, **attributes: Any) -> Alert:
    return to_alert("xdr", {**RECORD, "attributes": {**RECORD["attributes"], **attributes}}, included)


def test_a_record_keeps_what_it_says() -> None:
    alert = mapped()
    assert alert.id == "xdr/7b0e2c1a-5f5e-4a1f-9a3c-0a3f6a2d1e11"
    assert alert.title == "Macro spawned a shell"
    assert alert.description == "winword.exe started powershell.exe"
    assert alert.created == datetime(2026, 1, 10, 8, tzinfo=UTC)
    assert alert.updated == datetime(2026, 1, 10, 9, 0, 0, 125_000, tzinfo=UTC)
    assert alert.first_seen == datetime(2026, 1, 10, 7, 59, 30, tzinfo=UTC)
    assert alert.last_seen == datetime(2026, 1, 10, 8, 59, tzinfo=UTC)
    assert (alert.severity, alert.risk_score, alert.confidence) == (Severity.HIGH, 82, 60)
    assert (alert.status, alert.verdict) == (Status.NEW, Verdict.UNKNOWN)
    assert (alert.product, alert.vendor, alert.category) == ("edr, email", "Trellix", "correlation")
    assert alert.tenant == "5d7c1b9e-1111-4222-8333-944455556666"
    assert (alert.rule_id, alert.count, alert.assignee) == ("rule-7", 7, "")
    assert alert.recommended_actions == ("Isolate the host",)
    assert alert.attacks == (Attack(technique="T1059.001"),)


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        *enumerate(Severity),
        ("4", Severity.HIGH),
        (4.0, Severity.HIGH),
        ("High", Severity.HIGH),
        ("CRITICAL", Severity.CRITICAL),
        ("Informational", Severity.INFORMATIONAL),
        ("Unknown", Severity.UNKNOWN),
        ({"value": 5}, Severity.CRITICAL),
        ({"value": "low"}, Severity.LOW),
        (None, Severity.UNKNOWN),
        (True, Severity.UNKNOWN),
        (-1, Severity.UNKNOWN),
        (90, Severity.UNKNOWN),
        ("severe", Severity.UNKNOWN),
        ([], Severity.UNKNOWN),
    ],
)
def test_severity_is_read_as_number_word_or_object(value: object, severity: Severity) -> None:
    assert mapped(severity=value).severity is severity


@pytest.mark.parametrize(
    ("value", "status", "verdict"),
    [
        ("NEW", Status.NEW, Verdict.UNKNOWN),
        ("IN_PROGRESS", Status.IN_PROGRESS, Verdict.UNKNOWN),
        ("In Progress", Status.IN_PROGRESS, Verdict.UNKNOWN),
        ("ACK_COMPLETE", Status.RESOLVED, Verdict.UNKNOWN),
        ("ACK_FP", Status.RESOLVED, Verdict.FALSE_POSITIVE),
        ("SUPPRESS", Status.SUPPRESSED, Verdict.UNKNOWN),
        ({"value": "ACK_FP"}, Status.RESOLVED, Verdict.FALSE_POSITIVE),
        ("something new", Status.UNKNOWN, Verdict.UNKNOWN),
        (None, Status.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_status_tells_the_verdict_too(value: object, status: Status, verdict: Verdict) -> None:
    alert = mapped(status=value)
    assert (alert.status, alert.verdict) == (status, verdict)


@pytest.mark.parametrize(
    ("score", "risk", "expected"),
    [(0, 5, 0), (100, 0, 100), (None, 4, 80), (None, "High", 80), (250, "Low", 40), (None, None, None), ("71", 0, 71)],
)
def test_the_risk_score_is_the_score_or_else_the_level(score: object, risk: object, expected: int | None) -> None:
    assert mapped(score=score, risk=risk).risk_score == expected


FULL = Attack(
    technique="T1486", technique_name="Data Encrypted for Impact", tactic="TA0040", tactic_name="Impact"
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "attacks"),
    [
        ("T1059", [Attack(technique="T1059")]),
        ("T1059, T1027.001", [Attack(technique="T1059"), Attack(technique="T1027.001")]),
        ("T1003 - OS Credential Dumping", [Attack(technique="T1003", technique_name="OS Credential Dumping")]),
        (["T1059.001", "T1027", "T1027"], [Attack(technique="T1059.001"), Attack(technique="T1027")]),
        (["TA0002 - Execution"], [Attack(tactic="TA0002", tactic_name="Execution")]),
        (
            [{"id": "x1", "techniqueId": "T1486", "name": "Data Encrypted for Impact", "tactic": "TA0040 - Impact"}],
            [FULL],
        ),
        ({"techniques": ["T1566", {"techniqueId": "T1204"}]}, [Attack(technique="T1566"), Attack(technique="T1204")]),
        ({"technique_id": "T1110"}, [Attack(technique="T1110")]),
        ({"technique_id": ["T1110", "T1078"]}, [Attack(technique="T1110"), Attack(technique="T1078")]),
        ({"tactic": "Discovery"}, [Attack(tactic_name="Discovery")]),
        ([], []),
        (None, []),
        ("none", []),
        (7, []),
        ([None, [], {}], []),
    ],
)
def test_attacks_are_read_in_all_four_shapes(value: object, attacks: list[Attack]) -> None:
    assert list(mapped(attacks=value).attacks) == attacks


def test_an_asset_that_is_only_referred_to_is_kept_by_its_id() -> None:
    assert Entity(EntityKind.RESOURCE, "asset-7") in mapped().entities
    assert Entity(EntityKind.RESOURCE, "event-7") not in mapped().entities


def test_included_assets_and_events_that_are_referred_to_become_entities() -> None:
    asset = {
        "id": "asset-7",
        "type": "asset",
        "attributes": {"hostname": "web-01", "ipAddress": "10.0.0.7", "type": "host"},
    }
    user = {"id": "asset-8", "type": "asset", "attributes": {"name": "CORP\\alice", "type": "User"}}
    event = {
        "id": "event-7",
        "type": "event",
        "attributes": {
            "source": "10.9.9.9",
            "primarySecondaryFields": {
                "process_name": "powershell.exe",
                "user": {"name": "bob"},
                "command_line": "powershell -enc AAAA",
                "sha256": "ab" * 32,
                "dst_ip": ["198.51.100.4", "not an address"],
                "pid": 4711,
            },
        },
    }
    stranger = {"id": "event-9", "type": "event", "attributes": {"primarySecondaryFields": {"hostname": "elsewhere"}}}
    references: dict[str, Any] = {
        "assets": {"data": [{"id": "asset-7", "type": "asset"}, {"id": "asset-8", "type": "asset"}]}
    }
    references["events"] = {"data": {"id": "event-7", "type": "event"}}
    for name in ("relationships", "relationship"):
        record = {"id": "a", "attributes": {"updatedAt": "2026-01-10T09:00:00Z"}, name: references}
        found = {
            (entity.kind.value, entity.value)
            for entity in to_alert("xdr", record, [asset, user, event, stranger]).entities
        }
        assert found == {
            ("host", "web-01"),
            ("ip", "10.0.0.7"),
            ("user", "CORP\\alice"),
            ("process", "powershell.exe"),
            ("user", "bob"),
            ("command", "powershell -enc AAAA"),
            ("hash", "ab" * 32),
            ("ip", "198.51.100.4"),
        }


def test_what_hangs_inside_the_alert_counts_as_well() -> None:
    record = {**RECORD, "included": [{"id": "asset-7", "type": "asset", "attributes": {"hostname": "db-02"}}]}
    assert Entity(EntityKind.HOST, "db-02") in to_alert("xdr", record).entities


@pytest.mark.parametrize(
    ("artefact", "entity"),
    [
        ("203.0.113.9", (EntityKind.IP, "203.0.113.9")),
        ("2001:db8::1", (EntityKind.IP, "2001:db8::1")),
        ("d41d8cd98f00b204e9800998ecf8427e", (EntityKind.HASH, "d41d8cd98f00b204e9800998ecf8427e")),
        ("https://evil.example/a?b=c", (EntityKind.URL, "https://evil.example/a?b=c")),
        ("eve@evil.example", (EntityKind.EMAIL, "eve@evil.example")),
        ("evil.example", (EntityKind.DOMAIN, "evil.example")),
        ("invoice.exe", (EntityKind.FILE, "invoice.exe")),
        ("C:\\Temp\\a b.txt", (EntityKind.FILE, "C:\\Temp\\a b.txt")),
        ("HKLM\\Software\\Run", (EntityKind.REGISTRY, "HKLM\\Software\\Run")),
        ("00:11:22:aa:bb:cc", (EntityKind.MAC, "00:11:22:aa:bb:cc")),
        ({"type": "hostname", "value": "web-01"}, (EntityKind.HOST, "web-01")),
        ({"hostname": "web-02"}, (EntityKind.HOST, "web-02")),
    ],
)
def test_an_artefact_is_recognised_by_its_shape_or_its_type(artefact: object, entity: tuple[EntityKind, str]) -> None:
    assert mapped(artefacts=[artefact]).entities[0] == Entity(*entity)


@pytest.mark.parametrize("artefact", ["", "  ", "some words", 7, None, {}, [], "x" * 100_000])
def test_an_artefact_that_is_nothing_recognisable_is_left_to_the_record(artefact: object) -> None:
    assert mapped(artefacts=[artefact]).entities == (Entity(EntityKind.RESOURCE, "asset-7"),)


def test_entities_of_one_alert_are_bounded() -> None:
    addresses = [f"10.0.{n // 250}.{n % 250}" for n in range(5000)]
    assert len(mapped(artefacts=addresses, supportingData={"ip": addresses}).entities) == 250


def test_supporting_data_is_searched_by_the_names_of_its_fields() -> None:
    data = {"Host-Name": "web-01", "nested": [{"srcIPv4": {"value": "10.1.1.1"}}], "score": 4, "hash": "not a hash"}
    found = mapped(supportingData=data, artefacts=[]).entities
    assert Entity(EntityKind.HOST, "web-01") in found
    assert Entity(EntityKind.IP, "10.1.1.1") in found
    assert not any(entity.kind is EntityKind.HASH for entity in found)


def test_the_case_that_an_alert_belongs_to_is_a_label_that_related_alerts_share() -> None:
    assert mapped(supportingData={"caseId": "CASE-7"}, tags=["vip"]).labels == ("vip", "case:CASE-7")
    assert mapped(caseId="CASE-8").labels == ("case:CASE-8",)
    assert mapped(supportingData={"caseId": None}).labels == ()


def test_a_name_or_a_summary_written_by_the_vendors_model_is_used() -> None:
    alert = mapped(name=None, genaiName="Suspicious macro", genai_summary="In short: bad.")
    assert alert.title == "Suspicious macro"
    assert alert.description == "winword.exe started powershell.exe\n\nIn short: bad."
    assert mapped(name="", message="first\nsecond").title == "first"
    assert mapped(name=None, message=None).title == "(no name)"


def test_scalars_where_lists_are_promised_are_taken() -> None:
    alert = mapped(recommendedActions="Reset the password", sources="edr", assignee={"name": "alice", "id": 7})
    assert (alert.recommended_actions, alert.product, alert.assignee) == (("Reset the password",), "edr", "alice")


def test_attributes_may_lie_in_the_record_itself() -> None:
    alert = to_alert("xdr", {"id": 42, "name": "flat", "severity": "Low", "updatedAt": "2026-01-10T09:00:00Z"})
    assert (alert.vendor_id, alert.title, alert.severity) == ("42", "flat", Severity.LOW)
    assert alert.created == alert.updated


@pytest.mark.parametrize("identifier", [None, "", "  ", [], {}])
def test_a_record_without_an_id_is_refused(identifier: object) -> None:
    with pytest.raises(ValueError, match="no id"):
        to_alert("xdr", {**RECORD, "id": identifier})


def test_a_record_without_any_time_is_refused() -> None:
    with pytest.raises(ValueError, match="updatedAt"):
        to_alert("xdr", {"id": "a", "attributes": {"name": "n", "updatedAt": "never"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(["T1059", "TA0002 - X", "10.0.0.1", "High", "a@b.cc", "2026-01-10T09:00:00Z"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*RECORD["attributes"], "id", "type", "value", "data", "attributes", "host", "ip"]), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*RECORD, *RECORD["attributes"], "included"]), JSON), st.lists(JSON, max_size=3))
def test_a_record_of_any_shape_becomes_an_alert_or_is_refused_alone(drift: dict[str, Any], included: list[Any]) -> None:
    attributes = RECORD["attributes"] | {name: value for name, value in drift.items() if name in RECORD["attributes"]}
    record = RECORD | {"attributes": attributes} | {name: value for name, value in drift.items() if name in RECORD}
    try:
        alert = to_alert("xdr", record, included)
    except NORMALISER_FAILURES:
        return
    assert msgspec.convert(msgspec.to_builtins(alert), Alert) == alert


def test_a_reference_is_not_taken_for_one_that_only_compares_equal() -> None:
    told = [mapped(attacks={"techniqueId": "T1059", "name": name}).attacks[0].technique_name for name in (1, True, 1.0)]
    assert told == ["1", "true", "1.0"]


def held_after(records: Iterable[bytes]) -> int:
    """Bytes that are held when these were mapped, and nothing of them is wanted any more."""
    tracemalloc.start()
    try:
        for record in records:
            to_alert("xdr", msgspec.json.decode(record))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def with_a_long_reference(number: int) -> dict[str, Any]:
    return {"attacks": [{"techniqueId": "T1059", "name": f"{number}".rjust(100_000)}]}


def with_many_fields(number: int) -> dict[str, Any]:
    return {"supportingData": {f"{number:03}": "", **{chr(0x4E00 + name): "" for name in range(2_000)}}}


@pytest.mark.parametrize("drift", [with_a_long_reference, with_many_fields])
def test_what_seems_to_come_back_is_not_remembered_when_it_is_large(drift: Callable[[int], dict[str, Any]]) -> None:
    """Without a bound, 10 MB of references, or 18 MB of the names of fields, after a hundred alerts."""
    records = [
        msgspec.json.encode(RECORD | {"attributes": RECORD["attributes"] | drift(number)}) for number in range(100)
    ]
    assert held_after(records) < 1_000_000


@pytest.mark.skipif(not SAMPLES.is_file(), reason="the vendors' published records are not on this machine")
def test_published_records_keep_id_title_times_severity_and_entities() -> None:
    lines = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
    records = [line["record"] for line in lines if line["kind"].startswith("xdr_jsonapi")]
    assert len(records) >= 4
    words = {"Unknown": 0, "Informational": 1, "Low": 2, "Medium": 3, "High": 4, "Critical": 5}
    for record in records:
        alert, attributes = to_alert("xdr", record), record["attributes"]
        assert alert.vendor_id == record["id"]
        assert alert.title == attributes["name"]
        assert alert.created == datetime.fromisoformat(attributes["createdAt"])
        assert alert.updated == datetime.fromisoformat(attributes["updatedAt"])
        assert alert.severity.rank == words.get(attributes["severity"], attributes["severity"])
        assert {entity.value for entity in alert.entities} >= {
            asset["id"] for asset in record["relationships"]["assets"]["data"]
        }
        assert len(alert.techniques) == len(attributes["attacks"])
