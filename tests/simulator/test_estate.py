"""The company and what happens to it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from xdr_mcp.simulator import Estate
from xdr_mcp.simulator.attack import TACTICS, TECHNIQUES
from xdr_mcp.simulator.revision import canonical
from xdr_mcp.simulator.script import Story


@pytest.fixture(scope="module")
def three_days() -> list[dict[str, Any]]:
    """Every version of three days, as records in the order of their times."""
    estate = Estate(3, lambda: datetime(2026, 7, 28, 20, tzinfo=UTC), history=timedelta(days=3))
    return [revision.record for revision in estate.arrivals()]


def story_of(records: list[dict[str, Any]], rule: str) -> list[dict[str, Any]]:
    """The first versions of one case's alerts, in order: the case that holds an alert of this rule."""
    firsts = [one for one in records if one["attributes"]["updatedAt"] == one["attributes"]["createdAt"]]
    cases = defaultdict(list)
    for one in firsts:
        cases[one["attributes"]["supportingData"].get("caseId")].append(one)
    return next(
        case
        for name, case in cases.items()
        if name and any(one["attributes"]["ruleId"] == rule for one in case)
    )  # fmt: skip


def test_the_same_seed_and_time_give_the_same_bytes(clock: Any) -> None:
    first, second = (Estate(3, clock).arrivals() for _ in range(2))
    assert [one.encode(None) for one in first] == [one.encode(None) for one in second]
    assert len(first) > 100


def test_another_seed_gives_another_company_and_other_alerts(clock: Any) -> None:
    one, other = (Estate(seed, clock) for seed in (3, 4))
    assert {user.account for user in one.company.users} != {user.account for user in other.company.users}
    assert {revision.alert_id for revision in one.arrivals()}.isdisjoint(
        revision.alert_id for revision in other.arrivals()
    )


def test_watching_live_and_starting_later_show_the_same_versions(clock: Any) -> None:
    watched = Estate(3, clock)
    live = [revision.encode(None) for revision in watched.arrivals()]
    at_first = len(live)
    for _ in range(12):
        clock.advance(hours=1)
        live.extend(revision.encode(None) for revision in watched.arrivals())
    afterwards = [revision.encode(None) for revision in Estate(3, clock, history=timedelta(hours=36)).arrivals()]
    assert sorted(live) == sorted(afterwards)
    assert len(live) > at_first


def test_nothing_arrives_before_its_time_and_nothing_twice(clock: Any) -> None:
    estate = Estate(3, clock, speed=60)
    seen: set[tuple[str, int]] = set()
    for _ in range(30):
        now = int(clock().timestamp() * 1000)
        arrived = estate.arrivals()
        assert all(revision.updated <= now for revision in arrived)
        keys = {(revision.alert_id, revision.number) for revision in arrived}
        assert len(keys) == len(arrived)
        assert seen.isdisjoint(keys)
        seen |= keys
        clock.advance(minutes=1)
    assert estate.arrivals()


@pytest.mark.parametrize("alerts", [0, 1, 25, 700])
def test_a_back_fill_can_be_asked_for_by_number(clock: Any, alerts: int) -> None:
    arrived = Estate(3, clock, alerts=alerts).arrivals()
    assert len({revision.alert_id for revision in arrived}) == alerts


def test_a_back_fill_by_number_holds_the_newest(clock: Any) -> None:
    few = {revision.alert_id: revision.created for revision in Estate(3, clock, alerts=50).arrivals()}
    many = {revision.alert_id: revision.created for revision in Estate(3, clock, alerts=200).arrivals()}
    assert sorted(few.values()) == sorted(many.values())[-50:]


def test_versions_of_an_alert_follow_each_other(clock: Any) -> None:
    versions = defaultdict(list)
    for revision in Estate(3, clock, history=timedelta(days=3)).arrivals():
        versions[revision.alert_id].append(revision)
    assert any(len(several) > 3 for several in versions.values())
    for several in versions.values():
        assert [one.number for one in several] == list(range(1, len(several) + 1))
        times = [one.updated for one in several]
        assert times == sorted(set(times))
        assert {one.created for one in several} == {times[0]}


def test_ransomware_unfolds_from_a_mail_to_encryption_in_the_evening(three_days: list[dict[str, Any]]) -> None:
    story = story_of(three_days, "MAIL-1102")
    tactics = [attack["tactic"] for one in story for attack in one["attributes"]["attacks"]]
    assert tactics[0] == "TA0001 - Initial Access"
    assert tactics[-1] == "TA0040 - Impact"
    for stage in ("Execution", "Command and Control", "Credential Access", "Lateral Movement", "Impact"):
        assert any(tactic.endswith(stage) for tactic in tactics), stage
    victim = story[0]["attributes"]["supportingData"]["user"]
    assert sum(one["attributes"]["supportingData"].get("user") == victim for one in story) > 5
    last = datetime.fromisoformat(story[-1]["attributes"]["createdAt"])
    assert 19 <= last.astimezone(UTC).hour <= 23


def test_a_taken_over_identity_is_one_account_seen_from_one_address(three_days: list[dict[str, Any]]) -> None:
    story = story_of(three_days, "IDP-4030")
    entered = [one["attributes"]["supportingData"] for one in story if one["attributes"]["ruleId"] != "IDP-4010"]
    assert len({data["email"] for data in entered}) == 1
    assert len({data["src_ip"] for data in entered if "src_ip" in data}) == 1
    techniques = {attack["techniqueId"] for one in story for attack in one["attributes"]["attacks"]}
    assert {"T1110.003", "T1621", "T1564.008"} <= techniques


def test_every_attack_names_a_technique_that_serves_its_tactic(three_days: list[dict[str, Any]]) -> None:
    seen = 0
    for record in three_days:
        for attack in record["attributes"]["attacks"]:
            tactic = attack["tactic"].partition(" ")[0]
            assert tactic in TECHNIQUES[attack["techniqueId"]][1]
            assert attack["tactic"] == f"{tactic} - {TACTICS[tactic]}"
            seen += 1
    assert seen > 100


def test_alerts_are_worked_on_and_closed_in_every_way(three_days: list[dict[str, Any]]) -> None:
    attributes = [one["attributes"] for one in three_days]
    assert {one["status"] for one in attributes} == {"NEW", "IN_PROGRESS", "ACK_COMPLETE", "ACK_FP", "SUPPRESS"}
    assert all(one["assignee"] for one in attributes if one["status"] == "IN_PROGRESS")
    notes = [note for one in attributes for note in one["supportingData"].get("notes", ())]
    assert {note["sourceType"] for note in notes} == {"Assignee", "Acknowledgement", "Suppress", "General"}
    assert all(0 <= one["severity"] <= 5 and 0 <= one["score"] <= 100 for one in attributes)


def test_aggregation_moves_the_counts_and_the_time(three_days: list[dict[str, Any]]) -> None:
    gathered = [one["attributes"] for one in three_days if one["attributes"]["alertAggregationCount"] > 1]
    assert gathered
    assert all(one["createdAt"] < one["lastAggregatedTime"] <= one["updatedAt"] for one in gathered)
    assert all(one["totalEventMatchCount"] >= one["alertAggregationCount"] for one in gathered)


def test_a_frozen_company_goes_on_where_it_stopped(clock: Any) -> None:
    estate = Estate(3, clock)
    estate.arrivals()
    estate.freeze()
    clock.advance(hours=6)
    assert estate.arrivals() == []
    assert estate.next_at() is None
    estate.thaw()
    assert estate.arrivals()


def test_a_quiet_company_has_what_is_put_in_and_nothing_else(clock: Any) -> None:
    estate = Estate(3, clock, rate=0, stories=False)
    assert estate.arrivals() == []
    estate.burst(100)
    burst = estate.arrivals()
    assert len({revision.alert_id for revision in burst}) == 100
    assert len({revision.updated for revision in burst}) < 20
    clock.advance(days=1)
    assert estate.arrivals() == []


def test_bulk_alerts_are_canonical_and_heavy_tailed(clock: Any) -> None:
    estate = Estate(3, clock, rate=0, stories=False)
    estate.bulk(5_000)
    bulk = estate.arrivals()
    sizes = sorted(len(revision.encode(None)) for revision in bulk)
    assert 1_500 < sizes[2_500] < 2_500
    assert 20_000 < sizes[4_950] < 45_000
    assert len({revision.alert_id for revision in bulk}) == 5_000
    assert all(revision.encode(None) == canonical(revision.record) for revision in bulk[:200])


def test_a_skewed_vendor_tells_times_of_its_own_clock(clock: Any) -> None:
    ahead = Estate(3, clock, skew=timedelta(hours=2))
    assert ahead.now() == clock() + timedelta(hours=2)
    assert max(revision.updated for revision in ahead.arrivals()) > clock().timestamp() * 1000


def test_time_cannot_stand_still_by_speed(clock: Any) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Estate(3, clock, speed=0)


def test_a_story_of_ones_own_is_told_beside_the_companys() -> None:
    now = datetime(2026, 7, 28, 20, tzinfo=UTC)
    estate = Estate(3, lambda: now, rate=0, stories=False)
    assert estate.arrivals() == []
    begin = int((now - timedelta(hours=1)).timestamp() * 1000)
    story = Story("own", begin, estate.company, Random(1))  # noqa: S311 (a story, not a secret)
    story.alert(0, "AV-0110", "A test file was written.", user=estate.company.users[0])
    story.alert(90, "AV-0110", "And another.", user=estate.company.users[0])
    estate.tell(story)
    (seen,) = estate.arrivals()
    assert seen.record["attributes"]["message"] == "A test file was written."
    now += timedelta(hours=1)
    (seen,) = estate.arrivals()
    assert seen.record["attributes"]["message"] == "And another."
