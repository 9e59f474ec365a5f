"""The model vendor with every vice that an answer in good order can have, and clocks that are wrong.

It indexes late, stamps two changes with one time, changes alerts while they are being read, tells them in any order and more
than once, goes back to versions that are overtaken, is down, and answers slowly enough to be abandoned in the middle. What it
owes by ``Source.pages`` it keeps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timedelta
from random import Random

import anyio
from model_vendor import ManualClock, ModelVendor, record
from msgspec import Struct

from xdr_mcp.errors import Unavailable, WindowTooLarge
from xdr_mcp.interfaces import Page, Record, Window

RECENT = timedelta(seconds=30)


class WrongClock(ManualClock):
    """Another clock, and how far it is from that one."""

    def __init__(self, true: ManualClock) -> None:
        super().__init__()
        self.true = true
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return self.true.now + self.ahead

    @property
    def now(self) -> datetime:
        return self()

    @now.setter
    def now(self, _value: datetime) -> None:
        """Only the true time and the error can be set."""


class Version(Struct):
    """One version of an alert, and when the API begins to show it (true time)."""

    record: Record
    visible: datetime


class Manner(Struct, frozen=True):
    """How the vendor behaves during one poll. Page numbers count from 1 over all windows of the poll; 0 is never."""

    fail_at: int = 0
    hang_at: int = 0
    touch_at: int = 0
    """The page before which an alert changes."""
    seed: int = 0
    """Of the order, and of what is repeated; 0 for good order and no repeats."""


class TreacherousVendor(ModelVendor):
    """One tenant. ``reads`` are the windows that were read whole, as far as the vendor's clock had come."""

    def __init__(self, true: ManualClock, ours: Callable[[], datetime]) -> None:
        self.vendor_clock = WrongClock(true)
        super().__init__(self.vendor_clock, page_size=3)
        self.ours = ours
        self.versions: dict[str, list[Version]] = {}
        self.reads: list[Window] = []
        self.down = False
        self.manner = Manner()
        self.hanging = anyio.Event()
        self.go_on = anyio.Event()
        self._learnt = timedelta(0)
        self._page = 0
        self._changes = 0

    # ---- what happens at the vendor

    def change(self, vendor_id: str, *, late: timedelta = timedelta(0), tie: bool = False, **fields: object) -> None:
        """An alert is created, or changed. With ``tie`` it has the time of the newest change there is, if that is recent."""
        versions = self.versions.setdefault(vendor_id, [])
        moment = self.clock.now
        if tie:
            times = (each[-1].record.alert.updated for each in self.versions.values() if each)
            moment = max((time for time in times if abs(time - moment) <= RECENT), default=moment)
        if versions:  # nobody could say which of two versions is the newer, were their times the other way round
            moment = max(moment, versions[-1].record.alert.updated)
        self._changes += 1
        made = record(vendor_id, moment, title=f"change {self._changes}", **fields)  # type: ignore[arg-type]  # source is among the fields
        visible = self.now_true + late
        versions.append(Version(made, max(visible, versions[-1].visible) if versions else visible))

    def newest(self) -> dict[str, bytes]:
        """The record of each alert as it stands."""
        return {vendor_id: versions[-1].record.raw for vendor_id, versions in self.versions.items()}

    @property
    def all_visible(self) -> datetime:
        """When (true time) nothing is late any more."""
        return max((version.visible for each in self.versions.values() for version in each), default=self.now_true)

    @property
    def now_true(self) -> datetime:
        return self.vendor_clock.true.now

    # ---- what it tells

    def behave(self, manner: Manner) -> None:
        """For the next poll."""
        self.manner = manner
        self._page = 0
        self.hanging, self.go_on = anyio.Event(), anyio.Event()

    async def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:
        manner, hanging, go_on = self.manner, self.hanging, self.go_on
        self.windows.append(window)
        if self.down:
            raise Unavailable("down for days")
        self._learn_its_clock()
        begun = self.clock.now
        listed = self._inside(window, live=live)
        if self.most_per_window is not None and len(listed) > self.most_per_window:
            raise WindowTooLarge(f"more than {self.most_per_window}")
        chance = Random(manner.seed)  # noqa: S311 (repeatable, not secret)
        if manner.seed:
            chance.shuffle(listed)
        told: list[Record] = []
        for start in range(0, len(listed) or 1, self.limits.page_size):
            self._page += 1
            if self._page == manner.touch_at and self.versions:
                self.change(min(self.versions))
            records = [self._shown(vendor_id) for vendor_id in listed[start : start + self.limits.page_size]]
            if self._page == manner.hang_at:
                hanging.set()
                await go_on.wait()
            if self._page == manner.fail_at:
                raise Unavailable("down for a moment")
            repeats = self._overtaken(chance) + told if manner.seed else []
            told += records
            yield Page((*records, *repeats), self.ours())
        self.reads.append(Window(window.start, min(window.end, begun) if window.start <= begun else window.start))

    def vendor_now(self) -> datetime:
        """As the HTTP client knows it: in whole seconds, from the last answer."""
        return self.ours() + self._learnt

    def _learn_its_clock(self) -> None:
        self._learnt = self.clock.now.replace(microsecond=0) - self.ours()

    def _shown(self, vendor_id: str) -> Record:
        """The newest version that is indexed."""
        return next(each.record for each in reversed(self.versions[vendor_id]) if each.visible <= self.now_true)

    def _inside(self, window: Window, *, live: bool) -> list[str]:
        """The alerts of a window, newest first."""
        shown = {
            vendor_id: self._shown(vendor_id).alert.updated
            for vendor_id, versions in self.versions.items()
            if versions[0].visible <= self.now_true
        }
        inside = [each for each, moment in shown.items() if window.start <= moment and (live or moment <= window.end)]
        return sorted(inside, key=lambda each: shown[each], reverse=True)

    def _overtaken(self, chance: Random) -> list[Record]:
        """Versions that are not the newest any more, as a cache or a replica tells them."""
        old = [
            version.record
            for versions in self.versions.values()
            for version in versions[:-1]
            if version.visible <= self.now_true
            and version.record.alert.updated < self._shown(version.record.alert.vendor_id).alert.updated
        ]
        return chance.sample(old, min(len(old), 2))
