"""Source → store: reads what is due, window by window, and goes on whatever the vendor does.

What is due is computed, never remembered as a cursor: the complement of what the store says was read whole, stretched
back by the look-back, because vendors index late. A window counts as read only when its last page is stored.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio
from msgspec import Struct, structs

from xdr_mcp.errors import LeaseLost, SourceError, StoreError, Unavailable, WindowTooLarge
from xdr_mcp.history import History
from xdr_mcp.interfaces import Clock, Health, Lease, Page, Saved, Source, SourceState, Store, Window, utc_now
from xdr_mcp.lease import TTL, run_while_held
from xdr_mcp.overlap import read_and_save
from xdr_mcp.planning import (
    END_OF_TIME,
    SHORTEST_PIECE,
    SHORTEST_WINDOW,
    Pace,
    Piece,
    around,
    claims_the_future,
    crowded,
    due,
    polls_to_rest,
    rescan,
)

log = logging.getLogger(__name__)

FOLLOW_EVERY = 1.0
"""Seconds between a follower's looks at the lease."""
SLOWEST_BACKOFF = timedelta(minutes=15)
"""However long a vendor asks to wait, it is asked again after this: being blind longer is worse than four calls an hour."""
_UNFORESEEN = "this is a defect of xdr-mcp: please report it, with what the log says of it"


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
        self._history = History(store.memory(source.name))
        self._pace = pace
        self._holder = holder
        self._clock = clock
        self._progress = progress
        self._health = Health()
        """How it goes, taken up from whoever polled before."""
        self._longest = self._longest_allowed
        """Longest piece read at once: halved when one fails, so that a vendor that fails often is read all the same."""
        self._unscanned: list[Piece] = []
        """What is left of a rescan that was cut off, oldest first."""
        self._rescan_began = datetime.min.replace(tzinfo=UTC)
        self._gap_failures = 0
        self._gaps_rest = 0
        """Polls for which gaps are left alone."""
        self._crowds: list[Window] = []
        """Moments that hold more than the vendor can page through, as far as they are gaps still."""
        self._too_large: list[WindowTooLarge] = []
        """Of this poll, one for each crowd that it met."""
        self._live_pages = 1
        self._rescan_pages = 1
        self._troubles = 0
        """Turns in a row that ended by a failure of the store, or by one that nobody foresaw."""
        self._wait = pace.interval.total_seconds()

    @property
    def _lease_name(self) -> str:
        return f"poll:{self._source.name}"

    async def run(self) -> None:
        """Poll for ever. Nothing but cancellation ends it: every failure is told, counted and retried."""
        if self._source.idle_reason:
            return await self._idle()
        while True:
            try:
                await self._take_turn()
                self._troubles = 0
            except StoreError as error:
                self._troubles += 1
                log.error("%s: %s", self._source.name, error)  # noqa: TRY400 (the message says all; no traceback)
            except Exception:  # the outermost loop of a task: told, counted, and tried again
                self._troubles += 1
                log.exception("%s: polling failed unexpectedly; it goes on", self._source.name)
            await anyio.sleep(_backoff(timedelta(seconds=1), self._troubles) if self._troubles else FOLLOW_EVERY)

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
        self._gaps_rest = 0
        self._health = (await self._state()).health
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
        self._health = (await self._state()).health
        log.info("%s: polling every %gs (%s)", self._source.name, self._pace.interval.total_seconds(), self._holder)
        try:
            await run_while_held(self._store, lease, lambda: self._poll_on(lease))
        except LeaseLost as error:
            log.warning("%s: %s; following it", self._source.name, error)

    async def _poll_on(self, lease: Lease) -> None:
        while True:
            try:
                await self._attempt(lease)
                self._troubles = 0
            except SourceError as error:
                failures = self._health.failures
                log.warning("%s: %s (failure %d; next in %.0fs)", self._source.name, error, failures, self._wait)
            except StoreError:
                raise
            except Exception as error:
                log.exception("%s: polling failed unexpectedly; it goes on", self._source.name)
                await self._tell_failure(error, lease)
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
        self._wait = self._pace.poll_every(self._live_pages, self._source.limits.per_day).total_seconds()
        await self._tell(lease, state="ok", last_success=self._clock(), failures=0)
        return report

    async def _tell_failure(self, error: Exception, lease: Lease) -> None:
        failures = self._health.failures + 1
        self._wait = _backoff(self._pace.interval, failures - 1)
        if isinstance(error, Unavailable) and error.retry_after is not None:
            self._wait = max(self._wait, min(error.retry_after, SLOWEST_BACKOFF.total_seconds()))
        await self._tell(
            lease,
            state="failing",
            last_error=str(error) or type(error).__name__,
            remedy=error.remedy if isinstance(error, SourceError) else _UNFORESEEN,
            last_error_at=self._clock(),
            failures=failures,
        )

    async def _tell(self, lease: Lease, **news: object) -> None:
        skew = (self._source.vendor_now() - self._clock()).total_seconds()
        next_attempt = self._clock() + timedelta(seconds=self._wait)
        self._health = structs.replace(self._health, clock_skew=round(skew, 1), next_attempt=next_attempt, **news)
        await self._store.report(self._source.name, self._health, lease)

    async def _read_due(self, lease: Lease, report: PollReport) -> None:
        """What is new first, then the gaps, then again what was read already, where a rescan is due."""
        state = await self._state()
        coverage = await self._plausible(state.coverage, lease)
        now = self._now()
        origin = await self._history.origin(now, self._pace.initial_lookback)
        look_back = self._pace.look_back(state.lag_p999)
        self._health = structs.replace(self._health, look_back=look_back.total_seconds())
        self._too_large = []
        apart = crowded(coverage, self._crowds)
        self._crowds = list(apart)
        live, *gaps = due(coverage, origin, now, look_back, apart)
        for part in live.without(apart):
            await self._read_hole(part, lease, report)
        self._live_pages = (
            report.pages if coverage else 1
        )  # the first poll reads history, and tells nothing of the next
        await self._read_gaps([*gaps, *(Piece(crowd, live=False) for crowd in apart)], lease, report)
        await self._read_again(origin, now, lease, report)
        if self._too_large:
            raise self._too_large[0]

    async def _plausible(self, coverage: tuple[Window, ...], lease: Lease) -> tuple[Window, ...]:
        """What was read whole, without its last stretch where it ends in a time to come.

        Then a clock ran ahead when it was recorded, and as much as a look-back may be is forgotten, and read again.
        """
        latest = max(self._source.vendor_now(), self._clock())
        if not claims_the_future(coverage, latest):
            return coverage
        since = latest - self._pace.longest_look_back
        log.warning("%s: a clock ran ahead; what changed since %s is read again", self._source.name, since.isoformat())
        await self._store.uncover(self._source.name, Window(since, END_OF_TIME), lease)
        return (await self._state()).coverage

    async def _read_gaps(self, gaps: list[Piece], lease: Lease, report: PollReport) -> None:
        """Read what is known to be missing, unless that failed lately."""
        if not gaps or self._gaps_rest:
            self._gaps_rest = max(0, self._gaps_rest - 1)
            return
        windows, crowds = report.windows, len(self._too_large)
        try:
            for gap in gaps:
                await self._read_hole(gap, lease, report)
        except SourceError:
            self._let_gaps_rest(progress=report.windows > windows)
            raise
        if len(self._too_large) > crowds:
            self._let_gaps_rest(progress=False)
        else:
            self._gap_failures = 0

    def _let_gaps_rest(self, *, progress: bool) -> None:
        self._gap_failures = 1 if progress else self._gap_failures + 1
        self._gaps_rest = polls_to_rest(self._gap_failures)

    async def _read_again(self, origin: datetime, now: datetime, lease: Lease, report: PollReport) -> None:
        """The rescan: what was covered since a span before the last one began, for what was indexed late since.

        It goes on where it was cut off, if it was, so that it ends however often the vendor fails.
        """
        if not self._unscanned:
            last = await self._history.rescanned(now)
            if not self._pace.rescan_is_due(last, now, self._rescan_pages, self._source.limits.per_day):
                return
            self._unscanned = rescan((await self._state()).coverage, origin, last, now, self._pace.rescan_span)
            self._rescan_began = now
        pages = report.pages
        while self._unscanned:
            rest = await self._read_newest(self._unscanned[-1], lease, report)
            self._unscanned[-1:] = [rest] if rest else []
        self._rescan_pages = report.pages - pages
        await self._history.note_rescan(self._rescan_began)

    async def _state(self) -> SourceState:
        name = self._source.name
        return next((state for state in await self._store.states() if state.source == name), SourceState(source=name))

    def _now(self) -> datetime:
        """The earlier of the two clocks: one that runs ahead must not have time called covered that is still to come."""
        return min(self._source.vendor_now(), self._clock())

    async def _read_hole(self, hole: Piece, lease: Lease, report: PollReport) -> None:
        rest: Piece | None = hole
        while rest is not None:
            rest = await self._read_newest(rest, lease, report)

    async def _read_newest(self, hole: Piece, lease: Lease, report: PollReport) -> Piece | None:
        """Read the newest piece of a hole, record it as covered, and return what is left of the hole."""
        piece, rest = hole.newest(self._longest)
        pages = report.pages
        try:
            await self._read(piece, lease, report)
        except SourceError:
            if report.pages > pages:  # it was cut off in the middle: a shorter piece has a better chance
                self._longest = max(self._longest / 2, SHORTEST_PIECE)
            raise
        if piece.window.length >= self._longest:
            self._longest = min(self._longest * 1.25, self._longest_allowed)
        return rest

    @property
    def _longest_allowed(self) -> timedelta:
        return min(self._pace.longest_window, self._source.limits.longest_window or self._pace.longest_window)

    async def _read(self, piece: Piece, lease: Lease, report: PollReport) -> None:
        """Read one window whole, in halves where the vendor cannot page through it, and record it as covered."""
        started = self._clock()
        log.debug("%s: reading %s", self._source.name, piece)
        try:
            await read_and_save(
                self._source.pages(piece.window, live=piece.live), lambda page: self._save(page, lease, report)
            )
        except WindowTooLarge as error:
            if piece.window.length <= SHORTEST_WINDOW:
                crowd = around(piece.window)
                self._crowds.append(crowd)
                self._too_large.append(_crowd(piece.window, error))
                await self._store.uncover(self._source.name, crowd, lease)
            else:
                for half in piece.halves():
                    await self._read(half, lease, report)
            return
        report.windows += 1
        skew = self._source.vendor_now() - self._clock()
        covered = piece.certain(started, skew, self._source.limits.hold_back)
        if covered is not None:
            await self._store.cover(self._source.name, covered, lease)

    async def _save(self, page: Page, lease: Lease, report: PollReport) -> None:
        saved = await self._store.save(self._source.name, page, lease)
        report.add(saved)
        log.debug("%s: a page of %d alerts: %s", self._source.name, len(page.records), saved)
        for quarantined in page.quarantined:
            log.warning("%s: a record was set aside: %s", self._source.name, quarantined.reason)
        self._progress(report)


def _crowd(window: Window, error: WindowTooLarge) -> WindowTooLarge:
    """Told at the end, when all else was read: the crowd stays a gap, and nothing that lies before it waits for it."""
    return WindowTooLarge(
        f"the vendor holds more alerts updated between {window.start.isoformat()} and {window.end.isoformat()} "
        f"than its API can page through: {error}"
    )


def _backoff(first: timedelta, failures: int) -> float:
    """Seconds to wait: doubled with every failure, bounded, with full jitter above a half."""
    ceiling = min(first * (1 << min(failures, 16)), max(SLOWEST_BACKOFF, first))
    return ceiling.total_seconds() * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load; nothing secret)
