"""How many requests a vendor allows: in any minute, and in a day, across restarts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from aiolimiter import AsyncLimiter

from xdr_mcp.errors import Unavailable
from xdr_mcp.interfaces import Clock, Memory


class DailyBudget:
    """Counts requests per UTC day: across restarts, and across processes that ask the same vendor, where there is a memory."""

    _KEY = "http.daily_budget"

    def __init__(self, per_day: int, memory: Memory | None, clock: Clock) -> None:
        self._per_day, self._memory, self._clock = per_day, memory, clock
        self._counted = ""

    async def spend(self) -> None:
        """Take one request out of today's budget. Raises Unavailable until midnight UTC when it is used up."""
        now = self._clock().astimezone(UTC)
        if self._memory is None:
            self._counted = self._one_more(self._counted, now)
        else:  # each time: a server that asks for an alert's context spends from it, too
            await self._memory.amend(self._KEY, lambda counted: self._one_more(counted, now))

    def _one_more(self, counted: str | None, now: datetime) -> str:
        today = now.date().isoformat()
        day, spent = _parse_budget(counted)
        spent = spent if day == today else 0
        if spent >= self._per_day:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            raise Unavailable(
                f"today's budget of {self._per_day:,} requests is used up; polling goes on at 00:00 UTC. "
                "Poll less often, or raise the daily budget if your licence allows more",
                retry_after=(midnight - now).total_seconds(),
            )
        return f"{today} {spent + 1}"


def _parse_budget(counted: str | None) -> tuple[str, int]:
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d) (\d{1,9})", counted or "")
    return (match[1], int(match[2])) if match else ("", 0)


def minute_limiter(per_minute: int) -> AsyncLimiter:
    """A bucket that never lets more than ``per_minute`` requests through in any sixty seconds.

    A full bucket's burst comes on top of what leaks meanwhile, so the two share the minute between them.
    """
    burst = max(1, per_minute // 6)
    steady = max(1, per_minute - burst)
    return AsyncLimiter(burst, 60.0 * burst / steady)
