"""Row keys follow created time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from xdr_mcp.store.sqlite.keys import LARGEST, SLOTS, first_key, last_key, microseconds, moment

TIMES = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), datetime.max.replace(tzinfo=UTC)]
)


@given(TIMES, TIMES)
def test_a_later_alert_never_has_a_smaller_key(one: datetime, other: datetime) -> None:
    earlier, later = sorted((microseconds(one), microseconds(other)))
    assert 0 < first_key(earlier) <= first_key(later)
    assert last_key(earlier) <= last_key(later) <= LARGEST


@given(st.datetimes(datetime(1970, 1, 1), datetime(2106, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 (the zone is given)
def test_a_microsecond_makes_a_difference_in_our_time(created: datetime) -> None:
    value = microseconds(created)
    assert first_key(value + 1) - first_key(value) == SLOTS


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_comes_back_as_it_was(value: datetime) -> None:
    assert moment(microseconds(value)) == value
