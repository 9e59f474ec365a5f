"""The client itself: asks one host, reads what comes against a bound, and tells what went wrong as our own errors.

It reads the raw stream and inflates it here, against a bound: httpx would inflate a bomb of 3 MB to 6 GB before anyone could
say no. Every answer is bounded that way, those of a token endpoint included, because the client drives the auth flow itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx
import msgspec
import stamina
from msgspec import Struct

from xdr_mcp.errors import (
    AuthenticationError,
    BadResponse,
    NotFound,
    RequestRejected,
    SettingsError,
    TooLarge,
    Unavailable,
)
from xdr_mcp.http_client.addresses import checked_base, checked_headers, origin
from xdr_mcp.http_client.budget import DailyBudget, minute_limiter
from xdr_mcp.http_client.inflating import gunzip
from xdr_mcp.http_client.patience import (
    LONGEST_SLEEP,
    RETRIED_STATUSES,
    SERVER_ERROR,
    UNAUTHORIZED,
    CutShort,
    Unreadable,
    http_date,
    parse_retry_after,
    pause_before_retry,
)
from xdr_mcp.http_client.wording import printable, quoted, redirect_host, secrets_of, shown_parameters, where_of
from xdr_mcp.interfaces import Clock, Limits, Memory, utc_now

_logger = logging.getLogger("xdr_mcp.http")
_LONGEST_RETRYING = 300.0
"""No new attempt is begun this many seconds after the first."""
_TRANSPORT_LOGGERS = (
    "httpx",
    "hpack",
    "httpcore",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
)
"""They log whole URLs and headers (cookies, redirect targets), and hpack every header it packs: held at WARNING."""
_PLAUSIBLE_YEARS = range(2020, 2200)
"""A Date outside is of a clock that was never set."""
_FORBIDDEN, _NOT_FOUND = 403, 404
_READ_AT_ONCE = 256 * 1024
"""What asyncio takes from a socket at most. httpcore asks for a quarter, and the rest is copied and waited for four times over:
half of what it costs to read a page of 4 MB."""

T = TypeVar("T")


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
        max_body: int = 32 * 1024 * 1024,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare; no request is made and no connection opened.

        ``timeout`` bounds, in seconds, connecting and each single read; a whole exchange may take twice as long.
        ``retries`` are the attempts after the first. ``max_body`` is in bytes, inflated.

        Raises:
            SettingsError: the URL is no plain http(s) URL, or a header cannot be sent.
        """
        self._base = checked_base(base_url)
        self._auth = auth or httpx.Auth()
        self._headers = {"Accept": "application/json", **checked_headers(headers or {}), "Accept-Encoding": "gzip"}
        self._clock = clock
        self._timeout = timeout
        self._attempts = retries + 1
        self._max_body = max_body
        self._transport = transport
        self._limiter = minute_limiter(limits.per_minute)
        self._budget = DailyBudget(limits.per_day, memory, clock) if limits.per_day else None
        self._ahead = timedelta(0)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        import httpcore  # noqa: PLC0415 (as httpx does: a server is to start before it asks anybody)

        for name in _TRANSPORT_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = _READ_AT_ONCE
        self._client = httpx.AsyncClient(
            headers=self._headers, timeout=self._timeout, follow_redirects=False, transport=self._transport
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Send one request, patiently. ``url`` is a path under the base URL, or absolute on the same host.

        One that is not ``repeatable`` is not sent again when it fails: it may have been done all the same.

        Raises:
            AuthenticationError: 401, 403. NotFound: 404. RequestRejected: 400, 422, other 4xx.
            Unavailable: 429, 5xx, network, time-out, after the retries; the daily budget is used up.
            BadResponse: too large, cut short, a redirect, another host.
        """
        return await self.read(_whole, method, url, params=params, json=json, headers=headers, repeatable=repeatable)

    async def read(
        self,
        reader: Callable[[Answer], Awaitable[T]],
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> T:
        """As ``request``, but give what ``reader`` makes of the answer, and ask again where it raises BadResponse (but TooLarge).

        A proxy's log-in page or half a body inside a 200 passes as quickly as a 503 does, and a long walk through pages must
        not begin anew for it.
        """
        if self._client is None:
            raise RuntimeError("HttpClient is used inside `async with`")
        target = self._resolve(url)
        if params:
            target = target.copy_merge_params(dict(params))
        content, extra = None, dict(headers or {})
        if json is not None:
            content, extra["Content-Type"] = msgspec.json.encode(json), extra.get("Content-Type", "application/json")
        async for attempt in stamina.retry_context(
            on=pause_before_retry,
            attempts=self._attempts if repeatable else 1,
            timeout=_LONGEST_RETRYING,
            wait_initial=0.5,
            wait_max=LONGEST_SLEEP,
        ):
            with attempt:
                request = self._client.build_request(
                    method, target, content=content, headers=extra, extensions={"trace": _tell_connection}
                )
                answer = self._judge(await self._authorised(request))
                try:
                    return await reader(answer)
                except TooLarge:
                    raise
                except BadResponse as error:
                    raise Unreadable(str(error), status=answer.status) from error
        raise AssertionError("stamina returns or raises")  # pragma: no cover

    def vendor_now(self) -> datetime:
        """The server's clock as its last answer's ``Date`` told it, carried forward; ours when it never did."""
        return self._clock() + self._ahead

    def _resolve(self, url: str) -> httpx.URL:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL:
            raise BadResponse(f"{self._base.host} led to an address that is no URL; its paging is broken") from None
        if not target.host and not target.scheme:
            raw_path = self._base.raw_path.rstrip(b"/") + b"/" + target.raw_path.lstrip(b"/")
            return self._base.copy_with(raw_path=raw_path)
        if origin(target) != origin(self._base) or target.userinfo:
            raise BadResponse(
                f"{self._base.host} led to another address, {printable(target.scheme)}://{printable(target.host)}, "
                "which was not asked: the credential is for the configured base URL only"
            )
        return target

    async def _authorised(self, request: httpx.Request) -> httpx.Response:
        flow = self._auth.async_auth_flow(request)
        try:
            request = await anext(flow)
            while True:
                response = await self._exchange(request)
                try:
                    request = await flow.asend(response)
                except StopAsyncIteration:
                    return response
        finally:
            await flow.aclose()

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its answer whole, within the bounds of size and time."""
        if origin(request.url) == origin(self._base):
            if self._budget:
                await self._budget.spend()
            await self._limiter.acquire()
        where = where_of(request)
        _logger.debug("%s %s", where, shown_parameters(request.url))
        started = time.perf_counter()
        try:
            with anyio.fail_after(2 * self._timeout):
                response = await self._read(request)
        except (httpx.TimeoutException, TimeoutError):
            _logger.debug("%s no answer after %.0f ms", where, 1000 * (time.perf_counter() - started))
            raise Unavailable(
                f"{where}: no whole answer within the time-out; check the network, or raise the timeout setting"
            ) from None
        except httpx.LocalProtocolError:
            # Its text quotes the header at fault, which may be the credential.
            raise SettingsError(
                f"{where}: a header cannot be sent; was the credential pasted with a line break?"
            ) from None
        except httpx.RemoteProtocolError as error:
            raise CutShort(f"{where}: the answer was cut short or is not HTTP ({printable(str(error))})") from error
        except httpx.TransportError as error:
            raise Unavailable(
                f"{where}: no connection to {request.url.host} ({printable(str(error)) or type(error).__name__}); "
                "check the base URL, the network, DNS, proxy and certificates"
            ) from error
        milliseconds = 1000 * (time.perf_counter() - started)
        _logger.debug("%s → %d, %d bytes, %.0f ms", where, response.status_code, len(response.content), milliseconds)
        return response

    async def _read(self, request: httpx.Request) -> httpx.Response:
        client = self._client
        if client is None:
            raise RuntimeError("HttpClient was closed while a request was under way")
        response = await client.send(request, stream=True)
        try:
            if origin(request.url) == origin(self._base):
                self._note_date(response.headers)
            # A transport in memory hands over an answer that is whole already.
            body = response.content if response.is_stream_consumed else await self._inflated(request, response)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)

    async def _inflated(self, request: httpx.Request, response: httpx.Response) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding in {"gzip", "x-gzip"}:
            chunks = gunzip(response.aiter_raw(), where_of(request))
        elif encoding in {"identity", ""}:
            chunks = response.aiter_raw()
        else:
            raise BadResponse(f"{where_of(request)}: encoded as {printable(encoding)}, though only gzip was asked for")
        parts, size = [], 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._max_body:
                raise TooLarge(
                    f"{where_of(request)}: the answer is larger than the bound of {self._max_body:,} bytes; "
                    "ask for fewer records at once"
                )
            parts.append(chunk)
        return b"".join(parts)

    def _note_date(self, headers: httpx.Headers) -> None:
        told = http_date(headers.get("date", ""))
        if told is not None and told.year in _PLAUSIBLE_YEARS:
            self._ahead = told - self._clock()

    def _judge(self, response: httpx.Response) -> Answer:
        """The answer when it is a 2xx, otherwise the error that says what to do."""
        if response.is_success:
            return Answer(response.status_code, response.headers, response.content)
        status, where = response.status_code, where_of(response.request)
        if response.has_redirect_location:
            raise BadResponse(
                f"{where}: redirects to {redirect_host(response)} ({status}), which was not followed so that no "
                "credential leaves the configured host; set the base URL to where the API is",
                status=status,
            )
        told = f"{where}: {status} {quoted(response, secrets_of(response.request))}".rstrip()
        if status in {UNAUTHORIZED, _FORBIDDEN}:
            remedy = "check the credential" if status == UNAUTHORIZED else "check the credential's permissions"
            raise AuthenticationError(f"{told}; {remedy}, and the header and scheme it is sent with", status=status)
        if status == _NOT_FOUND:
            raise NotFound(f"{told}; no such object, or the base URL lacks a part of its path", status=status)
        if status in RETRIED_STATUSES or status >= SERVER_ERROR:
            wish = parse_retry_after(response.headers, self.vendor_now())
            wait = f"asks to wait {wish:.0f} s" if wish else "try again later"
            raise Unavailable(f"{told}; {wait}", status=status, retry_after=wish)
        raise RequestRejected(f"{told}; the vendor does not take this request as it is", status=status)


async def _tell_connection(event: str, _: Mapping[str, Any]) -> None:
    """Serves httpcore's trace hook. Only the names of events are told: what goes with them may hold the credential."""
    if event.startswith("connection.") and not event.endswith(".started"):
        _logger.debug("%s", event.replace("_", " ").replace(".", " "))


async def _whole(answer: Answer) -> Answer:
    return answer
