"""A poller, a store and an archive against a vendor that does what it likes, in any order that Hypothesis can think of."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model_vendor import ManualClock
from treacherous_vendor import Manner, TreacherousVendor, WrongClock
from truth import check_archive, every_change

from xdr_mcp.alert import Status
from xdr_mcp.delivery import Delivery
from xdr_mcp.errors import LeaseLost, SourceError
from xdr_mcp.interfaces import Store, Window
from xdr_mcp.planning import Pace
from xdr_mcp.poller import LeaseHeld, Poller
from xdr_mcp.sinks.archive import Archive
from xdr_mcp.store import open_store

BOUND = 5
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

lateness = st.sampled_from([timedelta(0), 3 * MINUTE, 50 * MINUTE, 20 * HOUR])
"""Within the look-back, beyond it, and within the span of a rescan."""
alerts = st.integers(0, 11).map(str)
statuses = st.sampled_from([Status.NEW, Status.IN_PROGRESS, Status.RESOLVED])
page_numbers = st.sampled_from([0, 0, 0, 1, 2, 3, 4])
seeds = st.integers(0, 3)


class House(RuleBasedStateMachine):
    """One source, polled into one store by whoever is alive, delivered to one archive."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="xdr-mcp-model-"))
        self.loop = asyncio.Runner()
        self.true = ManualClock()
        self.ours = WrongClock(self.true)
        self.vendor = TreacherousVendor(self.true, self.ours)
        self.numbers = itertools.count(1)
        self.life = AsyncExitStack()
        self.frozen: asyncio.Task[object] | None = None
        self.overtaken = False
        """Somebody polled while one was frozen."""
        self.path = self.folder / "1" / "store.db"
        self.store: Store
        self.poller: Poller

    @initialize(ahead=st.sampled_from([-2 * HOUR, timedelta(0), 10 * MINUTE]))
    def first_poll(self, ahead: timedelta) -> None:
        """History begins."""
        self.ours.ahead = ahead
        self.loop.run(self._open(self.folder / "1" / "store.db"))
        self.loop.run(self._poll())

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.loop.run(self._settle())
        finally:
            self.loop.run(self._close())
            self.loop.close()
            shutil.rmtree(self.folder)

    # ---- the vendor's doings, and the time's

    @rule(alert=alerts, late=lateness, tie=st.booleans(), status=statuses)
    def change(self, alert: str, late: timedelta, status: Status, *, tie: bool) -> None:
        self.vendor.change(alert, late=late, tie=tie, status=status)

    @rule(duration=st.sampled_from([SECOND, MINUTE, 20 * MINUTE, 65 * MINUTE, 5 * HOUR, 3 * DAY]))
    def time_passes(self, duration: timedelta) -> None:
        self.true.now += duration

    @rule(down=st.booleans(), most=st.sampled_from([None, None, 2]))
    def vendor_changes_its_mood(self, most: int | None, *, down: bool) -> None:
        self.vendor.down = down
        self.vendor.most_per_window = most

    # that both run ahead at once nobody could know

    @rule(ahead=st.sampled_from([-MINUTE, timedelta(0), 10 * MINUTE]))
    def vendor_s_clock_goes_wrong(self, ahead: timedelta) -> None:
        self.vendor.vendor_clock.ahead = ahead
        if ahead > timedelta(0):
            self.ours.ahead = min(self.ours.ahead, timedelta(0))

    @rule(ahead=st.sampled_from([-2 * HOUR, -MINUTE, timedelta(0), 10 * MINUTE, 30 * DAY]))
    def our_clock_goes_wrong(self, ahead: timedelta) -> None:
        self.ours.ahead = ahead
        if ahead > timedelta(0):
            self.vendor.vendor_clock.ahead = min(self.vendor.vendor_clock.ahead, timedelta(0))

    # ---- ours

    @rule(fail_at=page_numbers, touch_at=page_numbers, seed=seeds)
    def poll(self, fail_at: int, touch_at: int, seed: int) -> None:
        self.vendor.behave(Manner(fail_at=fail_at, touch_at=touch_at, seed=seed))
        self.loop.run(self._poll())

    @rule(hang_at=st.integers(1, 3), seed=seeds)
    def poller_is_killed(self, hang_at: int, seed: int) -> None:
        self.vendor.behave(Manner(hang_at=hang_at, seed=seed))
        self.loop.run(self._die_in_a_poll())

    @precondition(lambda self: self.frozen is None)
    @rule(hang_at=st.integers(1, 3), seed=seeds)
    def poller_freezes_and_another_takes_over(self, hang_at: int, seed: int) -> None:
        self.vendor.behave(Manner(hang_at=hang_at, seed=seed))
        self.loop.run(self._freeze())

    @precondition(lambda self: self.frozen is not None)
    @rule()
    def frozen_poller_wakes(self) -> None:
        self.loop.run(self._wake())

    @rule()
    def deliver(self) -> None:
        self.loop.run(self._deliver())

    @invariant()
    def nothing_is_told_twice_or_called_covered_unread(self) -> None:
        if hasattr(self, "store"):
            self.loop.run(self._check_what_was_told())

    # ---- how

    async def _open(self, path: Path) -> None:
        self.path = path
        self.store = await self.life.enter_async_context(open_store(path, clock=self.ours))
        self._new_poller()

    def _new_poller(self) -> None:
        holder = f"test:1:{next(self.numbers)}"
        self.poller = Poller(self.vendor, self.store, pace=Pace(), holder=holder, clock=self.ours)

    async def _poll(self) -> None:
        try:
            with suppress(SourceError, LeaseLost):
                await self.poller.once()
        except LeaseHeld:
            return
        self.overtaken = True

    async def _hang(self) -> asyncio.Task[object] | None:
        """A poll that stands still at a page, if it comes so far."""
        task: asyncio.Task[object] = asyncio.create_task(self._poll())
        hanging = asyncio.create_task(self.vendor.hanging.wait())
        with anyio.fail_after(BOUND):
            await asyncio.wait({task, hanging}, return_when=asyncio.FIRST_COMPLETED)
        hanging.cancel()
        if task.done():
            await task
            return None
        return task

    async def _die_in_a_poll(self) -> None:
        """What a kill leaves is copied, and life goes on with the copy."""
        task = await self._hang()
        copy = self.folder / str(next(self.numbers))
        # another process copies: closing a file of this process's own would drop SQLite's locks on it
        await asyncio.to_thread(subprocess.run, ["cp", "-r", str(self.path.parent), str(copy)], check=True)
        (copy / "store.db-shm").unlink(missing_ok=True)
        if task is not None:
            await _cancel(task)
        await self._close()
        await self._open(copy / "store.db")

    async def _freeze(self) -> None:
        self.frozen = await self._hang()
        if self.frozen is not None:
            self.go_on = self.vendor.go_on
            self.overtaken = False
            self._new_poller()

    async def _wake(self) -> None:
        if self.frozen is not None:
            overtaken, before = self.overtaken, await self.store.last_seq()
            self.go_on.set()
            with anyio.fail_after(BOUND):
                await self.frozen
            self.frozen = None
            assert not overtaken or await self.store.last_seq() == before

    async def _close(self) -> None:
        if self.frozen is not None:
            await _cancel(self.frozen)
            self.frozen = None
        await self.life.aclose()

    async def _deliver(self) -> None:
        archive = Archive(self.folder / "alerts", version="1", flat_limit=5)
        await Delivery(archive, self.store, holder="test:1:deliverer").drain()

    async def _settle(self) -> None:
        """Everything works, every clock is right, and the time passes in which what is late arrives."""
        await self._wake()
        self.vendor.down, self.vendor.most_per_window = False, None
        self.vendor.vendor_clock.ahead = self.ours.ahead = timedelta(0)
        self.vendor.behave(Manner())
        self._new_poller()
        end = max(self.vendor.all_visible, self.true.now) + 2 * HOUR
        while self.true.now < end:
            self.true.now += 2 * HOUR  # no less than between rescans
            await self.poller.once()
        await self._deliver()
        await self._check_what_was_told()
        await self._check_that_nothing_is_lost()

    async def _check_what_was_told(self) -> None:
        told = Counter((change.alert.id, change.alert.updated, change.raw) for change in await every_change(self.store))
        assert [version for version, times in told.items() if times > 1] == []
        for state in await self.store.states():
            for covered in state.coverage:
                assert _is_within(covered, self.vendor.reads), covered

    async def _check_that_nothing_is_lost(self) -> None:
        changes = await every_change(self.store)
        newest = {change.alert.vendor_id: change.raw for change in changes}
        assert newest == self.vendor.newest()
        if changes:
            check_archive(changes, self.folder / "alerts")
        assert await self.store.position("archive") == (changes[-1].seq if changes else 0)


def _is_within(window: Window, reads: list[Window]) -> bool:
    """Whether every moment of a window lies in something that was read whole."""
    reached = window.start
    for read in sorted(reads, key=lambda each: each.start):
        if read.start > reached:
            break
        reached = max(reached, read.end)
    return reached >= window.end


async def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("no_waiting_for_the_store_s_syncs")
@pytest.mark.parametrize(
    ("examples", "steps"),
    [pytest.param(50, 40, id="50 lives"), pytest.param(2_000, 40, id="2,000 lives", marks=pytest.mark.slow)],
)
def test_whatever_happens_nothing_is_lost_told_twice_or_called_covered_unread(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        House,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=examples < 100,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
