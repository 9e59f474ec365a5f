"""What is called on the event loop: counted, not timed, so that a regression fails without a clock."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any


async def called(work: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """How often each function is called on the event loop while ``work`` is awaited: a coroutine once, however often resumed."""
    frames: dict[int, FrameType] = {}  # while they are kept, no two have the same id

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            frames[id(frame)] = frame

    sys.setprofile(note)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return Counter(f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}" for frame in frames.values())
