"""The time that the evaluation says it is: fixed, so that answers never change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

NOON: Final = datetime(2026, 3, 20, 12, tzinfo=UTC)
"""When the questions are asked: a Friday."""


class Clock:
    """Stands where it is put; the vendors, the poller, the store and the server all read it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time it was put to."""
        return self.now


def hours(number: float) -> timedelta:
    """A span, as schedules are written here."""
    return timedelta(hours=number)


def stamp(moment: datetime) -> str:
    """A time as the tools tell it and take it: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
