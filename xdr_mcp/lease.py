"""Doing something only while a lease is held: renewed in the background, stopped at once when it is lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import anyio

from xdr_mcp.errors import LeaseLost, StoreError
from xdr_mcp.interfaces import Lease, Store

log = logging.getLogger(__name__)

TTL = timedelta(seconds=9)
"""How long a lease outlives its last renewal; a dead holder is replaced after at most this."""

_T = TypeVar("_T")


async def run_while_held(store: Store, lease: Lease, work: Callable[[], Awaitable[_T]]) -> _T:
    """Run ``work`` and renew ``lease`` until it ends; then give the lease up, however ``work`` ended.

    Raises:
        LeaseLost: somebody else holds it now; ``work`` was cancelled.
        Exception: whatever ``work`` raised.
    """
    lost: LeaseLost | None = None
    failure: Exception | None = None
    result: list[_T] = []

    async def renew() -> None:
        nonlocal lost
        while True:
            await anyio.sleep(TTL.total_seconds() / 3)
            try:
                renewed = await store.acquire(lease.name, lease.holder, TTL)
            except StoreError as error:  # the fencing token guards the data meanwhile; the next renewal may succeed
                log.warning("could not renew the lease %s: %s", lease.name, error)
                continue
            if renewed is None or renewed.token != lease.token:
                lost = LeaseLost(f"another process took over the lease {lease.name}")
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(renew)
        try:
            result.append(await work())
        except Exception as error:  # noqa: BLE001 (raised below: inside the group it would come out as an ExceptionGroup)
            failure = error
        finally:
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await _release(store, lease)
    if failure is not None:
        raise failure
    if lost is not None:
        raise lost
    return result[0]


async def _release(store: Store, lease: Lease) -> None:
    try:
        await store.release(lease)
    except StoreError as error:  # it runs out by itself
        log.warning("could not give up the lease %s: %s", lease.name, error)
