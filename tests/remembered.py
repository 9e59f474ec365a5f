"""A source's memory for the length of a test, which tests can look into and fill."""

from __future__ import annotations

from collections.abc import Callable


class Remembered(dict[str, str]):
    """``interfaces.Memory`` in a dictionary."""

    async def recall(self, key: str) -> str | None:
        return self.get(key)

    async def remember(self, key: str, value: str) -> None:
        self[key] = value

    async def amend(self, key: str, change: Callable[[str | None], str]) -> str:
        self[key] = change(self.get(key))
        return self[key]
