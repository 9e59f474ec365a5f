"""Doing something only while a lease is held: renewed in the background, stopped at once when it is lost.

Who holds a lease is told by a name that says which process it is, so that on the same machine a dead one is replaced at once
and not only when its lease has run out.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import anyio

from xdr_mcp.errors import LeaseLost, StoreError
from xdr_mcp.interfaces import Lease, Store

log = logging.getLogger(__name__)

TTL = timedelta(seconds=9)
"""How long a lease outlives its last renewal; a dead holder is replaced after at most this."""

_T = TypeVar("_T")


def holder_name() -> str:
    """What this process is called where it holds a lease: host, process, and something that no restart repeats."""
    return f"{socket.gethostname()}:{os.getpid()}:{_namespace()}{secrets.token_hex(3)}"


def holder_died(holder: str) -> bool:
    """Whether that is certain: it ran on this machine, and its process is gone. Any doubt counts as alive."""
    host, process, rest = ("", "", *holder.split(":"))[-3:]
    if host != socket.gethostname() or not rest.startswith(_namespace()) or not process.isdecimal():
        return False
    if sys.platform == "win32":  # there, asking whether a process lives would end it
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _namespace() -> str:
    """Process numbers mean something within one namespace only: two containers may share a host name and a file."""
    with suppress(OSError):
        return f"{Path('/proc/self/ns/pid').stat().st_ino:x}-"
    return ""


async def run_while_held(store: Store, lease: Lease, work: Callable[[], Awaitable[_T]], *, ttl: timedelta = TTL) -> _T:
    """Run ``work`` and renew ``lease``, three times in ``ttl``, until it ends; then give it up, however ``work`` ended.

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
            await anyio.sleep(ttl.total_seconds() / 3)
            try:
                renewed = await store.acquire(lease.name, lease.holder, ttl)
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
