from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from model_vendor import START, ManualClock, ModelVendor
from pydantic import SecretStr

from xdr_mcp.errors import BadResponse, SourceError, Unavailable, WindowTooLarge
from xdr_mcp.history import History, read_again
from xdr_mcp.interfaces import Health, Limits, Page, Saved, SourceState, Store, Window
from xdr_mcp.lease import TTL
from xdr_mcp.planning import Pace
from xdr_mcp.poller import LeaseHeld, Poller
from xdr_mcp.query import Query
from xdr_mcp.reading import PollReport
from xdr_mcp.simulator import DEFAULT_TOKEN, Estate, create_app
from xdr_mcp.sources.xdr.client import XdrClient
from xdr_mcp.sources.xdr.options import XdrOptions
from xdr_mcp.sources.xdr.source import XdrSource
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
EVERYTHING = Query()


class House:
    """A vendor, a store and a poller between them."""

    def __init__(self, store: Store, clock: ManualClock, *, pace: Pace | None = None) -> None:
        self.clock = clock
        self.store = store
        self.vendor = ModelVendor(clock)
        self.pace = pace or Pace()
        self.poller = self.new_poller()

    def new_poller(self, holder: str = "test:1:a") -> Poller:
        return Poller(self.vendor, self.store, pace=self.pace, holder=holder, clock=self.clock)

    async def reach_back(self, since: datetime) -> None:
        await History(self.store.memory("model")).reach_back(since)

    async def state(self) -> SourceState:
        return next(state for state in await self.store.states() if state.source == "model")

    async def ids(self) -> set[str]:
        found = await self.store.find(EVERYTHING, 1000)
        return {alert.vendor_id for alert in found.alerts}


class StandingStill:
    """The vendor, which stands still at its first page, and then fails."""

    def __init__(self, vendor: ModelVendor, failure: Exception) -> None:
        self.name, self.limits, self.idle_reason = vendor.name, vendor.limits, ""
        self.here, self.go_on, self.left = anyio.Event(), anyio.Event(), anyio.Event()
        self._vendor = vendor
        self._failure = failure

    async def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:  # noqa: ARG002 (the seam's)
        self.here.set()
        await self.go_on.wait()
        self.left.set()
        raise self._failure
        yield Page((), self._vendor.clock.now)  # type: ignore[unreachable]  # it makes a generator of this

    async def check(self) -> str:
        return "stands still"

    def vendor_now(self) -> datetime:
        return self._vendor.vendor_now()


@asynccontextmanager
async def house(folder: Path, *, pace: Pace | None = None) -> AsyncIterator[House]:
    clock = ManualClock()
    async with open_store(folder / "store.db", clock=clock) as store:
        yield House(store, clock, pace=pace)


# ------------------------------------------------------------------------------------------------ polling


async def test_a_first_poll_reads_back_the_initial_look_back_and_no_further(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("inside", START - timedelta(hours=23))
        h.vendor.put("outside", START - timedelta(hours=25))
        report = await h.poller.once()
        assert await h.ids() == {"inside"}
        assert report.created == 1


async def test_a_long_hole_is_read_in_pieces_that_touch_newest_first(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(initial_lookback=5 * HOUR, longest_window=2 * HOUR)) as h:
        await h.poller.once()
        assert h.vendor.windows == [
            Window(START - 2 * HOUR, START),
            Window(START - 4 * HOUR, START - 2 * HOUR),
            Window(START - 5 * HOUR, START - 4 * HOUR),
        ]
        assert (await h.state()).coverage == (Window(START - 5 * HOUR, START),)


async def test_polls_that_find_nothing_get_on_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for _ in range(3):
            h.clock.advance(minutes=10)
            await h.poller.once()
            assert (await h.state()).coverage[-1].end == h.clock.now
        assert h.vendor.windows[-1] == Window(h.clock.now - 15 * MINUTE, h.clock.now)


async def test_a_burst_larger_than_a_page_is_read_whole(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(95):
            h.vendor.put(str(number))
        report = await h.poller.once()
        assert (report.created, report.pages) == (95, 10)


async def test_an_alert_that_did_not_change_is_not_told_again(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("a")
        await h.poller.once()
        told = await h.store.last_seq()
        h.clock.advance(seconds=30)
        report = await h.new_poller().once()
        assert (report.created, report.updated, report.unchanged) == (0, 0, 1)
        assert await h.store.last_seq() == told


async def test_an_alert_that_changed_is_a_new_revision(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("a", title="before")
        await h.poller.once()
        h.clock.advance(minutes=1)
        h.vendor.put("a", title="after")
        await h.poller.once()
        change = await h.store.get("model/a")
        assert change is not None
        assert (change.revision, change.alert.title) == (2, "after")
        assert change.before is not None
        assert change.before.title == "before"


async def test_an_alert_indexed_late_is_found_within_the_look_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        h.clock.advance(minutes=2)
        await h.poller.once()
        h.vendor.put("late", h.clock.now - 4 * MINUTE)
        await h.poller.once()
        assert await h.ids() == {"late"}


async def test_an_alert_later_than_any_look_back_is_found_by_the_rescan(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        h.vendor.put("very late", START - 3 * HOUR)
        h.clock.advance(minutes=30)
        await h.poller.once()
        assert await h.ids() == set()
        h.clock.advance(minutes=31)
        await h.poller.once()
        assert await h.ids() == {"very late"}


@pytest.mark.parametrize(
    ("late", "away"),
    [(30 * MINUTE, timedelta(days=3)), (20 * HOUR, 10 * HOUR)],
    ids=["before three days", "much, before a night"],
)
async def test_an_alert_that_was_late_just_before_we_were_away_is_found_by_the_rescan(
    late: timedelta, away: timedelta, tmp_path: Path
) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        h.clock.advance(minutes=1)
        await h.poller.once()
        h.clock.advance(seconds=1)
        h.vendor.put("late", h.clock.now - late)
        h.clock.now += away
        for _ in range(8):
            await h.poller.once()
            h.clock.advance(minutes=10)
        assert await h.ids() == {"late"}


async def test_the_look_back_grows_with_the_lag_that_was_measured(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        h.clock.advance(minutes=59)
        await h.poller.once()
        h.clock.advance(minutes=2)
        h.vendor.put("late", h.clock.now - 20 * MINUTE)
        await h.poller.once()
        h.clock.advance(minutes=1)
        await h.poller.once()
        assert h.vendor.windows[-1].length >= 20 * MINUTE


async def test_the_look_back_in_force_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        assert (await h.state()).health.look_back == 300
        h.clock.advance(minutes=10)
        h.vendor.put("late", h.clock.now - timedelta(minutes=4))
        await h.poller.once()
        await h.poller.once()
        assert (await h.state()).health.look_back == 1.5 * 240


async def test_how_far_the_vendors_clock_is_off_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.ahead = timedelta(seconds=2.34)
        await h.poller.once()
        assert (await h.state()).health.clock_skew == 2.3


async def test_an_error_is_told_with_its_remedy(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.fail_at = START - MINUTE
        with pytest.raises(BadResponse):
            await h.poller.once()
        health = (await h.state()).health
        assert health.last_error == "the vendor stumbles over this window"
        assert health.remedy == BadResponse.remedy
        assert (health.last_error_at, health.failures) == (START, 1)
        assert health.last_attempt == START


async def test_a_new_process_goes_on_counting_and_remembers_the_last_success_and_the_last_error(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        h.vendor.fail_at = START
        for failures in (1, 2):
            h.clock.advance(minutes=1)
            with pytest.raises(BadResponse):
                await h.new_poller().once()
            health = (await h.state()).health
            assert (health.failures, health.last_success) == (failures, START)
        h.vendor.fail_at = None
        h.clock.advance(minutes=1)
        await h.new_poller().once()
        health = (await h.state()).health
        assert (health.failures, health.last_error_at) == (0, START + 2 * MINUTE)
        assert health.last_success == START + 3 * MINUTE


async def test_the_look_back_stays_within_its_bound_whatever_was_measured(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(longest_look_back=timedelta(minutes=7))) as h:
        await h.poller.once()
        h.vendor.put("late", START - 20 * MINUTE)
        h.clock.advance(minutes=61)  # a rescan finds it
        await h.poller.once()
        h.clock.advance(minutes=1)
        await h.poller.once()
        assert (await h.state()).lag_p999 == 81 * 60
        assert h.vendor.windows[-1].length == 8 * MINUTE


async def test_a_window_the_vendor_cannot_page_through_is_read_in_halves(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(64):
            h.vendor.put(str(number), START - number * MINUTE)
        h.vendor.most_per_window = 10
        report = await h.poller.once()
        assert report.created == 64
        assert (await h.state()).coverage == (Window(START - timedelta(hours=24), START),)


async def test_more_alerts_at_one_instant_than_the_vendor_can_page_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(11):
            h.vendor.put(str(number), START - HOUR)
        h.vendor.most_per_window = 10
        with pytest.raises(WindowTooLarge, match=r"between 2026-11-01T10:59:59\.99\d+\+00:00 and 2026-11-01T11:00:00"):
            await h.poller.once()


async def test_a_failure_in_the_middle_keeps_what_was_read_and_covers_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(25):
            h.vendor.put(str(number), START - number * MINUTE)
        calls = 0

        def fail_on_the_second_page() -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise Unavailable("the vendor is down", retry_after=120)

        h.vendor.before_page = fail_on_the_second_page
        with pytest.raises(SourceError, match="the vendor is down"):
            await h.poller.once()
        state = await h.state()
        assert len(await h.ids()) == 10
        assert state.coverage == ()
        assert (state.health.state, state.health.failures, state.health.last_error) == (
            "failing",
            1,
            "the vendor is down",
        )
        assert state.health.next_attempt is not None
        assert state.health.next_attempt >= h.clock.now + timedelta(seconds=120)

        report = await h.poller.once()
        assert (report.created, report.unchanged) == (15, 10)
        assert (await h.state()).health.state == "ok"


async def test_failures_in_a_row_are_backed_off_from_and_no_wish_blinds_for_longer_than_a_quarter_hour(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        wishes = iter([None, None, None, None, 3600.0])

        def fail() -> None:
            raise Unavailable("down", retry_after=next(wishes))

        h.vendor.before_page = fail
        waits: list[float] = []
        for _ in range(5):
            with pytest.raises(Unavailable):
                await h.poller.once()
            health = (await h.state()).health
            assert health.next_attempt is not None
            waits.append((health.next_attempt - h.clock.now).total_seconds())
        assert 30 <= waits[0] <= 60
        assert 240 <= waits[3] <= 480
        assert waits[4] == 900


async def test_a_vendor_that_fails_every_few_pages_is_read_whole_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(600):
            h.vendor.put(str(number), START - number * 2 * MINUTE)
        pages = itertools.count(1)

        def fail_every_ninth_page() -> None:
            if next(pages) % 9 == 0:
                raise Unavailable("down for a moment")

        h.vendor.before_page = fail_every_ninth_page
        for _ in range(20):
            with suppress(Unavailable):
                await h.poller.once()
                break
        assert len(await h.ids()) == 600
        assert (await h.state()).coverage == (Window(START - timedelta(hours=24), START),)


async def test_after_an_outage_of_three_days_the_whole_hole_is_read(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        for hour in range(72):
            h.clock.advance(hours=1)
            h.vendor.put(f"hour {hour}")
        report = await h.new_poller().once()
        assert report.created == 72
        assert (await h.state()).coverage == (Window(START - timedelta(hours=24), h.clock.now),)


async def test_alerts_that_move_while_they_are_being_read_are_not_lost(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(30):
            h.vendor.put(str(number), START - number * MINUTE)

        def touch_the_oldest() -> None:
            h.clock.advance(seconds=1)
            h.vendor.put("29", title="moved to the top")

        h.vendor.before_page = touch_the_oldest
        await h.poller.once()
        h.vendor.before_page = lambda: None
        await h.poller.once()
        change = await h.store.get("model/29")
        assert change is not None
        assert change.alert.title == "moved to the top"
        assert len(await h.ids()) == 30


async def test_more_alerts_at_one_instant_than_can_be_paged_keep_nothing_else_waiting(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(11):
            h.vendor.put(f"crowd {number}", START - HOUR)
        h.vendor.put("older", START - 2 * HOUR)
        h.vendor.most_per_window = 10
        with pytest.raises(WindowTooLarge, match="page through"):
            await h.poller.once()
        state = await h.state()
        assert await h.ids() == {"older"}
        assert [gap.length <= timedelta(milliseconds=2) for gap in state.gaps] == [True]
        assert state.health.state == "failing"


async def test_a_crowd_that_is_late_in_what_was_covered_stays_a_gap_until_it_can_be_read(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        for number in range(11):
            h.vendor.put(f"late {number}", START - 2 * MINUTE)
        h.vendor.most_per_window = 10
        h.clock.advance(minutes=1)
        with pytest.raises(WindowTooLarge):
            await h.poller.once()
        gaps = (await h.state()).gaps
        assert gaps
        assert all(gap.start <= START - 2 * MINUTE <= gap.end for gap in gaps)
        h.clock.advance(hours=72)
        h.vendor.most_per_window = None
        await h.poller.once()
        assert len(await h.ids()) == 11
        assert (await h.state()).gaps == ()


class AfterEachPoll:
    """The store, and what happens when the end of a poll was told to it."""

    def __init__(self, store: Store, happen: Callable[[], None]) -> None:
        self._store = store
        self._happen = happen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def report(self, *told: Any) -> None:
        await self._store.report(*told)
        self._happen()


async def run_for(polls: int, poller: Callable[[Any], Poller], store: Store, happen: Callable[[], None]) -> Poller:
    """Run it for so many polls; ``happen`` after each."""
    count, enough = itertools.count(1), anyio.Event()

    def end() -> None:
        happen()
        if next(count) == polls:
            enough.set()

    running = poller(AfterEachPoll(store, end))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(running.run)
            await enough.wait()
            group.cancel_scope.cancel()
    return running


async def test_a_crowd_rests_for_twice_as_many_polls_each_time_while_all_around_it_is_read_in_every_poll(
    tmp_path: Path,
) -> None:
    pace = Pace(interval=timedelta(milliseconds=1), shortest_look_back=2 * HOUR, rescan_every=timedelta(days=9))
    async with house(tmp_path, pace=pace) as h:
        instant = START - HOUR
        for number in range(11):
            h.vendor.put(f"crowd {number}", instant)
        h.vendor.most_per_window = 10
        asked: list[int] = []

        def a_minute_goes_by() -> None:
            asked.append(sum(window.start <= instant <= window.end for window in h.vendor.windows))
            h.vendor.windows.clear()
            h.clock.advance(minutes=1)
            h.vendor.put(f"before {len(asked)}", instant - len(asked) * MINUTE)
            h.vendor.put(f"after {len(asked)}", h.clock.now - len(asked) * MINUTE)

        poller = await run_for(
            11,
            lambda store: Poller(h.vendor, store, pace=pace, holder="test:1:a", clock=h.clock),
            h.store,
            a_minute_goes_by,
        )
        assert asked[0] > 20
        assert [poll for poll, times in enumerate(asked, 1) if times] == [1, 2, 5, 10]
        assert max(asked[1:]) <= 3
        assert await h.ids() == {f"{side} {number}" for side in ("before", "after") for number in range(1, 11)}
        assert len((await h.state()).gaps) == 1
        h.vendor.most_per_window = None
        await poller.once()
        assert len(await h.ids()) == 33
        assert (await h.state()).gaps == ()
        await poller.once()
        assert poller._reading._crowds == []


async def test_a_gap_does_not_wait_while_a_crowd_rests(tmp_path: Path) -> None:
    pace = Pace(interval=timedelta(milliseconds=1), longest_window=HOUR, rescan_every=timedelta(days=9))
    async with house(tmp_path, pace=pace) as h:
        for number in range(11):
            h.vendor.put(f"crowd {number}", START - HOUR)
        h.vendor.most_per_window = 10
        polls = 0

        def an_hour_is_missed_after_the_fifth_poll() -> None:
            nonlocal polls
            polls += 1
            h.vendor.fail_at = None
            if polls == 5:
                h.clock.advance(hours=3)
                h.vendor.fail_at = h.clock.now - 2 * HOUR
                h.vendor.put("missed", h.vendor.fail_at)

        await run_for(
            7,
            lambda store: Poller(h.vendor, store, pace=pace, holder="test:1:a", clock=h.clock),
            h.store,
            an_hour_is_missed_after_the_fifth_poll,
        )
        assert await h.ids() == {"missed"}
        assert len((await h.state()).gaps) == 1


async def test_a_burst_that_no_offset_reaches_costs_many_requests_once_and_few_from_then_on(tmp_path: Path) -> None:
    clock, pace = ManualClock(), Pace(interval=timedelta(milliseconds=1), rescan_every=timedelta(days=9))
    app = create_app(Estate(1, clock, rate=0, stories=False, history=timedelta(0)), offset_cap=6, largest_page=3)
    options = XdrOptions(
        base_url="http://vendor.test/xdr-alert",
        auth_token=SecretStr(DEFAULT_TOKEN),
        requests_per_minute=1_000_000,
        page_size=3,
    )
    simulator = app.state.simulator
    asked: list[int] = []

    def a_minute_goes_by() -> None:
        asked.append(simulator.requests.pop("alerts", 0))
        if len(asked) == 1:
            simulator.burst(21)
        clock.advance(minutes=1)

    async with open_store(tmp_path / "store.db", clock=clock) as store:
        memory = store.memory("xdr")
        async with XdrClient(options, memory=memory, clock=clock, transport=httpx.ASGITransport(app)) as client:
            source = XdrSource("xdr", client, memory, clock)
            await run_for(
                12,
                lambda store: Poller(source, store, pace=pace, holder="test:1:a", clock=clock),
                store,
                a_minute_goes_by,
            )
    _, found, *later = asked
    tried = [poll for poll, requests in enumerate(later, 1) if requests > 2]
    assert tried == [1, 4, 9]
    assert max(later) < found / 2


async def test_a_gap_that_cannot_be_read_does_not_slow_down_what_is_new(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(interval=timedelta(milliseconds=10))) as h:
        await h.poller.once()
        h.clock.advance(hours=60)
        wanted = h.clock.now - timedelta(hours=40)
        h.vendor.fail_at = wanted
        polls = itertools.count()
        ten_polls = anyio.Event()

        def count() -> None:
            h.clock.advance(minutes=1)
            if next(polls) == 10:
                ten_polls.set()

        h.vendor.before_page = count
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(h.poller.run)
                await ten_polls.wait()
                group.cancel_scope.cancel()
        touching = [window for window in h.vendor.windows if window.start <= wanted <= window.end]
        assert 1 <= len(touching) <= 4
        state = await h.state()
        assert state.gaps
        assert state.coverage[-1].end >= START + timedelta(hours=60)


class StumblingAtGaps(ModelVendor):
    """A gap fails at one moment each time it is tried; ``polls`` are those that tried it."""

    def __init__(self, clock: ManualClock, moments: list[datetime]) -> None:
        super().__init__(clock)
        self.moments = moments
        self.polls: list[int] = []
        self.done = anyio.Event()
        self._poll = 0

    async def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:
        self._poll += live
        if not live and window.start <= self.moments[len(self.polls)] <= window.end:
            self.polls.append(self._poll)
            if len(self.polls) == len(self.moments):
                self.done.set()
            raise Unavailable("not just now")
        async for page in super().pages(window, live=live):
            yield page


async def test_a_gap_that_cannot_be_read_rests_for_twice_as_many_polls_until_something_of_it_was_read(
    tmp_path: Path,
) -> None:
    pace = Pace(interval=timedelta(milliseconds=1), longest_window=HOUR, rescan_every=timedelta(days=1))
    async with house(tmp_path, pace=pace) as h:
        await h.poller.once()
        h.clock.advance(hours=5)
        lease = await h.store.acquire("poll:model", "test:1:a", TTL)
        assert lease is not None
        await h.store.cover("model", Window(START + 4 * HOUR, h.clock.now), lease)
        newest, oldest = START + 4 * HOUR - MINUTE, START + MINUTE
        vendor = StumblingAtGaps(h.clock, [newest, newest, oldest, oldest, oldest])
        poller = Poller(vendor, h.store, pace=pace, holder="test:1:a", clock=h.clock)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(poller.run)
                await vendor.done.wait()
                group.cancel_scope.cancel()
        rests = [later - earlier - 1 for earlier, later in itertools.pairwise(vendor.polls)]
        assert rests == [2, 4, 2, 4]


async def test_a_rescan_reads_what_is_covered_on_both_sides_of_a_gap(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(11):
            h.vendor.put(f"crowd {number}", START - 9 * HOUR)
        h.vendor.most_per_window = 10
        with pytest.raises(WindowTooLarge):
            await h.poller.once()
        h.vendor.put("very late", START - 20 * HOUR)
        h.vendor.put("late", START - 2 * HOUR)
        h.clock.advance(minutes=61)
        with pytest.raises(WindowTooLarge):
            await h.poller.once()
        assert await h.ids() == {"very late", "late"}


def test_a_report_sums_what_each_page_did() -> None:
    report = PollReport(source="model")
    for _ in range(2):
        report.add(Saved(created=1, updated=2, unchanged=3, outdated=4))
    assert str(report) == "model: 2 new, 4 changed, 6 known, 2 pages"
    assert report.outdated == 8
    for _ in range(2):
        report.add(Saved(quarantined=5))
    assert str(report) == "model: 2 new, 4 changed, 6 known, 4 pages, 10 quarantined"


async def test_a_rescan_that_is_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(longest_window=6 * HOUR)) as h:
        await h.poller.once()
        h.vendor.put("very late", START - 20 * HOUR)
        h.clock.advance(minutes=61)
        pages = itertools.count(1)

        def fail_every_third_page() -> None:
            if next(pages) % 3 == 0:
                raise Unavailable("down for a moment")

        h.vendor.before_page = fail_every_third_page
        for _ in range(4):
            with suppress(Unavailable):
                await h.poller.once()
                break
        assert await h.ids() == {"very late"}


async def test_a_small_daily_budget_stretches_the_interval(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(interval=timedelta(seconds=30))) as h:
        h.vendor.limits = Limits(page_size=10, per_day=2000)
        await h.poller.once()
        h.clock.advance(minutes=1)
        await h.poller.once()
        health = (await h.state()).health
        assert health.next_attempt is not None
        assert timedelta(seconds=50) < health.next_attempt - h.clock.now < timedelta(seconds=60)


async def test_a_small_daily_budget_makes_rescans_rarer_as_they_cost(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(longest_window=48 * HOUR)) as h:
        h.vendor.limits = Limits(page_size=10, per_day=2000)
        for number in range(-150, 200):
            h.vendor.put(str(number), START - number * 5 * MINUTE)
        for _ in range(24):
            await h.poller.once()
            h.clock.advance(minutes=31)
        rescans = [window for window in h.vendor.windows if window.length >= 20 * HOUR]
        assert 3 <= len(rescans) <= 6  # the first poll among them; without a budget there would be 13


# ------------------------------------------------------------------------------------------------ clocks


async def test_a_first_poll_with_a_clock_far_ahead_still_reads_back_the_initial_look_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("a", START - HOUR)
        h.clock.advance(days=30)
        h.vendor.ahead = -timedelta(days=30)
        await h.poller.once()
        await h.poller.once()
        assert await h.ids() == {"a"}
        coverage = (await h.state()).coverage
        assert coverage[-1].end <= START
        assert coverage[0].start == START - timedelta(hours=24)


async def test_coverage_that_a_wrong_clock_put_into_the_future_is_forgotten_and_read_again(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.clock.advance(hours=2)
        await h.poller.once()
        assert (await h.state()).coverage[-1].end == START + 2 * HOUR
        h.clock.now = START + 90 * MINUTE
        h.vendor.put("while nobody looked", START + HOUR)
        await h.new_poller().once()
        assert await h.ids() == {"while nobody looked"}
        assert (await h.state()).coverage[-1].end == START + 90 * MINUTE


@pytest.mark.parametrize("wrong", [-2 * HOUR, timedelta(days=30)], ids=["two hours behind", "thirty days ahead"])
async def test_while_our_clock_is_wrong_and_after_nothing_is_lost_told_twice_or_called_covered_too_soon(
    wrong: timedelta, tmp_path: Path
) -> None:
    async with house(tmp_path) as h:
        true, put = START, 0

        async def an_hour(error: timedelta) -> None:
            nonlocal true, put
            for _ in range(6):
                true += 10 * MINUTE
                h.clock.now = true + error
                h.vendor.ahead = -error
                for late in (0, 4):
                    h.vendor.put(str(put), true - late * MINUTE)
                    put += 1
                await h.poller.once()
                assert (await h.state()).coverage[-1].end <= true

        for error in (timedelta(0), wrong, timedelta(0)):
            await an_hour(error)
        told = [change.alert.vendor_id for change in await h.store.changes(0, 1_000)]
        assert sorted(told, key=int) == [str(number) for number in range(put)]


async def test_one_wrong_date_of_the_vendor_costs_no_coverage(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        before = (await h.state()).coverage
        h.vendor.ahead = -HOUR
        await h.poller.once()
        assert (await h.state()).coverage == before


async def test_a_rescan_remembered_in_the_future_does_not_keep_rescans_from_happening(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.clock.advance(days=30)
        await h.poller.once()
        h.clock.now = START
        await h.poller.once()
        h.vendor.put("very late", START - 3 * HOUR)
        h.clock.advance(minutes=61)
        await h.poller.once()
        assert "very late" in await h.ids()


async def test_nothing_is_called_covered_while_our_clock_runs_ahead_that_is_still_to_come(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        h.vendor.ahead = -2 * HOUR
        h.clock.advance(hours=2, minutes=1)
        await h.poller.once()
        assert (await h.state()).coverage[-1].end <= START + MINUTE


async def test_nothing_is_called_covered_that_is_to_come_while_the_vendors_clock_runs_ahead(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.ahead = 2 * HOUR
        await h.poller.once()
        h.clock.advance(minutes=1)
        await h.poller.once()
        assert (await h.state()).coverage[-1].end <= START + MINUTE


async def test_the_vendors_clock_is_trusted_to_the_second_only(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.ahead = timedelta(seconds=-0.5)
        await h.poller.once()
        assert (await h.state()).coverage[-1].end == START - timedelta(seconds=1.5)


async def test_what_the_vendor_may_still_be_indexing_is_not_called_covered(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.limits = Limits(page_size=10, hold_back=timedelta(minutes=3))
        await h.poller.once()
        assert (await h.state()).coverage[-1].end == START - 3 * MINUTE


# ------------------------------------------------------------------------------------------------ reaching back


async def test_reaching_back_reads_what_lies_before_the_first_poll_and_tells_nothing_twice(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("old", START - timedelta(days=20))
        h.vendor.put("new", START - HOUR)
        await h.poller.once()
        assert await h.ids() == {"new"}
        await h.reach_back(START - timedelta(days=30))
        report = await h.poller.once()
        assert await h.ids() == {"new", "old"}
        assert report.created == 1
        assert (await h.state()).coverage == (Window(START - timedelta(days=30), START),)


async def test_what_a_reach_back_has_still_to_read_is_needed(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.poller.once()
        await h.reach_back(START - timedelta(days=20))
        needed = (await read_again(h.store, h.pace, START))["model"]
        assert needed[0] == Window(START - timedelta(days=20), START - timedelta(hours=24))


async def test_what_a_rescan_has_still_to_read_is_needed(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(rescan_every=timedelta(days=30))) as h:
        for _ in range(5):
            await h.poller.once()
            h.clock.advance(hours=24)
        (window,) = (await read_again(h.store, h.pace, h.clock.now))["model"]
        assert window.start == START - timedelta(hours=48)


async def test_an_interrupted_reach_back_is_taken_up_where_it_stopped_by_whoever_polls(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for day in range(10):
            h.vendor.put(str(day), START - timedelta(days=day, hours=1))
        pages = itertools.count(1)

        def fail_at_the_sixth_page() -> None:
            if next(pages) == 6:
                raise Unavailable("down for a moment")

        await h.reach_back(START - timedelta(days=10))
        h.vendor.before_page = fail_at_the_sixth_page
        with pytest.raises(Unavailable):
            await h.poller.once()
        read = await h.ids()
        assert len(read) == 5
        h.vendor.windows.clear()
        await h.new_poller("test:2:b").once()
        assert len(await h.ids()) == 10
        again = [window for window in h.vendor.windows if window.end < START]
        assert max(window.end for window in again) <= START - timedelta(days=5)


async def test_reaching_back_less_far_than_history_goes_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("a", START - timedelta(hours=20))
        await h.reach_back(START - timedelta(days=2))
        await h.reach_back(START - HOUR)
        await h.poller.once()
        assert await h.ids() == {"a"}


# ------------------------------------------------------------------------------------------------ one poller a store


async def test_only_one_of_two_pollers_polls(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        lease = await h.store.acquire("poll:model", "other:1:b", TTL)
        assert lease is not None
        with pytest.raises(LeaseHeld, match="another process polls model"):
            await h.poller.once()
        await h.store.release(lease)
        await h.poller.once()


async def test_a_follower_takes_over_when_the_lease_is_given_up(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("a")
        lease = await h.store.acquire("poll:model", "other:1:b", TTL)
        assert lease is not None
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(h.poller.run)
                await anyio.wait_all_tasks_blocked()
                assert h.vendor.windows == []
                await h.store.release(lease)
                assert await h.store.wait(0, 5)
                group.cancel_scope.cancel()


async def test_a_poller_that_is_stopped_gives_its_lease_up_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.put("a")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(h.poller.run)
                assert await h.store.wait(0, 5)
                assert (await h.state()).lease is not None
                group.cancel_scope.cancel()
        assert (await h.state()).lease is None


@pytest.mark.parametrize("failure", [Unavailable("down"), ZeroDivisionError()], ids=["a vendor's", "a defect's"])
async def test_a_poller_that_lost_its_lease_tells_nothing_of_its_failure(failure: Exception, tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(interval=timedelta(milliseconds=10))) as h:
        h.vendor.put("a")
        vendor = StandingStill(h.vendor, failure)
        frozen = Poller(vendor, h.store, pace=h.pace, holder="test:1:a", clock=h.clock)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(frozen.run)
                await vendor.here.wait()
                h.clock.advance(minutes=1)
                lease = await h.store.acquire("poll:model", "other:1:b", TTL)
                assert lease is not None
                await h.store.report("model", Health(state="ok", failures=0), lease)
                vendor.go_on.set()
                await vendor.left.wait()
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
        assert (await h.state()).health == Health(state="ok", failures=0)


async def test_a_source_that_makes_no_calls_says_so_and_is_never_read(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.vendor.idle_reason = "development mode: no call is made"
        report = await h.poller.once()
        assert (report.source, report.pages) == ("model", 0)
        assert h.vendor.windows == []
        assert (await h.state()).health.state == "development"


async def test_a_failure_that_nobody_foresaw_is_told_and_polling_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(interval=timedelta(milliseconds=10))) as h:
        told = anyio.Event()
        failures = iter([ZeroDivisionError()])

        def fail_once() -> None:
            error = next(failures, None)
            if error is not None:
                raise error
            told.set()

        h.vendor.before_page = fail_once
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(h.poller.run)
                await told.wait()
                group.cancel_scope.cancel()
        health = (await h.state()).health
        assert health.last_error == "ZeroDivisionError"
        assert "defect of xdr-mcp" in health.remedy


async def test_the_service_goes_on_after_a_failure(tmp_path: Path) -> None:
    async with house(tmp_path, pace=Pace(interval=timedelta(milliseconds=10))) as h:
        h.vendor.put("a")
        failures = iter([Unavailable("down"), Unavailable("still down")])

        def fail_twice() -> None:
            error = next(failures, None)
            if error is not None:
                raise error

        h.vendor.before_page = fail_twice
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(h.poller.run)
                assert await h.store.wait(0, 5)
                group.cancel_scope.cancel()
        assert (await h.ids()) == {"a"}
