"""A source's windows read whole and stored: piece by piece, and in halves where the vendor cannot page through one.

A window counts as read only when its last page is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from msgspec import Struct

from xdr_mcp.errors import SourceError, WindowTooLarge
from xdr_mcp.interfaces import Clock, Lease, Page, Saved, Source, Store, Window
from xdr_mcp.overlap import read_and_save
from xdr_mcp.planning import SHORTEST_PIECE, SHORTEST_WINDOW, Piece, around, crowded

log = logging.getLogger(__name__)


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
    crowds: list[WindowTooLarge] = []
    """One for each that was met: they stay gaps, and nothing that lies before them waits for them."""

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


class Reading:
    """Reads one source into the store; what it learns of how much can be read at once outlasts a poll."""

    def __init__(
        self, source: Source, store: Store, *, longest: timedelta, clock: Clock, progress: Callable[[PollReport], None]
    ) -> None:
        self._source = source
        self._store = store
        self._asked = longest
        self._clock = clock
        self._progress = progress
        self._longest = self._longest_allowed
        """Longest piece read at once: halved when one fails, so that a vendor that fails often is read all the same."""
        self._crowds: list[Window] = []
        """Moments that hold more than the vendor can page through, as far as they are gaps still."""

    def crowded(self, covered: tuple[Window, ...]) -> tuple[Window, ...]:
        """The holes in what is covered, ascending, that are there for crowds alone."""
        found = crowded(covered, self._crowds)
        self._crowds = list(found)
        return found

    async def read_hole(self, hole: Piece, lease: Lease, report: PollReport) -> None:
        """Read all of a hole, newest first, and record it as covered piece by piece.

        Raises:
            SourceError: the vendor failed; what was covered until then stays covered.
        """
        rest: Piece | None = hole
        while rest is not None:
            rest = await self.read_newest(rest, lease, report)

    async def read_newest(self, hole: Piece, lease: Lease, report: PollReport) -> Piece | None:
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
        return min(self._asked, self._source.limits.longest_window or self._asked)

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
                report.crowds.append(_crowd(piece.window, error))
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
    return WindowTooLarge(
        f"the vendor holds more alerts updated between {window.start.isoformat()} and {window.end.isoformat()} "
        f"than its API can page through: {error}"
    )
