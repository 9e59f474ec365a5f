"""Pages are read while those before them are being saved: the vendor's time, ours and the disk's overlap."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import anyio

SAVES = 2
"""Saves under way at most: one on the disk, one that is made ready for it. With the page that is read meanwhile, three are held."""

_T = TypeVar("_T")


async def read_and_save(pages: AsyncGenerator[_T, None], save: Callable[[_T], Awaitable[None]]) -> None:
    """Save every page, in order of their being read; ``save`` is begun for one before it has ended for the one before.

    Raises:
        Exception: what ``save`` raised, and then nothing more is read; or what ``pages`` raised, when all that was read
            before is saved.
    """
    failures: list[Exception] = []
    free = anyio.Semaphore(SAVES)

    async def save_one(page: _T) -> None:
        try:
            await save(page)
        except Exception as error:  # noqa: BLE001 (raised below: out of the group it would come as an ExceptionGroup)
            failures.insert(0, error)
            group.cancel_scope.cancel()
        finally:
            free.release()

    async with anyio.create_task_group() as group:
        try:
            async with aclosing(pages):
                async for page in pages:
                    await free.acquire()
                    group.start_soon(save_one, page)
                    del page
        except Exception as error:  # noqa: BLE001 (as above)
            failures.append(error)
    if failures:
        raise failures[0]


async def side_by_side(*works: Callable[[], Awaitable[None]]) -> None:
    """Do all at once, each to its end. Raises what the first that failed has raised."""
    failures: list[Exception] = []

    async def do(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 (raised below: out of the group it would come as an ExceptionGroup)
            failures.append(error)

    async with anyio.create_task_group() as group:
        for work in works:
            group.start_soon(do, work)
    if failures:
        raise failures[0]
