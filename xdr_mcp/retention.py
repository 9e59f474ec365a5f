"""Drops from the store, every so often, what its operator does not want to keep; never what somebody still needs.

Age is counted from the newest moment that was read of any source, not from our clock alone: one that runs ahead would
have everything dropped at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from xdr_mcp.interfaces import Clock, Forgotten, Keep, Lease, Store, Window, utc_now
from xdr_mcp.lease import TTL, run_while_held
from xdr_mcp.recurring import keep_doing

log = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
LEASE = "retention"

ReadAgain = Callable[[datetime], Awaitable[Mapping[str, Sequence[Window]]]]
"""By source, what polling may read again, as seen at a moment."""


class Policy(Struct, frozen=True, kw_only=True):
    """What to keep; None sets no limit."""

    age: timedelta | None = None
    """Since an alert that is closed was last updated."""
    alerts: int | None = None
    size: int | None = None
    """Bytes in use."""

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.age, self.alerts, self.size))

    def __str__(self) -> str:
        limits = (
            f"closed alerts for {self.age.total_seconds() / 86400:g} days" if self.age is not None else "",
            f"{self.alerts:,} alerts" if self.alerts is not None else "",
            f"{self.size:,} bytes" if self.size is not None else "",
        )
        return ", at most ".join(limit for limit in limits if limit)


class Retention:
    """Keeps one store within a policy, while this process holds the lease for it."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        *,
        read_again: ReadAgain,
        sinks: Sequence[str],
        holder: str,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._policy = policy
        self._read_again = read_again
        self._sinks = sinks
        self._holder = holder
        self._clock = clock

    async def run(self) -> None:
        """Drop what need not be kept, every hour, for ever. Nothing but cancellation ends it."""
        await keep_doing("retention", self.once, EVERY, log)

    async def once(self) -> Forgotten:
        """Drop what need not be kept now; nothing when another process does.

        Raises:
            StoreError: the store failed, or another process took over (LeaseLost); what was dropped until then stays so.
        """
        if not self._policy:
            return Forgotten()
        lease = await self._store.acquire(LEASE, self._holder, TTL)
        if lease is None:
            return Forgotten()
        forgotten = await run_while_held(self._store, lease, lambda: self._forget(lease))
        if forgotten.alerts or forgotten.quarantined:
            log.info(
                "retention: dropped %d alerts (%d revisions) and %d quarantined records",
                *(forgotten.alerts, forgotten.changes, forgotten.quarantined),
            )
        if forgotten.over:
            log.warning(
                "the store exceeds XDR_KEEP_ALERTS or XDR_KEEP_BYTES, and all that is left is still needed: "
                "by the archive, by what polling reads again, or by a gap. See `xdr-mcp status`, or allow more"
            )
        return forgotten

    async def _forget(self, lease: Lease) -> Forgotten:
        alerts = changes = quarantined = 0
        while True:
            now = await self._moment()
            needed = await self._read_again(now)
            policy = self._policy
            since = None if policy.age is None else now - policy.age
            keep = Keep(since=since, alerts=policy.alerts, size=policy.size)
            dropped = await self._store.forget(keep, needed, self._sinks, lease)
            alerts, changes = alerts + dropped.alerts, changes + dropped.changes
            quarantined += dropped.quarantined
            if not (dropped.alerts or dropped.quarantined):
                return Forgotten(alerts=alerts, changes=changes, quarantined=quarantined, over=dropped.over)

    async def _moment(self) -> datetime:
        """The earlier of our clock and the newest moment that was read whole."""
        covered = [state.coverage[-1].end for state in await self._store.states() if state.coverage]
        return min(self._clock(), max(covered)) if covered else self._clock()
