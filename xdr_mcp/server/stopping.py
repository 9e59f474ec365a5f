"""Being told to stop: SIGINT and SIGTERM, once to end in order, twice to end at once."""

from __future__ import annotations

import os
import signal
import sys
import threading

import anyio

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 10.0


async def stop_requested() -> None:
    """Return at the first signal. From then on a second one, or ten seconds, end the process where it stands.

    Never returns where signals cannot be received: outside the main thread, and on Windows (Ctrl-C is an exception there).
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(*_SIGNALS) as received:
        number = await anext(aiter(received))
    _end_at_once_when_asked_again(number)


def _end_at_once_when_asked_again(number: int) -> None:
    """Whatever hangs (a client that takes no more output, a disk that does not answer) cannot keep the process."""

    def leave(*_: object) -> None:
        os._exit(128 + number)

    for each in _SIGNALS:
        signal.signal(each, leave)
    patience = threading.Timer(_PATIENCE, leave)
    patience.daemon = True
    patience.start()
