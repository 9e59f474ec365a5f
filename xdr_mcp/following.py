"""Changes as they are saved, for who looks on: the demo, and ``alerts --follow``. Nothing is kept of how far they came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xdr_mcp.alert import Change
from xdr_mcp.interfaces import Store
from xdr_mcp.query import Query, matches

AT_ONCE: Final = 500
QUIET: Final = 30.0
"""Seconds to wait for a change before looking again anyway: a missed wake-up costs this, never data."""


async def follow(store: Store, query: Query, after: int, tell: Callable[[Change], None]) -> None:
    """Tell, for ever, of each change with a seq above ``after`` whose alert matches; whatever process saves it."""
    while True:
        for change in await store.changes(after, AT_ONCE):
            after = change.seq
            if matches(query, change.alert):
                tell(change)
        await store.wait(after, QUIET)
