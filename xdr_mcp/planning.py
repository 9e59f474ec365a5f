"""What is to be read, and when: intervals, clocks and budgets, with no input or output. The poller does what is planned here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from msgspec import Struct

from xdr_mcp.interfaces import Window

SHORTEST_WINDOW = timedelta(milliseconds=2)
SHORTEST_PIECE = timedelta(minutes=1)
LAG_MARGIN = 1.5
"""The look-back exceeds the measured 99.9th percentile of arrival lag by this factor."""
DATE_RESOLUTION = timedelta(seconds=1)
"""An HTTP Date has whole seconds, so the vendor's clock is known only this well."""
MOST_POLLS_BETWEEN_GAPS = 512
"""A gap that cannot be read is left alone for 2, 4, 8 … polls, so that it does not keep what is new waiting."""
LONGEST_STRETCH = timedelta(minutes=5)
"""A small daily budget stretches the interval, but no further than this."""
LIVE_SHARE, RESCAN_SHARE = 0.8, 0.1
"""Parts of a daily budget; what remains is for gaps, retries and the operator's own calls."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_DAY = timedelta(days=1)


class Pace(Struct, frozen=True, kw_only=True):
    """How often, and how far back."""

    interval: timedelta = timedelta(seconds=60)
    initial_lookback: timedelta = timedelta(hours=24)
    """What a first run reads back."""
    shortest_look_back: timedelta = timedelta(minutes=5)
    longest_look_back: timedelta = timedelta(hours=24)
    """Bounds of the look-back, which follows the measured arrival lag."""
    rescan_every: timedelta = timedelta(hours=1)
    rescan_span: timedelta = timedelta(hours=24)
    """Every so often the look-back is this long, for what arrives later than anything measured so far."""
    longest_window: timedelta = timedelta(days=1)
    """A longer hole is read in pieces of this, newest first, so that an interruption costs one piece."""

    def look_back(self, lag: float | None) -> timedelta:
        """How far each poll looks back, at an arrival lag (99.9th percentile) of ``lag`` seconds; None when none is known."""
        measured = timedelta(seconds=(lag or 0) * LAG_MARGIN)
        return min(max(measured, self.shortest_look_back), self.longest_look_back)

    def poll_every(self, requests: int, per_day: int | None) -> timedelta:
        """Time from one poll to the next, where one costs ``requests`` and the vendor allows ``per_day``."""
        return _affordable(requests, per_day, LIVE_SHARE, self.interval, LONGEST_STRETCH)

    def rescan_is_due(self, last: datetime, now: datetime, requests: int, per_day: int | None) -> bool:
        """Whether to rescan, the last having begun at ``last``: one in the future counts as never."""
        every = _affordable(requests, per_day, RESCAN_SHARE, self.rescan_every, self.rescan_span)
        return not timedelta(0) <= now - last < every


def _affordable(requests: int, per_day: int | None, share: float, every: timedelta, longest: timedelta) -> timedelta:
    """``every``, or as much longer, up to ``longest``, as makes ``requests`` each time last the vendor's day."""
    if per_day is None:
        return every
    return max(every, min(_DAY * (requests / (per_day * share)), longest))


class Piece(Struct, frozen=True):
    """One window to read; ``live`` is the one that ends now."""

    window: Window
    live: bool

    def __str__(self) -> str:
        end = "now" if self.live else f"{self.window.end:%Y-%m-%dT%H:%M:%SZ}"
        return f"what changed from {self.window.start:%Y-%m-%dT%H:%M:%SZ} to {end}"

    def newest(self, longest: timedelta) -> tuple[Piece, Piece | None]:
        """Its newest part, of at most ``longest``, and what is left before it."""
        window = self.window
        start = max(window.start, window.end - longest)
        rest = Piece(Window(window.start, start), live=False) if start > window.start else None
        return Piece(Window(start, window.end), self.live), rest

    def halves(self) -> tuple[Piece, Piece]:
        """The newer half, then the older."""
        window = self.window
        middle = window.start + window.length / 2
        return Piece(Window(middle, window.end), self.live), Piece(Window(window.start, middle), live=False)

    def without(self, crowded: Iterable[Window]) -> list[Piece]:
        """Its parts outside of these holes, which are apart and ascending; newest first, and the newest is always there."""
        parts, end, live = [], self.window.end, self.live
        for hole in reversed([hole for hole in crowded if self.window.start < hole.end <= end]):
            parts.append(Piece(Window(hole.end, end), live))
            end, live = hole.start, False
        if not parts or self.window.start < end:
            parts.append(Piece(Window(self.window.start, end), live))
        return parts

    def certain(self, started: datetime, skew: timedelta, hold_back: timedelta) -> Window | None:
        """The part that is certainly complete when it was read whole: not the stretch that the vendor may still be indexing.

        ``started`` is our time before the first page, ``skew`` how far the vendor's clock is ahead of ours.
        """
        vendor_started = started + min(skew, timedelta(0)) - (DATE_RESOLUTION if skew else timedelta(0))
        end = min(self.window.end, vendor_started - hold_back)
        return Window(self.window.start, end) if end >= self.window.start else None


def due(
    covered: tuple[Window, ...],
    origin: datetime,
    now: datetime,
    look_back: timedelta,
    crowded: tuple[Window, ...] = (),
) -> list[Piece]:
    """What is to be read, newest first: every hole in ``covered`` between ``origin`` and ``now``, and always the last stretch.

    A hole that follows something covered starts ``look_back`` earlier, for what was indexed late. Those of ``crowded`` are
    left out: they are read by themselves.
    """
    holes: list[Window] = []
    start = origin
    for window in covered:
        if start < window.start and start < now and Window(start, window.start) not in crowded:
            holes.append(Window(start, min(window.start, now)))
        start = max(start, window.end)
    holes.append(Window(min(start, now), now))
    begins = (hole.start if hole.start <= origin else max(origin, hole.start - look_back) for hole in holes)
    windows = [Window(begin, hole.end) for begin, hole in zip(begins, holes, strict=True)]
    return [Piece(window, live=number == 0) for number, window in enumerate(reversed(windows))]


def rescan(
    covered: tuple[Window, ...], origin: datetime, last: datetime, now: datetime, span: timedelta
) -> list[Piece]:
    """What a rescan reads, oldest first: what is covered since ``span`` before the last one began, at ``last``.

    From where the last one began rather than from now, so that an absence hides nothing that was late before it.
    """
    since = max(origin, min(last, now) - span)
    parts = (Window(max(window.start, since), min(window.end, now)) for window in covered)
    return [Piece(part, live=False) for part in parts if part.start <= part.end]


def needed(
    covered: tuple[Window, ...], origin: datetime | None, rescanned: datetime | None, now: datetime, pace: Pace
) -> tuple[Window, ...]:
    """What polling may yet read or read again, ascending: an alert in there that is forgotten would be told as new.

    That is every hole with its look-back, and all since twice the longest look-back: a rescan that was cut off, and what a
    clock that ran ahead has forgotten, reach that far at most. ``origin`` and ``rescanned`` are None before the first poll.
    """
    origin = origin or now - pace.initial_lookback
    reach = max(pace.longest_look_back, pace.rescan_span)
    live, *gaps = (piece.window for piece in due(covered, origin, now, reach))
    newest = covered[-1].end if covered else origin
    since = min(live.start, min(newest, rescanned or now, now) - 2 * reach)
    return (*reversed(gaps), Window(since, END_OF_TIME))


def claims_the_future(covered: tuple[Window, ...], latest: datetime) -> bool:
    """Whether a clock ran ahead as this was recorded: it ends later than ``latest``, the later of two clocks now."""
    return bool(covered) and covered[-1].end > latest + DATE_RESOLUTION


def around(crowd: Window) -> Window:
    """What has to stay a gap so that a crowd is read again: a little more than an instant, where it is one."""
    return crowd if crowd.length else Window(crowd.start - SHORTEST_WINDOW, crowd.end + SHORTEST_WINDOW)


def crowded(covered: tuple[Window, ...], crowds: Iterable[Window]) -> tuple[Window, ...]:
    """The holes in ``covered``, ascending, that ``crowds`` fill from end to end: nothing else in there is unread."""
    ascending = sorted(crowds, key=lambda crowd: crowd.start)
    holes = (Window(before.end, after.start) for before, after in pairwise(covered))
    return tuple(hole for hole in holes if _filled(hole, ascending))


def _filled(hole: Window, ascending: Iterable[Window]) -> bool:
    reached = hole.start
    for crowd in ascending:
        if crowd.start <= reached:
            reached = max(reached, crowd.end)
    return reached >= hole.end


def polls_to_rest(failures: int) -> int:
    """For how many polls gaps are left alone, after as many failures in a row to read them."""
    return min(1 << min(failures, 16), MOST_POLLS_BETWEEN_GAPS)
