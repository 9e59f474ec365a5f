"""Being told to stop: SIGINT and SIGTERM, once to end in order, twice to end at once."""

from __future__ import annotations

import os
import signal
import sys
import threading

import anyio
from anyio.abc import TaskStatus

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 5.0


async def stop_requested(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Return at the first signal. From then on, a second one, or five seconds, end the process where it stands.

    Never returns where signals cannot be received: outside the main thread, and on Windows (Ctrl-C is an exception there).
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        task_status.started()
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(*_SIGNALS) as received:
        task_status.started()
        async for number in received:
            end_at_once_if_asked_again(number)
            return


def end_at_once_if_asked_again(number: int) -> None:
    """Whatever hangs (a client that takes no more output, a disk that does not answer) cannot keep the process."""

    def leave() -> None:
        os._exit(128 + number)

    patience = threading.Timer(_PATIENCE, leave)
    patience.daemon = True
    patience.start()
