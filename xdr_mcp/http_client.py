"""One patient HTTP client for sources and sinks: retries, Retry-After, rate and daily budgets, size bounds, host pinning."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx
from msgspec import Struct

from xdr_mcp.interfaces import Clock, Limits, Memory, utc_now


class Answer(Struct, frozen=True):
    """A 2xx answer, read whole within the size bound and already inflated."""

    status: int
    headers: httpx.Headers
    body: bytes


class HttpClient:
    """Talks to one host, and to no other: a redirect is not followed, an absolute URL elsewhere is refused."""

    def __init__(
        self,
        base_url: str,
        *,
        limits: Limits,
        auth: httpx.Auth | None = None,
        headers: Mapping[str, str] | None = None,
        memory: Memory | None = None,
        clock: Clock = utc_now,
        timeout: float = 30.0,
        retries: int = 3,
        max_body: int = 64 * 1024 * 1024,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, patiently. ``url`` is a path under the base URL, or absolute on the same host.

        Raises:
            AuthenticationError: 401, 403. NotFound: 404. RequestRejected: 400, 422, other 4xx.
            Unavailable: 429, 5xx, network, time-out, after the retries; the daily budget is used up.
            BadResponse: too large, cut short, a redirect, another host.
        """
        raise NotImplementedError

    def vendor_now(self) -> datetime:
        """The server's clock as its last answer's ``Date`` told it, carried forward; ours when it never did."""
        raise NotImplementedError


class OAuth2ClientCredentials(httpx.Auth):
    """Fetches a bearer token with client credentials, renews it before it ends and once after a 401."""

    def __init__(  # noqa: PLR0913
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str = "",
        header: str = "Authorization",
        scheme: str = "Bearer",
        basic: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        """``basic`` sends the client's id and secret as HTTP Basic; otherwise they go in the form."""
        raise NotImplementedError
