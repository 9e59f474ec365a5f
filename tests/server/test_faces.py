"""What is made of an alert for rows and folding is made once a version, is bounded, and is what it would be if made anew."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st
from serving import an_alert
from strategies import alerts

from xdr_mcp.alert import Alert, Entity, EntityKind
from xdr_mcp.server.answers.faces import LARGEST_KEPT, Faces, principals
from xdr_mcp.server.answers.storms import Storm
from xdr_mcp.server.answers.telling import BRIEF, COMPACT, FULL, one_line, told_entity, told_row, told_time


def copy(alert: Alert) -> Alert:
    return msgspec.json.decode(msgspec.json.encode(alert), type=Alert)


@given(st.lists(alerts(st.text(st.characters(exclude_categories=["Cs"]), max_size=60)), min_size=1, max_size=4))
def test_an_alert_is_told_as_though_none_had_been_told_before(told: list[Alert]) -> None:
    kept = Faces()
    for alert in [*told, *map(copy, told)]:
        face, fresh = kept.of(alert), Faces().of(alert)
        for shape in (FULL, COMPACT, BRIEF):
            assert told_row(Storm.seen(alert, face), shape) == told_row(Storm.seen(alert, fresh), shape)
        assert msgspec.structs.replace(face, rows={}) == msgspec.structs.replace(fresh, rows={})


def test_equal_alerts_have_one_face_and_each_version_its_own() -> None:
    kept = Faces()
    assert kept.of(an_alert(1)) is kept.of(copy(an_alert(1)))
    assert kept.of(an_alert(1)) is not kept.of(an_alert(1, description="another version"))


def test_faces_are_kept_up_to_a_number_of_bytes_the_last_used_longest() -> None:
    one = Faces().of(an_alert(1)).size
    kept = Faces(most=10 * one + one // 2)
    first = kept.of(an_alert(1))
    for number in range(2, 30):
        kept.of(an_alert(number))
        assert kept.of(an_alert(1)) is first
        assert kept.size <= 10 * one + one // 2
    assert kept.size > 9 * one


def test_a_row_that_is_changed_by_who_asked_is_not_changed_for_others() -> None:
    storm = Storm.of(an_alert(1))
    told_row(storm, FULL).pop("title")
    assert told_row(storm, FULL)["title"]


def test_a_large_alert_is_not_kept() -> None:
    kept = Faces()
    large = an_alert(1, description="x" * LARGEST_KEPT)
    assert kept.of(large) is not kept.of(large)
    assert kept.size == 0


@given(st.sampled_from(EntityKind), st.text("ab:.- <[user", max_size=140), st.sampled_from([30, 48, 120]))
def test_an_entity_is_told_as_one_line_of_its_kind_and_value(kind: EntityKind, value: str, longest: int) -> None:
    assert told_entity(Entity(kind, value), longest) == one_line(f"{kind.value}:{value}", longest)


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_a_time_is_told_to_the_second_in_utc(moment: datetime) -> None:
    assume(moment.year not in {1, 9999})  # it may leave the calendar
    assert told_time(moment) == moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


@given(
    st.lists(
        st.builds(Entity, st.sampled_from(EntityKind), st.sampled_from(["a", "A", "b", "ß", "SS", ""])), max_size=8
    )
)
def test_of_each_kind_the_first_is_named_and_each_value_once(entities: list[Entity]) -> None:
    kinds = (EntityKind.HOST, EntityKind.USER, EntityKind.EMAIL, EntityKind.RESOURCE, EntityKind.IP)
    first = [next((each for each in entities if each.kind is kind), None) for kind in kinds]
    named = [each for each in first if each is not None] or entities
    values = [each.value.casefold() for each in named]
    expected = [each for number, each in enumerate(named) if values.index(values[number]) == number]
    assert principals(an_alert(1, entities=tuple(entities))) == expected
