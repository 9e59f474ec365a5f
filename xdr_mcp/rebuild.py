"""Archive → store: what the files tell is put back as it was, in the order it was saved.

What an archive does not tell is not made up: how far each source was read. The next poll reads back its initial look-back,
and recognises what is here already. (Store → archive is ``Delivery.redeliver``.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from anyio import to_thread
from msgspec import Struct, structs

from xdr_mcp.alert import Change
from xdr_mcp.errors import SettingsError, StoreError
from xdr_mcp.interfaces import Store

Progress = Callable[[str], None]

_T = TypeVar("_T")


class Archived(Protocol):
    """The changes that an archive tells. What it left out it told while it was scanned or read."""

    @property
    def count(self) -> int:
        """How many changes there are; known after ``scan``."""
        ...

    def scan(self) -> Iterator[int]:
        """Look at every file; how many so far, every so often."""
        ...

    def at(self, seq: int) -> Change | None:
        """The change of this seq."""
        ...

    def batches(self) -> Iterator[Sequence[Change]]:
        """All of them, in order."""
        ...


class Rebuilt(Struct, frozen=True):
    """What a rebuilding did."""

    changes: int
    """That the archive tells."""
    restored: int
    """Of these, what the store did not hold already."""
    last_seq: int


async def rebuild_store(archived: Archived, store: Store, progress: Progress) -> Rebuilt:
    """Restore every change into a store that is empty, or that holds the beginning of the same.

    Safe to be killed at any instant, and to be run again.

    Raises:
        SettingsError: the store holds other alerts.
        StoreError: somebody polls into the store; or it cannot be used.
    """
    if polled := [state.source for state in await store.states() if state.lease is not None]:
        raise StoreError(f"a running xdr-mcp polls {', '.join(polled)} into this store; end it first")
    await scan(archived, progress)
    await _refuse_others(archived, store)
    restored = read = 0
    batches = archived.batches()
    while (batch := await _next(batches)) is not None:
        restored += await store.restore(batch)
        read += len(batch)
        progress(f"{read:,} of {archived.count:,} changes restored")
    return Rebuilt(read, restored, await store.last_seq())


async def scan(archived: Archived, progress: Progress) -> None:
    """Have every file looked at."""
    scanning = archived.scan()
    while (looked_at := await _next(scanning)) is not None:
        progress(f"{looked_at:,} files looked at")


async def _refuse_others(archived: Archived, store: Store) -> None:
    """The newest change in the store must be one of the archive's, the very same."""
    last = await store.last_seq()
    held = await store.changes(last - 1, 1) if last else ()
    told = archived.at(last) if held else None
    if held and (told is None or _content(told) != _content(held[0])):
        raise SettingsError(
            "the store holds alerts that this archive does not; rebuild into an empty folder (--data-dir), or move the store away"
        )


def _content(change: Change) -> Change:
    return structs.replace(change, before=None, revision=1)


async def _next(iterator: Iterator[_T]) -> _T | None:
    """The next one, read beside the event loop; None after the last."""
    return await to_thread.run_sync(next, iterator, None)
