"""Upkeep: what is done beside all else, every so often, for as long as the program runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio

from xdr_mcp.errors import StoreError


async def keep_doing(name: str, work: Callable[[], Awaitable[object]], every: timedelta, log: logging.Logger) -> None:
    """Do ``work`` now and again after each pause, for ever; a failure is logged by its name. Nothing but cancellation ends it."""
    while True:
        try:
            await work()
        except StoreError as error:
            log.error("%s: %s (it is tried again)", name, error)  # noqa: TRY400 (the message says all; no traceback)
        except Exception:  # the outermost loop of a task: told, and tried again
            log.exception("%s failed unexpectedly; it is tried again", name)
        await anyio.sleep(every.total_seconds())
