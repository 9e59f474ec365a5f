"""What is remembered of a source from poll to poll: where its history begins, and when it was last read again.

It lies in the source's own memory in the store, so that whoever polls next goes on from there.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from xdr_mcp.interfaces import Memory, SourceState, Store, Window
from xdr_mcp.planning import Pace, needed

_ORIGIN: Final = "origin"
_RESCANNED: Final = "rescanned"


class History:
    """One source's, as far as it was read or is to be read."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def origin(self, now: datetime, initial_lookback: timedelta) -> datetime:
        """Where it begins for this store: fixed by the first poll, unless its clock ran ahead."""
        remembered = await self._recall(_ORIGIN)
        if remembered is not None and remembered < now:
            return remembered
        origin = now - initial_lookback
        await self._remember(_ORIGIN, origin)
        return origin

    async def reach_back(self, since: datetime) -> None:
        """Have it begin at ``since`` at the latest: what lies between it and what is covered is due from now on.

        Kept in the store, so that it is read by whoever polls, and read on after an interruption.
        """
        origin = await self._recall(_ORIGIN)
        if origin is None or since < origin:
            await self._remember(_ORIGIN, since)

    async def rescanned(self, now: datetime) -> datetime:
        """When the last rescan that was finished began."""
        last = await self._recall(_RESCANNED)
        if last is None:  # the first poll reads back far enough by itself
            await self.note_rescan(now)
            return now
        return last

    async def note_rescan(self, began: datetime) -> None:
        """A rescan that began then is finished."""
        await self._remember(_RESCANNED, began)

    async def needed(self, state: SourceState, pace: Pace, now: datetime) -> tuple[Window, ...]:
        """What polling may yet read or read again: an alert in there that is forgotten would be told as new."""
        return needed(state.coverage, await self._recall(_ORIGIN), await self._recall(_RESCANNED), now, pace)

    async def _recall(self, key: str) -> datetime | None:
        remembered = await self._memory.recall(key)
        return datetime.fromisoformat(remembered) if remembered else None

    async def _remember(self, key: str, moment: datetime) -> None:
        await self._memory.remember(key, moment.isoformat())


async def read_again(store: Store, pace: Pace, now: datetime) -> dict[str, tuple[Window, ...]]:
    """By source, what is needed of its history."""
    states = await store.states()
    return {state.source: await History(store.memory(state.source)).needed(state, pace, now) for state in states}
