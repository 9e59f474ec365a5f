"""What happens at the company, when: the attack stories, the noise, and what a test throws in.

Everything follows from (seed, speed, time): days have fixed places on the clock, and each has its own generator of random
numbers. Starting the simulator again therefore shows the same alerts with the same ids and times, and ``history`` only
chooses how far back they are still shown. With ``speed`` 60 a day of the company takes 24 minutes, and so do the records'
times: they are always those of the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

from xdr_mcp.simulator.bulk import Catalogue, bulk_revisions
from xdr_mcp.simulator.company import Company
from xdr_mcp.simulator.noise import company_noise
from xdr_mcp.simulator.revision import Revision, milliseconds_of
from xdr_mcp.simulator.script import Story
from xdr_mcp.simulator.stories import PLOTS

_DAY: Final = 86_400_000
_HOUR: Final = 3_600_000
_RAISES_NEXT_DAY: Final = 1
"""Days after the one on which a story begins that it may still raise new alerts."""
_FURTHEST_BACK: Final = 3_650
_ZONE: Final = 1
"""The company's clocks are an hour ahead of UTC."""
_HOURLY = (1, 1, 1, 1, 1, 2, 3, 6, 10, 11, 11, 10, 8, 10, 11, 10, 9, 7, 5, 4, 4, 3, 2, 2)
"""How busy each local hour is, in relation to the others."""


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


class Estate:
    """A seeded company and all that happens to it; asked for what has happened since it was last asked."""

    def __init__(
        self,
        seed: int = 1,
        clock: Callable[[], datetime] = utc_now,
        *,
        speed: float = 1.0,
        rate: float = 12.0,
        history: timedelta = timedelta(hours=24),
        alerts: int | None = None,
        stories: bool = True,
        skew: timedelta = timedelta(0),
    ) -> None:
        """Begin now.

        Args:
            seed: chooses the company and everything that happens to it.
            clock: what time it is; aware.
            speed: how many times faster than the clock the company lives.
            rate: noisy alerts in an hour of the company's, on average.
            history: alerts created up to this long before now are there from the beginning.
            alerts: instead of ``history``: so many of the newest alerts are there from the beginning.
            stories: whether attacks happen.
            skew: how far the vendor's clock, and so every time it tells, is ahead of ``clock``.
        """
        if speed <= 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.seed = seed
        self.company = Company(seed)
        self.intel: list[dict[str, Any]] = []
        self._clock = clock
        self._skew = skew
        self._speed = speed
        self._rate = rate
        self._stories = stories
        self._frozen: int | None = None
        self._tie = count()
        self._coming: list[tuple[int, int, Revision]] = []
        self._catalogue: Catalogue | None = None
        self._bulk = 0
        self.began = self._milliseconds()
        self._next_day = self._day_of(self.began) + 1
        self._begin(history, alerts)

    def now(self) -> datetime:
        """The vendor's clock; it goes on while the company is frozen."""
        return self._clock() + self._skew

    def arrivals(self) -> list[Revision]:
        """Every version whose time has come since the last call, in the order of their times."""
        now = self._frozen if self._frozen is not None else self._milliseconds()
        while self._starts(self._next_day) <= now:
            self._plan(self._day(self._next_day))
            self._next_day += 1
        arrived: list[Revision] = []
        while self._coming and self._coming[0][0] <= now:
            arrived.append(heappop(self._coming)[2])
        return arrived

    def next_at(self) -> int | None:
        """Epoch milliseconds of the next thing planned so far; None when the company is frozen or nothing is."""
        return None if self._frozen is not None or not self._coming else self._coming[0][0]

    def freeze(self) -> None:
        """Let nothing more happen; what has happened stays."""
        if self._frozen is None:
            self._frozen = self._milliseconds()

    def thaw(self) -> None:
        """Go on: what was due meanwhile happens at once, with the times it was planned for."""
        self._frozen = None

    def tell(self, story: Story) -> None:
        """Add a story of one's own to the company's; what it tells of the past is seen at once."""
        self.intel.extend(story.intel)
        self._plan(story.revisions)

    def bulk(self, number: int, spread: timedelta = timedelta(hours=24)) -> None:
        """Add many alerts, evenly over the time before now: for load."""
        now, width = self._milliseconds(), int(spread.total_seconds() * 1000)
        self._add([now - width + (index + 1) * width // number for index in range(number)])

    def burst(self, number: int) -> None:
        """An outbreak: so many alerts at this moment, several to a millisecond."""
        now = self._frozen if self._frozen is not None else self._milliseconds()
        self._add([now - (number - index) // 7 for index in range(number)])

    def _add(self, times: list[int]) -> None:
        self._catalogue = self._catalogue or Catalogue(self.seed, self.company)
        added = bulk_revisions(self.seed, self._bulk, times, self._catalogue)
        self._bulk += len(added)
        self._plan(added)

    def _plan(self, revisions: Sequence[Revision]) -> None:
        for revision in revisions:
            heappush(self._coming, (revision.updated, next(self._tie), revision))

    def _begin(self, history: timedelta, alerts: int | None) -> None:
        """Plan the days before now, as far back as asked."""
        first_shown = self.began - int(history.total_seconds() * 1000)
        day = self._next_day - 1
        earliest = self._day_of(first_shown) - _RAISES_NEXT_DAY if alerts is None else day - _FURTHEST_BACK
        past: list[Revision] = []
        first_sights: list[int] = []
        while day >= earliest:
            told = self._day(day)
            past.extend(told)
            first_sights.extend(one.created for one in told if one.number == 1 and one.created <= self.began)
            if alerts is not None and self._enough(first_sights, alerts, day):
                break
            day -= 1
        if alerts is not None:
            first_shown = sorted(first_sights)[-alerts] if 0 < alerts <= len(first_sights) else self.began + 1
        self._plan([one for one in past if one.created >= first_shown])

    def _enough(self, first_sights: list[int], alerts: int, day: int) -> bool:
        """Whether the newest ``alerts`` are known: no earlier day can hold a newer one."""
        if not self._stories and not self._rate:
            return True
        horizon = self._starts(day + _RAISES_NEXT_DAY)
        return sum(created > horizon for created in first_sights) >= alerts or day <= self._next_day - _FURTHEST_BACK

    def _day(self, day: int) -> list[Revision]:
        """All that begins on one day of the company's."""
        rng = Random(f"{self.seed}/{day}")  # noqa: S311 (repeatable, not secret)
        told: list[Story] = []
        if self._stories:
            for name, plot in PLOTS.items():
                key = f"{self.seed}/{day}/{name}"
                hour = rng.uniform(plot.earliest, plot.latest) - _ZONE
                story = Story(key, self._at(day, hour), self.company, Random(key), self._speed)  # noqa: S311 (repeatable)
                plot.tell(story)
                told.append(story)
        for number in range(self._noise_of_day(rng)):
            hour = (rng.choices(range(24), _HOURLY)[0] + rng.random() - _ZONE) % 24
            told.append(company_noise(self.company, f"{self.seed}/{day}/{number}", self._at(day, hour), self._speed))
        for story in told:
            self.intel.extend(story.intel)
        return [revision for story in told for revision in story.revisions]

    def _noise_of_day(self, rng: Random) -> int:
        return round(self._rate * 24 * rng.uniform(0.85, 1.15))

    def _milliseconds(self) -> int:
        return milliseconds_of(self.now())

    def _day_of(self, milliseconds: int) -> int:
        return int(milliseconds * self._speed // _DAY)

    def _starts(self, day: int) -> int:
        return int(day * _DAY / self._speed)

    def _at(self, day: int, hour: float) -> int:
        return int((day * _DAY + hour * _HOUR) / self._speed)
