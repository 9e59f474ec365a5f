"""Source → store: has what is due read, under a lease, tells how it goes, and goes on whatever the vendor does.

What is due is computed, never remembered as a cursor: the complement of what the store says was read whole, stretched
back by the look-back, because vendors index late.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio
from msgspec import Struct, structs

from xdr_mcp.errors import LeaseLost, SourceError, StoreError, Unavailable
from xdr_mcp.history import History
from xdr_mcp.interfaces import Clock, Health, Lease, Source, SourceState, Store, Window, utc_now
from xdr_mcp.lease import TTL, run_while_held
from xdr_mcp.planning import END_OF_TIME, Pace, Piece, claims_the_future, due, polls_to_rest, rescan
from xdr_mcp.reading import PollReport, Reading

log = logging.getLogger(__name__)

FOLLOW_EVERY = 1.0
"""Seconds between a follower's looks at the lease."""
SLOWEST_BACKOFF = timedelta(minutes=15)
"""However long a vendor asks to wait, it is asked again after this: being blind longer is worse than four calls an hour."""
_UNFORESEEN = "this is a defect of xdr-mcp: please report it, with what the log says of it"


class LeaseHeld(StoreError):
    """Another process polls this source into the same store."""


class _Rest(Struct):
    """For how many polls something that cannot be read is left alone."""

    polls: int = 0
    failures: int = 0
    """In a row, to read it."""

    def begin(self, *, progress: bool) -> None:
        """It failed again; with ``progress`` that counts as the first time."""
        self.failures = 1 if progress else self.failures + 1
        self.polls = polls_to_rest(self.failures)


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
        self._reading = Reading(source, store, longest=pace.longest_window, clock=clock, progress=progress)
        self._health = Health()
        """How it goes, taken up from whoever polled before."""
        self._unscanned: list[Piece] = []
        """What is left of a rescan that was cut off, oldest first."""
        self._rescan_began = datetime.min.replace(tzinfo=UTC)
        self._gaps_rest, self._crowds_rest = _Rest(), _Rest()
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
        self._gaps_rest.polls = self._crowds_rest.polls = 0
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
        crowds = self._reading.crowded(coverage)
        live, *gaps = due(coverage, origin, now, look_back, crowds)
        for part in live.without(crowds):
            await self._reading.read_hole(part, lease, report)
        self._live_pages = (
            report.pages if coverage else 1
        )  # the first poll reads history, and tells nothing of the next
        await self._read_gaps(gaps, self._gaps_rest, lease, report)
        await self._read_gaps([Piece(crowd, live=False) for crowd in crowds], self._crowds_rest, lease, report)
        await self._read_again(origin, now, lease, report)
        if report.crowds:
            raise report.crowds[0]

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

    async def _read_gaps(self, gaps: list[Piece], rest: _Rest, lease: Lease, report: PollReport) -> None:
        """Read what is known to be missing, unless that failed lately."""
        if not gaps or rest.polls:
            rest.polls = max(0, rest.polls - 1)
            return
        windows, crowds = report.windows, len(report.crowds)
        try:
            for gap in gaps:
                await self._reading.read_hole(gap, lease, report)
        except SourceError:
            rest.begin(progress=report.windows > windows)
            raise
        if len(report.crowds) > crowds:
            rest.begin(progress=False)
        else:
            rest.failures = 0

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
            rest = await self._reading.read_newest(self._unscanned[-1], lease, report)
            self._unscanned[-1:] = [rest] if rest else []
        self._rescan_pages = report.pages - pages
        await self._history.note_rescan(self._rescan_began)

    async def _state(self) -> SourceState:
        name = self._source.name
        return next((state for state in await self._store.states() if state.source == name), SourceState(source=name))

    def _now(self) -> datetime:
        """The earlier of the two clocks: one that runs ahead must not have time called covered that is still to come."""
        return min(self._source.vendor_now(), self._clock())


def _backoff(first: timedelta, failures: int) -> float:
    """Seconds to wait: doubled with every failure, bounded, with full jitter above a half."""
    ceiling = min(first * (1 << min(failures, 16)), max(SLOWEST_BACKOFF, first))
    return ceiling.total_seconds() * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load; nothing secret)
