"""Running a command until it is done or told to stop, and stopping within two seconds whatever it is at.

The one place that listens for signals: asyncio keeps a single handler for each, so a second listener would silence the
first. Everything kept is safe at any instant, so stopping is cancelling; whatever does not notice (a thread that reads
stdin, a disk that does not answer) is left behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
from anyio.abc import TaskStatus

PATIENCE: Final = 1.7
"""Seconds that a clean stop may take; after them, or at a second signal, the process ends as it is."""

Result = TypeVar("Result")


def run_service(work: Callable[[], Awaitable[None]]) -> None:
    """Run what has no end of its own; SIGINT and SIGTERM end it, and that is a success."""
    anyio.run(_until_stopped, work, 0)


def run_task(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run what has an end. A signal ends the process with 128 and its number: the work was not done.

    Raises:
        SystemExit: a signal came.
    """
    results: list[Result] = []

    async def keep_result() -> None:
        results.append(await work())

    stopped_by = anyio.run(_until_stopped, keep_result, 128)
    if not results and stopped_by is not None:
        raise SystemExit(128 + stopped_by)
    return results[0]


async def _until_stopped(work: Callable[[], Awaitable[None]], base: int) -> int | None:
    """Run ``work``; the signal that ended it, if one did. What it raises comes out as it is, not in a group."""
    stopped_by: int | None = None
    failure: Exception | None = None

    async def listen(*, task_status: TaskStatus[None]) -> None:
        nonlocal stopped_by
        if sys.platform == "win32":  # no signals in the event loop there: Ctrl-C is an exception
            task_status.started()
            return
        with anyio.open_signal_receiver(*_signals()) as received:
            task_status.started()
            stopped_by = await anext(aiter(received))
        _end_soon(base + stopped_by if base else 0, 128 + stopped_by)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        await group.start(listen)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 (raised below: inside the group it would come out as an ExceptionGroup)
            failure = _alone(error)
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return stopped_by


def _alone(error: Exception) -> Exception:
    """The one error in a group of one, however deep."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _signals() -> list[signal.Signals]:
    """What asks to stop: a terminal that is closed, too, unless ``nohup`` said to outlive it."""
    asked = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asked.append(signal.SIGHUP)
    return asked


def _end_soon(code: int, code_when_asked_again: int) -> None:
    def leave(*_: object) -> None:
        os._exit(code_when_asked_again)

    for each in _signals():
        signal.signal(each, leave)
    timer = threading.Timer(PATIENCE, os._exit, (code,))
    timer.daemon = True
    timer.start()
