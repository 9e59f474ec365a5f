from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from strategies import alerts, storable_texts

from xdr_mcp.alert import Alert, Attack, ChangeKind, Entity, EntityKind, Severity, Status, change_kind

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def alert(**members: object) -> Alert:
    given_members = {"source": "xdr", "vendor_id": "7", "title": "T", "created": NOON, "updated": NOON, **members}
    return Alert(**given_members)  # type: ignore[arg-type]


def test_two_sources_with_equal_vendor_ids_have_alerts_with_different_ids() -> None:
    assert alert(source="a").id == "a/7"
    assert alert(source="b").id == "b/7"


def test_an_id_cannot_be_claimed() -> None:
    assert alert(id="other/1").id == "xdr/7"


@pytest.mark.parametrize("field", ["created", "updated", "first_seen", "last_seen"])
def test_a_time_without_a_zone_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="has no time zone; give it one"):
        alert(**{field: datetime(2026, 7, 1)})  # noqa: DTZ001 (that is the point)


@given(alerts(storable_texts))
def test_an_alert_survives_being_written_and_read(drawn: Alert) -> None:
    assert msgspec.json.decode(msgspec.json.encode(drawn), type=Alert) == drawn


def test_severities_are_ordered_as_in_ocsf() -> None:
    assert [severity.rank for severity in Severity] == [0, 1, 2, 3, 4, 5]
    assert max(Severity, key=lambda severity: severity.rank) is Severity.CRITICAL


def test_suppressed_and_resolved_alerts_are_closed() -> None:
    assert {status for status in Status if status.closed} == {Status.SUPPRESSED, Status.RESOLVED}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, Status.NEW, ChangeKind.CREATED),
        (None, Status.RESOLVED, ChangeKind.CREATED),
        (Status.NEW, Status.IN_PROGRESS, ChangeKind.UPDATED),
        (Status.IN_PROGRESS, Status.RESOLVED, ChangeKind.CLOSED),
        (Status.NEW, Status.SUPPRESSED, ChangeKind.CLOSED),
        (Status.SUPPRESSED, Status.RESOLVED, ChangeKind.UPDATED),
        (Status.RESOLVED, Status.NEW, ChangeKind.REOPENED),
    ],
)
def test_a_change_is_named_after_what_it_did_to_the_status(
    before: Status | None, after: Status, kind: ChangeKind
) -> None:
    assert change_kind(None if before is None else alert(status=before), alert(status=after)) is kind


def test_techniques_and_tactics_are_listed_in_order_each_once() -> None:
    phishing = Attack(technique="T1566", tactic="TA0001")
    shell = Attack(technique="T1059", tactic="TA0002")
    listed = alert(attacks=(shell, phishing, shell, Attack(technique_name="unnumbered")))
    assert listed.techniques == ("T1059", "T1566")
    assert listed.tactics == ("TA0002", "TA0001")


def test_entities_are_found_by_kind() -> None:
    host, user = Entity(EntityKind.HOST, "web-01"), Entity(EntityKind.USER, "alice")
    assert alert(entities=(user, host)).values_of(EntityKind.HOST) == ("web-01",)
