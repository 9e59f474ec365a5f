from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]
from strategies import alerts, storable_texts

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict
from xdr_mcp.ocsf import to_ocsf

CREATED = datetime(2026, 7, 1, 12, 0, 0, 123_000, tzinfo=UTC)
UPDATED = datetime(2026, 7, 1, 13, 0, tzinfo=UTC)


@cache
def schema() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema("1.6.0"))


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema().get_class_schema("detection_finding", profiles=["incident"]))


def assert_valid(finding: dict[str, object]) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(finding)]
    assert errors == []
    assert finding["type_uid"] == 2004 * 100 + int(str(finding["activity_id"]))


def alert(**members: object) -> Alert:
    given_members = {"source": "xdr", "vendor_id": "7", "title": "T", "created": CREATED, "updated": CREATED, **members}
    return Alert(**given_members)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(alerts(storable_texts))
def test_every_alert_is_a_valid_detection_finding(drawn: Alert) -> None:
    assert_valid(to_ocsf(drawn))


def test_an_alert_that_says_almost_nothing_is_a_valid_finding() -> None:
    finding = to_ocsf(alert(source="", vendor_id="", title=""))
    assert_valid(finding)
    assert finding["severity_id"] == 0
    assert "assignee" not in finding
    assert "observables" not in finding


def test_the_validator_refuses_what_is_no_finding() -> None:
    finding = to_ocsf(alert())
    for broken in ({**finding, "severity_id": 7}, {**finding, "time": "now"}, {**finding, "made_up": 1}):
        with pytest.raises(AssertionError):
            assert_valid(broken)
    with pytest.raises(AssertionError):
        assert_valid({**finding, "type_uid": 200499})


@pytest.mark.parametrize(
    ("status", "updated", "activity"),
    [
        (Status.NEW, CREATED, 1),
        (Status.NEW, UPDATED, 2),
        (Status.IN_PROGRESS, UPDATED, 2),
        (Status.RESOLVED, UPDATED, 3),
        (Status.SUPPRESSED, CREATED, 3),
    ],
)
def test_the_activity_follows_from_status_and_times(status: Status, updated: datetime, activity: int) -> None:
    finding = to_ocsf(alert(status=status, updated=updated))
    assert finding["activity_id"] == activity
    assert finding["type_uid"] == 200400 + activity
    assert finding["is_alert"] is (activity != 3)


@pytest.mark.parametrize(
    ("attribute", "values"),
    [("severity", Severity), ("status", Status), ("verdict", Verdict)],
    ids=str,
)
def test_numbers_and_captions_are_those_of_the_schema(
    attribute: str, values: type[Severity | Status | Verdict]
) -> None:
    enum = get_ocsf_schema("1.6.0")["classes"]["detection_finding"]["attributes"][f"{attribute}_id"]["enum"]
    for value in values:
        finding = to_ocsf(alert(**{attribute: value}))
        assert enum[str(finding[f"{attribute}_id"])]["caption"] == finding[attribute]


@pytest.mark.parametrize("kind", EntityKind)
@pytest.mark.parametrize("value", ["plain", "C:\\dir\\plain.exe"])
def test_every_kind_of_entity_is_an_observable_with_the_schemas_caption(kind: EntityKind, value: str) -> None:
    captions = get_ocsf_schema("1.6.0")["objects"]["observable"]["attributes"]["type_id"]["enum"]
    [observable] = to_ocsf(alert(entities=(Entity(kind, value),)))["observables"]
    assert observable["value"] == value
    assert captions[str(observable["type_id"])]["caption"] == observable["type"]


def test_times_are_whole_milliseconds() -> None:
    finding = to_ocsf(alert(first_seen=CREATED, updated=UPDATED))
    assert finding["time"] == 1_782_907_200_123
    assert finding["start_time"] == 1_782_907_200_123
    assert finding["finding_info"]["modified_time"] == 1_782_910_800_000
    assert "end_time" not in finding


def test_a_sub_technique_stands_beside_its_technique() -> None:
    sub = Attack(technique="T1059.001", technique_name="PowerShell", tactic="TA0002", tactic_name="Execution")
    whole = Attack(technique="T1566", technique_name="Phishing")
    finding = to_ocsf(alert(attacks=(sub, whole, Attack())))
    assert finding["finding_info"]["attacks"] == [
        {
            "technique": {"uid": "T1059"},
            "sub_technique": {"uid": "T1059.001", "name": "PowerShell"},
            "tactic": {"uid": "TA0002", "name": "Execution"},
        },
        {"technique": {"uid": "T1566", "name": "Phishing"}},
    ]
    assert_valid(finding)


def test_a_finding_keeps_what_the_alert_knows() -> None:
    finding = to_ocsf(
        alert(
            vendor="Example",
            product="Example XDR",
            tenant="acme",
            rule_id="r-1",
            rule_name="Beacon",
            assignee="alice",
            labels=("vip",),
            category="malware",
            url="https://xdr.example.com/7",
            recommended_actions=("Isolate the host", "Reset the password"),
            risk_score=0,
        )
    )
    assert finding["finding_info"]["uid"] == "7"
    assert finding["finding_info"]["uid_alt"] == "xdr/7"
    assert finding["finding_info"]["analytic"] == {"type_id": 1, "type": "Rule", "uid": "r-1", "name": "Beacon"}
    assert finding["finding_info"]["types"] == ["malware"]
    assert finding["finding_info"]["src_url"] == "https://xdr.example.com/7"
    assert finding["metadata"]["product"] == {"name": "Example XDR", "vendor_name": "Example"}
    assert finding["metadata"]["tenant_uid"] == "acme"
    assert finding["metadata"]["labels"] == ["vip"]
    assert finding["assignee"] == {"name": "alice"}
    assert finding["remediation"] == {"desc": "Isolate the host\nReset the password"}
    assert finding["risk_score"] == 0
    assert_valid(finding)
