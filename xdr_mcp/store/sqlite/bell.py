"""Wakes those who wait for a change, saved here or in another process.

A ring is a hint: who is woken looks for itself. One of those who wait looks out for other processes' changes on behalf of all;
while nobody waits, nobody looks. The look is one indexed read of a few microseconds, cheaper on the event loop than the
way to a thread and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_EVERY = 0.25
"""Seconds between looks at what other processes saved."""


class Bell:
    """Rung by whoever saves in this process, and by the lookout."""

    def __init__(self, newest: Callable[[], int]) -> None:
        self._newest = newest
        self._seen = 0
        self._waiting: list[anyio.Event] = []
        self._looking_out = False

    def ring(self) -> None:
        """Have everybody look."""
        for event in self._waiting:
            event.set()

    async def wait(self, after: int, timeout: float) -> bool:  # noqa: ASYNC109 (a time-out is an answer here)
        """Sleep until the newest seq exceeds ``after``; False when ``timeout`` seconds went by."""
        with anyio.move_on_after(timeout):
            while self._newest() <= after:
                await self._listen()
            return True
        return False

    async def _listen(self) -> None:
        event = anyio.Event()
        self._waiting.append(event)
        try:
            if self._looking_out:
                await event.wait()
            else:
                await self._look_out(event)
        finally:
            self._waiting.remove(event)

    async def _look_out(self, event: anyio.Event) -> None:
        self._looking_out = True
        try:
            while not event.is_set():
                with anyio.move_on_after(LOOK_EVERY):
                    await event.wait()
                newest = self._newest()
                if newest != self._seen:
                    self._seen = newest
                    self.ring()
        finally:
            self._looking_out = False
            if successor := next((other for other in self._waiting if other is not event), None):
                successor.set()
