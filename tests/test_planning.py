from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdr_mcp.interfaces import Window
from xdr_mcp.planning import Pace, Piece, around, claims_the_future, crowded, due, needed, polls_to_rest, rescan

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

minutes = st.integers(0, 120).map(lambda number: START + number * MINUTE)
spans = st.integers(0, 90).map(lambda number: number * MINUTE)


@st.composite
def coverages(draw: st.DrawFn) -> tuple[Window, ...]:
    """Closed intervals as a store keeps them: merged, ascending."""
    edges = sorted(draw(st.sets(minutes, max_size=10)))
    return tuple(Window(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False))


def holds(windows: tuple[Window, ...], moment: datetime) -> bool:
    return any(window.start <= moment <= window.end for window in windows)


# ------------------------------------------------------------------------------------------------ what is due


def test_the_first_poll_is_due_from_the_origin_until_now() -> None:
    assert due((), START - HOUR, START, MINUTE) == [Piece(Window(START - HOUR, START), live=True)]


def test_after_a_poll_what_is_due_overlaps_what_is_covered_by_the_look_back() -> None:
    covered = (Window(START - HOUR, START - 10 * MINUTE),)
    assert due(covered, START - HOUR, START, 2 * MINUTE) == [Piece(Window(START - 12 * MINUTE, START), live=True)]


def test_a_hole_between_two_covered_intervals_is_due_after_the_live_window() -> None:
    covered = (Window(START - 5 * HOUR, START - 4 * HOUR), Window(START - 3 * HOUR, START - HOUR))
    assert due(covered, START - 5 * HOUR, START, MINUTE) == [
        Piece(Window(START - HOUR - MINUTE, START), live=True),
        Piece(Window(START - 4 * HOUR - MINUTE, START - 3 * HOUR), live=False),
    ]


def test_a_hole_before_all_that_is_covered_begins_at_the_origin_and_not_before() -> None:
    covered = (Window(START - HOUR, START),)
    live, gap = due(covered, START - 2 * HOUR, START, MINUTE)
    assert (live, gap) == (
        Piece(Window(START - MINUTE, START), live=True),
        Piece(Window(START - 2 * HOUR, START - HOUR), live=False),
    )


def test_a_look_back_that_is_longer_than_history_ends_at_the_origin() -> None:
    covered = (Window(START - HOUR, START - MINUTE),)
    assert due(covered, START - HOUR, START, DAY) == [Piece(Window(START - HOUR, START), live=True)]


def test_something_is_due_even_when_the_clock_went_back_behind_what_is_covered() -> None:
    covered = (Window(START - HOUR, START + HOUR),)
    assert due(covered, START - HOUR, START, MINUTE) == [Piece(Window(START - MINUTE, START), live=True)]


def test_a_hole_that_lies_in_the_future_of_a_clock_that_went_back_is_not_due_yet() -> None:
    covered = (Window(START - HOUR, START + HOUR), Window(START + 2 * HOUR, START + 3 * HOUR))
    assert due(covered, START - HOUR, START, MINUTE) == [Piece(Window(START - MINUTE, START), live=True)]


def test_a_hole_that_begins_now_is_not_due_beside_what_is_live() -> None:
    covered = (Window(START - HOUR, START), Window(START + HOUR, START + 2 * HOUR))
    assert due(covered, START - HOUR, START, MINUTE) == [Piece(Window(START - MINUTE, START), live=True)]


def test_before_history_begins_nothing_but_now_is_due() -> None:
    assert due((), START + HOUR, START, MINUTE) == [Piece(Window(START, START), live=True)]


@given(coverages(), st.tuples(minutes, minutes, minutes).map(sorted), spans)
def test_every_moment_of_history_is_covered_or_due(
    covered: tuple[Window, ...], moments: list[datetime], look_back: timedelta
) -> None:
    origin, moment, now = moments
    pieces = due(covered, origin, now, look_back)
    windows = tuple(piece.window for piece in pieces)
    assert all(window.start <= window.end <= now for window in windows)
    assert [piece.live for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert list(windows) == sorted(windows, key=lambda window: window.end, reverse=True)
    assert holds(covered, moment) or holds(windows, moment)


# ------------------------------------------------------------------------------------------------ in what pieces


def test_the_newest_part_of_a_piece_and_what_is_left_touch() -> None:
    piece = Piece(Window(START, START + 5 * HOUR), live=True)
    newest, rest = piece.newest(2 * HOUR)
    assert newest == Piece(Window(START + 3 * HOUR, START + 5 * HOUR), live=True)
    assert rest == Piece(Window(START, START + 3 * HOUR), live=False)


@pytest.mark.parametrize("longest", [5 * HOUR, 6 * HOUR])
def test_of_a_piece_that_is_short_enough_nothing_is_left(longest: timedelta) -> None:
    piece = Piece(Window(START, START + 5 * HOUR), live=False)
    assert piece.newest(longest) == (piece, None)


def test_the_halves_of_a_piece_share_their_border_and_the_newer_one_comes_first_and_stays_live() -> None:
    assert Piece(Window(START, START + 2 * HOUR), live=True).halves() == (
        Piece(Window(START + HOUR, START + 2 * HOUR), live=True),
        Piece(Window(START, START + HOUR), live=False),
    )


def test_a_piece_is_told_by_its_times() -> None:
    window = Window(START - HOUR, START)
    assert str(Piece(window, live=False)) == "what changed from 2026-03-01T11:00:00Z to 2026-03-01T12:00:00Z"
    assert str(Piece(window, live=True)) == "what changed from 2026-03-01T11:00:00Z to now"


# ------------------------------------------------------------------------------------------------ what counts as read


@pytest.mark.parametrize(
    ("skew", "hold_back", "end"),
    [
        pytest.param(timedelta(0), timedelta(0), START, id="clocks that agree"),
        pytest.param(timedelta(0), 2 * MINUTE, START - 2 * MINUTE, id="a vendor that indexes for two minutes"),
        pytest.param(-HOUR, timedelta(0), START - HOUR - SECOND, id="a vendor whose clock is behind"),
        pytest.param(-HOUR, 2 * MINUTE, START - HOUR - SECOND - 2 * MINUTE, id="both"),
        pytest.param(HOUR, timedelta(0), START - SECOND, id="a vendor whose clock is ahead: ours counts"),
    ],
)
def test_a_live_window_is_certain_up_to_when_its_reading_began_by_the_earlier_clock(
    skew: timedelta, hold_back: timedelta, end: datetime
) -> None:
    piece = Piece(Window(START - DAY, START + MINUTE), live=True)
    assert piece.certain(START, skew, hold_back) == Window(START - DAY, end)


def test_a_window_of_the_past_is_certain_whole() -> None:
    piece = Piece(Window(START - DAY, START - HOUR), live=False)
    assert piece.certain(START, timedelta(0), MINUTE) == piece.window


def test_of_a_window_that_the_vendor_is_still_indexing_nothing_is_certain() -> None:
    piece = Piece(Window(START - MINUTE, START), live=True)
    assert piece.certain(START, timedelta(0), 2 * MINUTE) is None
    assert piece.certain(START, timedelta(0), MINUTE) == Window(START - MINUTE, START - MINUTE)


def test_coverage_may_end_a_second_ahead_for_that_is_how_well_the_vendors_clock_is_known() -> None:
    assert not claims_the_future((), START)
    assert not claims_the_future((Window(START - HOUR, START + SECOND),), START)
    assert claims_the_future((Window(START - HOUR, START + 2 * SECOND),), START)


def test_a_crowd_at_an_instant_leaves_a_gap_around_it() -> None:
    wide = Window(START, START + timedelta(milliseconds=1))
    assert around(wide) == wide
    gap = around(Window(START, START))
    assert gap.start < START < gap.end


# ------------------------------------------------------------------------------------------------ crowds


def test_a_hole_that_is_nothing_but_crowds_is_told_from_one_that_holds_more() -> None:
    covered = (
        Window(START, START + HOUR),
        Window(START + 2 * HOUR, START + 4 * HOUR),
        Window(START + 5 * HOUR, START + DAY),
    )
    first, second = Window(START + HOUR, START + 2 * HOUR), Window(START + 4 * HOUR, START + 5 * HOUR)
    halves = [Window(second.start + HOUR / 2, second.end), Window(second.start, second.start + HOUR / 2)]
    assert crowded(covered, []) == ()
    assert crowded(covered, [first, *halves]) == (first, second)
    assert crowded(covered, [first, halves[0]]) == (first,)
    assert crowded(covered, [first, halves[1]]) == (first,)
    assert crowded(covered, [first, Window(second.start - MINUTE, second.end + MINUTE)]) == (first, second)
    assert crowded(covered[:2], [second]) == ()


def test_a_hole_that_a_crowd_left_is_read_by_itself_with_no_look_back() -> None:
    covered = (
        Window(START, START + HOUR),
        Window(START + 2 * HOUR, START + 3 * HOUR),
        Window(START + 4 * HOUR, START + 5 * HOUR),
    )
    crowd, hole = Window(START + 3 * HOUR, START + 4 * HOUR), Window(START + HOUR, START + 2 * HOUR)
    assert [piece.window for piece in due(covered, START, START + 6 * HOUR, MINUTE, (crowd,))] == [
        Window(START + 5 * HOUR - MINUTE, START + 6 * HOUR),
        Window(hole.start - MINUTE, hole.end),
    ]


def test_a_piece_that_a_crowd_ends_or_begins_keeps_its_newest_moment_and_nothing_of_the_crowd() -> None:
    piece, hour_before = Piece(Window(START, START + 3 * HOUR), live=True), Window(START + 2 * HOUR, START + 3 * HOUR)
    assert piece.without([hour_before]) == [
        Piece(Window(START + 3 * HOUR, START + 3 * HOUR), live=True),
        Piece(Window(START, START + 2 * HOUR), live=False),
    ]
    assert piece.without([Window(START, START + HOUR)]) == [Piece(Window(START + HOUR, START + 3 * HOUR), live=True)]
    assert piece.without([]) == [piece]


@given(coverages(), coverages(), st.tuples(minutes, minutes).map(sorted), minutes)
def test_what_is_read_beside_crowds_is_all_but_them_and_its_newest_part_stays_live(
    covered: tuple[Window, ...], crowds: tuple[Window, ...], ends: list[datetime], moment: datetime
) -> None:
    holes = crowded(covered, [Window(before.end, after.start) for before, after in pairwise(covered)])
    assert len(holes) == max(0, len(covered) - 1)
    piece = Piece(Window(*ends), live=True)
    for apart in (holes, crowds):
        parts = piece.without(apart)
        windows = tuple(part.window for part in parts)
        assert [part.live for part in parts] == [True] + [False] * (len(parts) - 1)
        assert windows[0].end == piece.window.end
        assert list(windows) == sorted(windows, key=lambda window: window.end, reverse=True)
        assert all(piece.window.start <= window.start <= window.end for window in windows)
        assert holds((*windows, *apart), moment) or not holds((piece.window,), moment)
        reaching_past = tuple(hole for hole in apart if hole.end > piece.window.end)
        inside = any(hole.start < moment < hole.end for hole in apart if hole not in reaching_past)
        assert not (inside and holds(windows, moment))


# ------------------------------------------------------------------------------------------------ the look-back


@pytest.mark.parametrize(
    ("lag", "look_back"),
    [
        pytest.param(None, 5 * MINUTE, id="nothing was measured"),
        pytest.param(10.0, 5 * MINUTE, id="less than the shortest"),
        pytest.param(1000.0, timedelta(seconds=1500), id="half as much again as was measured"),
        pytest.param(1e6, DAY, id="more than the longest"),
    ],
)
def test_the_look_back_follows_the_measured_lag_within_bounds(lag: float | None, look_back: timedelta) -> None:
    assert Pace().look_back(lag) == look_back


# ------------------------------------------------------------------------------------------------ rescans


def test_a_rescan_reaches_back_from_where_the_last_one_began() -> None:
    covered = (Window(START - 10 * DAY, START),)
    last = START - 3 * DAY
    assert rescan(covered, START - 10 * DAY, last, START, DAY) == [Piece(Window(last - DAY, START), live=False)]


def test_a_rescan_that_is_remembered_in_the_future_counts_from_now() -> None:
    covered = (Window(START - 10 * DAY, START),)
    pieces = rescan(covered, START - 10 * DAY, START + DAY, START, DAY)
    assert pieces == [Piece(Window(START - DAY, START), live=False)]


def test_a_rescan_goes_no_further_back_than_history_and_no_further_on_than_now() -> None:
    covered = (Window(START - 10 * DAY, START + HOUR),)
    pieces = rescan(covered, START - 2 * HOUR, START - HOUR, START, DAY)
    assert pieces == [Piece(Window(START - 2 * HOUR, START), live=False)]


def test_a_rescan_reads_a_covered_instant_too() -> None:
    instant = Window(START - HOUR, START - HOUR)
    assert rescan((instant,), START - DAY, START - HOUR, START, DAY) == [Piece(instant, live=False)]


@given(coverages(), minutes, minutes, minutes, spans)
def test_a_rescan_reads_what_is_covered_and_nothing_else(
    covered: tuple[Window, ...], origin: datetime, last: datetime, now: datetime, span: timedelta
) -> None:
    windows = [piece.window for piece in rescan(covered, origin, last, now, span)]
    assert windows == sorted(windows, key=lambda window: window.start)
    for window in windows:
        assert origin <= window.start <= window.end <= now
        assert any(whole.start <= window.start and window.end <= whole.end for whole in covered)


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        pytest.param(59 * MINUTE, "not due", id="within the hour"),
        pytest.param(HOUR, "due", id="an hour ago"),
        pytest.param(timedelta(0), "not due", id="now"),
        pytest.param(-SECOND, "due", id="in the future: a clock was wrong"),
    ],
)
def test_a_rescan_is_due_every_hour_and_after_a_wrong_clock(ago: timedelta, expected: str) -> None:
    assert Pace().rescan_is_due(START - ago, START, 1, None) is (expected == "due")


def test_rescans_are_rarer_as_they_cost_more_of_a_daily_budget_but_no_rarer_than_what_they_span() -> None:
    pace = Pace()
    dear, dearest = 10, 10_000  # of 1,000 a day a tenth is for rescans
    assert not pace.rescan_is_due(START - 2 * HOUR, START, dear, 1000)
    assert pace.rescan_is_due(START - DAY / 10, START, dear, 1000)
    assert not pace.rescan_is_due(START - 23 * HOUR, START, dearest, 1000)
    assert pace.rescan_is_due(START - DAY, START, dearest, 1000)


# ------------------------------------------------------------------------------------------------ budgets


@pytest.mark.parametrize(
    ("requests", "per_day", "every"),
    [
        pytest.param(100, None, MINUTE, id="no daily budget"),
        pytest.param(1, 2000, MINUTE, id="a budget that suffices"),
        pytest.param(2, 2000, timedelta(seconds=108), id="four fifths of the budget, over the day"),
        pytest.param(100, 2000, 5 * MINUTE, id="no further than five minutes"),
    ],
)
def test_a_daily_budget_stretches_the_interval(requests: int, per_day: int | None, every: timedelta) -> None:
    assert Pace().poll_every(requests, per_day) == every


def test_an_interval_that_is_longer_than_any_stretch_stays() -> None:
    assert Pace(interval=HOUR).poll_every(100, 10) == HOUR


def test_gaps_that_cannot_be_read_rest_for_twice_as_long_each_time_up_to_a_bound() -> None:
    assert [polls_to_rest(failures) for failures in (1, 2, 3, 9, 10, 10_000)] == [2, 4, 8, 512, 512, 512]


# ------------------------------------------------------------------------------------------------ what must be kept


@given(coverages(), minutes, minutes, minutes, st.integers(0, 30))
def test_all_that_polling_can_read_at_any_later_time_is_needed(
    covered: tuple[Window, ...], origin: datetime, last: datetime, now: datetime, later: int
) -> None:
    pace = Pace(longest_look_back=20 * MINUTE, shortest_look_back=MINUTE, rescan_span=30 * MINUTE)
    kept = needed(covered, origin, last, now, pace)
    then = now + later * MINUTE
    pieces = due(covered, origin, then, pace.longest_look_back)
    pieces += rescan(covered, origin, last, then, pace.rescan_span)
    for window in (piece.window for piece in pieces):
        assert any(whole.start <= window.start and window.end <= whole.end for whole in kept)


def test_before_the_first_poll_all_that_it_will_read_is_needed() -> None:
    (window,) = needed((), None, None, START, Pace(initial_lookback=3 * DAY))
    assert window.start <= START - 3 * DAY
    assert window.end.year == 9999


def test_what_was_read_whole_long_ago_is_not_needed() -> None:
    covered = (Window(START - 30 * DAY, START),)
    assert needed(covered, START - 30 * DAY, START, START, Pace()) == (
        Window(START - 2 * DAY, datetime.max.replace(tzinfo=UTC)),
    )


@pytest.mark.parametrize(
    ("read_until", "rescanned", "now"),
    [
        pytest.param(START - 5 * DAY, START, START, id="a source that was away"),
        pytest.param(START, START - 5 * DAY, START, id="a rescan that was cut off"),
        pytest.param(START, START, START - 5 * DAY, id="a clock that went back"),
    ],
)
def test_all_since_two_days_before_the_oldest_of_three_moments_is_needed(
    read_until: datetime, rescanned: datetime, now: datetime
) -> None:
    *_, window = needed((Window(START - 30 * DAY, read_until),), START - 30 * DAY, rescanned, now, Pace())
    assert window.start == START - 7 * DAY
