"""Source → store: reads what is due, window by window, and goes on whatever the vendor does.

What is due is computed, never remembered as a cursor: the complement of what the store says was read whole, stretched
back by the look-back, because vendors index late. A window counts as read only when its last page is stored.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta

import anyio
from msgspec import Struct, structs

from xdr_mcp.errors import BadResponse, LeaseLost, SourceError, StoreError, Unavailable, WindowTooLarge
from xdr_mcp.interfaces import Clock, Health, Lease, Page, Saved, Source, SourceState, Store, Window, utc_now
from xdr_mcp.lease import TTL, run_while_held

log = logging.getLogger(__name__)

FOLLOW_EVERY = 1.0
"""Seconds between a follower's looks at the lease."""
SLOWEST_BACKOFF = timedelta(minutes=15)
"""However long a vendor asks to wait, it is asked again after this: being blind longer is worse than four calls an hour."""
SHORTEST_WINDOW = timedelta(milliseconds=2)
SHORTEST_PIECE = timedelta(minutes=1)
LAG_MARGIN = 1.5
"""The look-back exceeds the measured 99.9th percentile of arrival lag by this factor."""
DATE_RESOLUTION = timedelta(seconds=1)
"""An HTTP Date has whole seconds, so the vendor's clock is known only this well."""


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


class PollReport(Struct, kw_only=True):
    """What polling did so far, or in all."""

    source: str
    windows: int = 0
    pages: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    outdated: int = 0
    quarantined: int = 0

    def add(self, saved: Saved) -> None:
        """Count one saved page."""
        self.pages += 1
        self.created += saved.created
        self.updated += saved.updated
        self.unchanged += saved.unchanged
        self.outdated += saved.outdated
        self.quarantined += saved.quarantined

    def __str__(self) -> str:
        text = f"{self.source}: {self.created} new, {self.updated} changed, {self.unchanged} known, {self.pages} pages"
        return f"{text}, {self.quarantined} quarantined" if self.quarantined else text


class LeaseHeld(StoreError):
    """Another process polls this source into the same store."""


class Piece(Struct, frozen=True):
    """One window to read; ``live`` is the one that ends now."""

    window: Window
    live: bool


def due(covered: tuple[Window, ...], origin: datetime, now: datetime, look_back: timedelta) -> list[Piece]:
    """What is to be read, newest first: every hole in ``covered`` between ``origin`` and ``now``, and always the last stretch.

    A hole that follows something covered starts ``look_back`` earlier, for what was indexed late.
    """
    holes: list[Window] = []
    start = origin
    for window in covered:
        if window.start > start:
            holes.append(Window(start, min(window.start, now)))
        start = max(start, window.end)
    holes.append(Window(min(start, now), now))
    begins = (hole.start if hole.start <= origin else max(origin, hole.start - look_back) for hole in holes)
    windows = [Window(begin, hole.end) for begin, hole in zip(begins, holes, strict=True)]
    return [Piece(window, live=number == 0) for number, window in enumerate(reversed(windows))]


class Poller:
    """Polls one source into the store while it holds the source's lease; follows whoever else holds it."""

    def __init__(
        self,
        source: Source,
        store: Store,
        *,
        pace: Pace,
        holder: str,
        clock: Clock = utc_now,
        progress: Callable[[PollReport], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._store = store
        self._pace = pace
        self._holder = holder
        self._clock = clock
        self._progress = progress
        self._health = Health()
        self._longest = self._longest_allowed
        """Longest piece read at once: halved when one fails, so that a vendor that fails often is read all the same."""
        self._wait = pace.interval.total_seconds()

    @property
    def _lease_name(self) -> str:
        return f"poll:{self._source.name}"

    async def run(self) -> None:
        """Poll for ever. Nothing but cancellation ends it: every failure is told, counted and retried."""
        if self._source.idle_reason:
            return await self._idle()
        failures = 0
        while True:
            try:
                await self._take_turn()
                failures = 0
            except StoreError as error:
                failures += 1
                log.error("%s: %s", self._source.name, error)  # noqa: TRY400 (the message says all; no traceback)
            except Exception:
                failures += 1
                log.exception("%s: polling failed unexpectedly; it goes on", self._source.name)
            await anyio.sleep(_backoff(timedelta(seconds=1), failures) if failures else FOLLOW_EVERY)

    async def once(self) -> PollReport:
        """Read everything that is due now, then return.

        Raises:
            LeaseHeld: another process polls this source.
            SourceError: the vendor failed; what was read until then is stored.
            StoreError: the store failed.
        """
        if self._source.idle_reason:
            await self._report_idle()
            return PollReport(source=self._source.name)
        lease = await self._store.acquire(self._lease_name, self._holder, TTL)
        if lease is None:
            raise LeaseHeld(f"another process polls {self._source.name} into this store already; see `xdr-mcp status`")
        return await run_while_held(self._store, lease, lambda: self._attempt(lease))

    async def _idle(self) -> None:
        while True:
            await self._report_idle()
            await anyio.sleep_forever()

    async def _report_idle(self) -> None:
        log.warning("%s: %s", self._source.name, self._source.idle_reason)
        await self._store.report(self._source.name, Health(state="development"), None)

    async def _take_turn(self) -> None:
        """Poll while the lease is ours; return when somebody else has it."""
        lease = await self._store.acquire(self._lease_name, self._holder, TTL)
        if lease is None:
            return
        log.info("%s: polling every %gs (%s)", self._source.name, self._pace.interval.total_seconds(), self._holder)
        try:
            await run_while_held(self._store, lease, lambda: self._poll_on(lease))
        except LeaseLost as error:
            log.warning("%s: %s; following it", self._source.name, error)

    async def _poll_on(self, lease: Lease) -> None:
        while True:
            try:
                await self._attempt(lease)
            except SourceError as error:
                failures = self._health.failures
                log.warning("%s: %s (failure %d; next in %.0fs)", self._source.name, error, failures, self._wait)
            await anyio.sleep(self._wait)

    async def _attempt(self, lease: Lease) -> PollReport:
        """Read everything due, and tell how it went, whichever way it went."""
        self._health = structs.replace(self._health, last_attempt=self._clock())
        report = PollReport(source=self._source.name)
        try:
            await self._read_due(lease, report)
        except SourceError as error:
            await self._tell_failure(error, lease)
            raise
        finally:
            log.log(logging.INFO if report.created or report.updated else logging.DEBUG, "%s", report)
        self._wait = self._pace.interval.total_seconds()
        await self._tell(lease, state="ok", last_success=self._clock(), failures=0)
        return report

    async def _tell_failure(self, error: SourceError, lease: Lease) -> None:
        failures = self._health.failures + 1
        self._wait = _backoff(self._pace.interval, failures - 1)
        if isinstance(error, Unavailable) and error.retry_after is not None:
            self._wait = max(self._wait, min(error.retry_after, SLOWEST_BACKOFF.total_seconds()))
        await self._tell(lease, state="failing", last_error=str(error), last_error_at=self._clock(), failures=failures)

    async def _tell(self, lease: Lease, **news: object) -> None:
        skew = (self._source.vendor_now() - self._clock()).total_seconds()
        next_attempt = self._clock() + timedelta(seconds=self._wait)
        self._health = structs.replace(self._health, clock_skew=round(skew, 1), next_attempt=next_attempt, **news)
        await self._store.report(self._source.name, self._health, lease)

    async def _read_due(self, lease: Lease, report: PollReport) -> None:
        state = await self._state()
        now = self._now()
        rescan = await self._rescan_due(now)
        look_back = self._pace.rescan_span if rescan else self._look_back(state)
        for hole in due(state.coverage, await self._origin(now), now, look_back):
            await self._read_hole(hole, lease, report)
        if rescan:
            await self._store.memory(self._source.name).remember("rescanned", now.isoformat())

    async def _state(self) -> SourceState:
        name = self._source.name
        return next((state for state in await self._store.states() if state.source == name), SourceState(source=name))

    def _now(self) -> datetime:
        """The earlier of the two clocks: one that runs ahead must not have time called covered that is still to come."""
        return min(self._source.vendor_now(), self._clock())

    def _look_back(self, state: SourceState) -> timedelta:
        measured = timedelta(seconds=(state.lag_p999 or 0) * LAG_MARGIN)
        return min(max(measured, self._pace.shortest_look_back), self._pace.longest_look_back)

    async def _origin(self, now: datetime) -> datetime:
        """Where history begins for this store: fixed by the first poll."""
        memory = self._store.memory(self._source.name)
        remembered = await memory.recall("origin")
        if remembered is not None:
            return datetime.fromisoformat(remembered)
        origin = now - self._pace.initial_lookback
        await memory.remember("origin", origin.isoformat())
        return origin

    async def _rescan_due(self, now: datetime) -> bool:
        memory = self._store.memory(self._source.name)
        remembered = await memory.recall("rescanned")
        if remembered is None:  # the first poll reads back far enough by itself
            await memory.remember("rescanned", now.isoformat())
            return False
        return now - datetime.fromisoformat(remembered) >= self._pace.rescan_every

    async def _read_hole(self, hole: Piece, lease: Lease, report: PollReport) -> None:
        """Read a hole in pieces, newest first, each recorded as covered once it is read."""
        end, live = hole.window.end, hole.live
        while end > hole.window.start or live:
            start = max(hole.window.start, end - self._longest)
            pages = report.pages
            try:
                await self._read(Piece(Window(start, end), live), lease, report)
            except SourceError:
                if report.pages > pages:  # it was cut off in the middle: a shorter piece has a better chance
                    self._longest = max(self._longest / 2, SHORTEST_PIECE)
                raise
            if end - start >= self._longest:
                self._longest = min(self._longest * 1.25, self._longest_allowed)
            end, live = start, False

    @property
    def _longest_allowed(self) -> timedelta:
        return min(self._pace.longest_window, self._source.limits.longest_window or self._pace.longest_window)

    async def _read(self, piece: Piece, lease: Lease, report: PollReport) -> None:
        """Read one window whole, in halves where the vendor cannot page through it, and record it as covered."""
        started = self._clock()
        try:
            async with aclosing(self._source.pages(piece.window, live=piece.live)) as pages:
                async for page in pages:
                    await self._save(page, lease, report)
        except WindowTooLarge as error:
            for half in _halves(piece, error):
                await self._read(half, lease, report)
            return
        report.windows += 1
        covered = self._certain(piece, started)
        if covered is not None:
            await self._store.cover(self._source.name, covered, lease)

    async def _save(self, page: Page, lease: Lease, report: PollReport) -> None:
        report.add(await self._store.save(self._source.name, page, lease))
        for quarantined in page.quarantined:
            log.warning("%s: a record was set aside: %s", self._source.name, quarantined.reason)
        self._progress(report)

    def _certain(self, piece: Piece, started: datetime) -> Window | None:
        """The part of a window that is certainly complete: not the stretch that the vendor may still be indexing."""
        skew = self._source.vendor_now() - self._clock()
        vendor_started = started + min(skew, timedelta(0)) - (DATE_RESOLUTION if skew else timedelta(0))
        end = min(piece.window.end, vendor_started - self._source.limits.hold_back)
        return Window(piece.window.start, end) if end >= piece.window.start else None


def _halves(piece: Piece, error: WindowTooLarge) -> tuple[Piece, Piece]:
    """The newer half, then the older."""
    window = piece.window
    if window.length <= SHORTEST_WINDOW:
        raise BadResponse(
            f"the vendor holds more alerts updated between {window.start.isoformat()} and {window.end.isoformat()} "
            f"than its API can page through: {error}"
        )
    middle = window.start + window.length / 2
    return Piece(Window(middle, window.end), piece.live), Piece(Window(window.start, middle), live=False)


def _backoff(first: timedelta, failures: int) -> float:
    """Seconds to wait: doubled with every failure, bounded, with full jitter above a half."""
    ceiling = min(first * (1 << min(failures, 16)), max(SLOWEST_BACKOFF, first))
    return ceiling.total_seconds() * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load; nothing secret)
