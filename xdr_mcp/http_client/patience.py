"""What is worth another attempt, and after how long: a vendor's wish in all its spellings, or our own back-off."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from xdr_mcp.errors import BadResponse, Unavailable

LONGEST_SLEEP = 20.0
"""Seconds that a request sleeps on a vendor's wish; a longer wish is the poller's to keep (``Unavailable.retry_after``)."""
_LONGEST_WISH = 3600.0
"""A vendor that asks for more than an hour is asked again after an hour."""
UNAUTHORIZED, SERVER_ERROR = 401, 500
RETRIED_STATUSES = frozenset({408, 425, 429})


class Unreadable(BadResponse):
    """An answer that came whole and says nothing."""


class CutShort(BadResponse):
    """The answer ended before it was whole. Worth another attempt, unlike other bad answers."""


def pause_before_retry(error: Exception) -> bool | float:
    """Stamina's hook: False gives up, True backs off as usual, a number is the vendor's wish in seconds (with jitter)."""
    if isinstance(error, (CutShort, Unreadable)):
        return True
    if not isinstance(error, Unavailable):
        return False
    if not error.retry_after:
        return True
    return error.retry_after <= LONGEST_SLEEP and error.retry_after * random.uniform(1.0, 1.1)  # noqa: S311 (jitter)


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the vendor asks to wait, 0 to 3,600; None when it does not say, or says it in no known way.

    Takes seconds, an HTTP date, epoch seconds or milliseconds, in ``Retry-After`` or ``X-RateLimit-RetryAfter``.
    ``now`` is the vendor's clock, since a date is by that clock.
    """
    told = (headers.get("retry-after") or headers.get("x-ratelimit-retryafter") or "").strip()
    try:
        seconds = float(told)
    except ValueError:
        moment = http_date(told)
        if moment is None:
            return None
        seconds = (moment - now).total_seconds()
    else:
        if math.isnan(seconds):
            return None
        if seconds >= 1e11:  # noqa: PLR2004 (epoch milliseconds, since 1973)
            seconds /= 1000
        if seconds >= 1e9:  # noqa: PLR2004 (epoch seconds, since 2001)
            seconds -= now.timestamp()
    return min(max(seconds, 0.0), _LONGEST_WISH)


def http_date(text: str) -> datetime | None:
    """The time that a header tells, UTC; None when it tells none."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
