"""Puts the store in order between polls: what was saved bit by bit is kept in few pieces, and questions are answered faster.

It needs no lease: it changes nothing that is asked for, and two that do it share the work.
"""

from __future__ import annotations

import logging
from datetime import timedelta

import anyio

from xdr_mcp.interfaces import Store
from xdr_mcp.recurring import keep_doing

log = logging.getLogger(__name__)

EVERY = timedelta(minutes=1)
FEW = 1_000
"""When more changes than this were saved since the last look, saving has precedence."""
MOST = 500
"""Steps between two looks."""
PAUSE = timedelta(milliseconds=50)
"""Between two steps, for others to save."""


class Tidying:
    """Tidies one store while little is saved into it."""

    def __init__(self, store: Store, *, few: int = FEW) -> None:
        self._store = store
        self._few = few
        self._seen: int | None = None

    async def run(self) -> None:
        """Tidy for ever. Nothing but cancellation ends it."""
        await keep_doing("tidying the store", self.once, EVERY, log)

    async def once(self) -> None:
        """Tidy, unless much was saved since the last look, or this is the first.

        Raises:
            StoreError: the store failed.
        """
        before, self._seen = self._seen, await self._store.last_seq()
        if before is None or self._seen - before > self._few:
            return
        for _ in range(MOST):
            if not await self._store.tidy():
                return
            await anyio.sleep(PAUSE.total_seconds())
