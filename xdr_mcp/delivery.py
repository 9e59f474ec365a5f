"""Store → sink: takes the changes that follow the sink's saved position, sends them, then moves it. At least once, in order.

A sink that is down delays itself and nobody else. A change that a sink can never take is set aside after it was found
by sending one at a time, and told by ``status`` and ``doctor``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio

from xdr_mcp.alert import KeptChange
from xdr_mcp.errors import ChangeRefused, LeaseLost, SinkError, StoreError
from xdr_mcp.interfaces import Clock, DeadLetter, Lease, Sink, Store, utc_now
from xdr_mcp.lease import TTL, run_while_held
from xdr_mcp.overlap import side_by_side

log = logging.getLogger(__name__)

BATCH = 500
"""Changes that are sent at once at most; the archive flushes the disk twice a batch. One batch is held, mostly 3 MB."""
LONGEST_BACKOFF = 60.0
MOST_UNFORESEEN = 5
"""Failures in a row that no sink should have, before a batch is offered one by one and what fails again is set aside."""
QUIET = 30.0
"""Seconds to wait for a change before looking again anyway: a missed wake-up costs this, never data."""


def _silent(_: int) -> None:
    """No progress is shown."""


def lease_name(sink: str) -> str:
    """The lease whose holder feeds a sink."""
    return f"deliver:{sink}"


class Delivery:
    """Feeds one sink, while this process holds the sink's lease."""

    def __init__(self, sink: Sink, store: Store, *, holder: str, clock: Clock = utc_now) -> None:
        self._sink = sink
        self._store = store
        self._holder = holder
        self._clock = clock
        self._failures = 0
        """Failures since the saved position moved last."""
        self._unforeseen = 0

    async def run(self) -> None:
        """Deliver for ever. Nothing but cancellation ends it."""
        while True:
            try:
                lease = await self._acquire()
                if lease is not None:
                    await run_while_held(self._store, lease, self._follow)
                self._failures = 0
            except LeaseLost as error:
                log.warning("%s: %s", self._sink.name, error)
            except (SinkError, StoreError) as error:
                self._failures += 1
                log.error("%s: %s (it will be offered again)", self._sink.name, error)  # noqa: TRY400 (the message says all)
            except Exception:
                self._failures += 1
                log.exception("%s: delivery failed unexpectedly; it goes on", self._sink.name)
            await anyio.sleep(min(2 ** min(self._failures, 16), LONGEST_BACKOFF) * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load)

    async def drain(self) -> int:
        """Deliver everything up to the newest change and return how many changes that was.

        Raises:
            SinkError: the sink failed; what it took before that is remembered.
            StoreError: the store failed, or another process delivers to this sink (LeaseLost).
        """
        if await self._store.position(self._sink.name) >= await self._store.last_seq():
            return 0
        return await self._run_alone(self._deliver_all)

    async def redeliver(self, progress: Callable[[int], None]) -> int:
        """Deliver every change from the first, to a sink that lost what it had; how many changes that was.

        The sink recognises what it still has. ``progress`` is told how many were offered. Raises as ``drain`` does.
        """
        return await self._run_alone(partial(self._deliver_again, progress))

    async def _run_alone(self, work: Callable[[], Awaitable[int]]) -> int:
        lease = await self._acquire()
        if lease is None:
            raise LeaseLost(f"another process delivers to {self._sink.name} already; see `xdr-mcp status`")
        return await run_while_held(self._store, lease, work)

    async def _acquire(self) -> Lease | None:
        lease = await self._store.acquire(lease_name(self._sink.name), self._holder, TTL)
        if lease is not None:
            self._sink.begin()
        return lease

    async def _follow(self) -> None:
        position = await self._store.position(self._sink.name)
        while True:
            position, _ = await self._deliver_after(position, _silent)
            await self._store.wait(position, QUIET)

    async def _deliver_all(self) -> int:
        _, delivered = await self._deliver_after(await self._store.position(self._sink.name), _silent)
        return delivered

    async def _deliver_again(self, progress: Callable[[int], None]) -> int:
        _, delivered = await self._deliver_after(0, progress)
        return delivered

    async def _deliver_after(self, position: int, progress: Callable[[int], None]) -> tuple[int, int]:
        """Deliver what follows a position; where that ended, and how many changes it was.

        A save may hold up the move of the saved position. Delivery goes on meanwhile, and the next move goes to where it is then.
        """
        delivered = 0
        reached, moving = anyio.create_memory_object_stream[None](1)

        async def deliver() -> None:
            nonlocal position, delivered
            async with reached:
                while batch := await self._store.kept_changes(position, BATCH):
                    await self._deliver(batch)
                    position = batch[-1].seq
                    delivered += len(batch)
                    self._unforeseen = 0
                    progress(delivered)
                    del batch  # before the next is held
                    with suppress(anyio.WouldBlock):  # a move is due already
                        reached.send_nowait(None)

        async def move() -> None:
            async with moving:
                async for _ in moving:
                    await self._store.move(self._sink.name, position)
                    self._failures = 0

        await side_by_side(deliver, move)
        return position, delivered

    async def _deliver(self, batch: Sequence[KeptChange]) -> None:
        try:
            await self._sink.send(batch)
        except ChangeRefused:
            for change in batch:
                await self._deliver_one(change)
        except SinkError:
            raise
        except Exception:
            self._unforeseen += 1
            if self._unforeseen < MOST_UNFORESEEN:
                raise
            log.exception("%s: failed unexpectedly %d times; one by one now", self._sink.name, self._unforeseen)
            for change in batch:
                await self._deliver_one(change)

    async def _deliver_one(self, change: KeptChange) -> None:
        try:
            await self._sink.send((change,))
        except ChangeRefused as error:
            log.warning("%s refuses change %d for good: %s", self._sink.name, change.seq, error)
            await self._bury(change, str(error))
        except SinkError:
            raise
        except Exception as error:
            if self._unforeseen < MOST_UNFORESEEN:
                raise
            log.exception("%s: change %d is set aside", self._sink.name, change.seq)
            await self._bury(change, f"{type(error).__name__}: {error}")

    async def _bury(self, change: KeptChange, reason: str) -> None:
        await self._store.bury(DeadLetter(sink=self._sink.name, seq=change.seq, reason=reason, at=self._clock()))
