"""One patient HTTP client for sources and sinks: retries, Retry-After, rate and daily budgets, size bounds, host pinning.

It reads the raw stream and inflates it here, against a bound: httpx would inflate a bomb of 3 MB to 6 GB before anyone could
say no. Every answer is bounded that way, those of a token endpoint included, because the client drives the auth flow itself.
"""

from __future__ import annotations

import logging
import math
import random
import re
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import anyio
import httpx
import msgspec
import stamina
from aiolimiter import AsyncLimiter
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
from xdr_mcp.interfaces import Clock, Limits, Memory, utc_now

__all__ = ["Answer", "HttpClient", "OAuth2ClientCredentials", "TooLarge", "parse_retry_after"]

_logger = logging.getLogger("xdr_mcp.http")

_LONGEST_SLEEP = 20.0
"""Seconds that a request sleeps on a vendor's wish; a longer wish is the poller's to keep (``Unavailable.retry_after``)."""
_LONGEST_WISH = 3600.0
"""A vendor that asks for more than an hour is asked again after an hour."""
_LONGEST_RETRYING = 300.0
"""No new attempt is begun this many seconds after the first."""
_LONGEST_QUOTE = 200
"""Characters of the vendor's own words in an error message."""
_TRANSPORT_LOGGERS = (
    "httpx",
    "hpack",
    "httpcore",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
)
"""They log whole URLs and headers (cookies, redirect targets), and hpack every header it packs: held at WARNING."""
_PLAIN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "if-match",
        "prefer",
        "user-agent",
    }
)
_SECRET_PARAMETER = re.compile(r"token|secret|passw|key|signature|credential|code", re.IGNORECASE)
_PLAUSIBLE_YEARS = range(2020, 2200)
"""A Date outside is of a clock that was never set."""
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _SERVER_ERROR = 401, 403, 404, 500
_RETRIED_STATUSES = frozenset({408, 425, 429})


T = TypeVar("T")


class Answer(Struct, frozen=True):
    """A 2xx answer, read whole within the size bound and already inflated."""

    status: int
    headers: httpx.Headers
    body: bytes


class _Unreadable(BadResponse):
    """An answer that came whole and says nothing."""


class _CutShort(BadResponse):
    """The answer ended before it was whole. Worth another attempt, unlike other bad answers."""


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
        self._base = _checked_base(base_url)
        self._auth = auth or httpx.Auth()
        self._headers = {"Accept": "application/json", **_checked_headers(headers or {}), "Accept-Encoding": "gzip"}
        self._clock = clock
        self._timeout = timeout
        self._attempts = retries + 1
        self._max_body = max_body
        self._transport = transport
        self._limiter = _limiter(limits.per_minute)
        self._budget = _DailyBudget(limits.per_day, memory, clock) if limits.per_day else None
        self._ahead = timedelta(0)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        for name in _TRANSPORT_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
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
    ) -> Answer:
        """Send one request, patiently. ``url`` is a path under the base URL, or absolute on the same host.

        Raises:
            AuthenticationError: 401, 403. NotFound: 404. RequestRejected: 400, 422, other 4xx.
            Unavailable: 429, 5xx, network, time-out, after the retries; the daily budget is used up.
            BadResponse: too large, cut short, a redirect, another host.
        """
        return await self.read(_whole, method, url, params=params, json=json, headers=headers)

    async def read(
        self,
        reader: Callable[[Answer], Awaitable[T]],
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
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
            on=_pause_before_retry,
            attempts=self._attempts,
            timeout=_LONGEST_RETRYING,
            wait_initial=0.5,
            wait_max=_LONGEST_SLEEP,
        ):
            with attempt:
                request = self._client.build_request(method, target, content=content, headers=extra)
                answer = self._judge(await self._authorised(request))
                try:
                    return await reader(answer)
                except TooLarge:
                    raise
                except BadResponse as error:
                    raise _Unreadable(str(error), status=answer.status) from error
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
        if _origin(target) != _origin(self._base) or target.userinfo:
            raise BadResponse(
                f"{self._base.host} led to another address, {_printable(target.scheme)}://{_printable(target.host)}, "
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
        if _origin(request.url) == _origin(self._base):
            if self._budget:
                await self._budget.spend()
            await self._limiter.acquire()
        where = _where(request)
        _logger.debug("%s %s", where, _shown_parameters(request.url))
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
            raise _CutShort(f"{where}: the answer was cut short or is not HTTP ({_printable(str(error))})") from error
        except httpx.TransportError as error:
            raise Unavailable(
                f"{where}: no connection to {request.url.host} ({_printable(str(error)) or type(error).__name__}); "
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
            if _origin(request.url) == _origin(self._base):
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
            chunks = _gunzip(response.aiter_raw(), _where(request))
        elif encoding in {"identity", ""}:
            chunks = response.aiter_raw()
        else:
            raise BadResponse(f"{_where(request)}: encoded as {_printable(encoding)}, though only gzip was asked for")
        parts, size = [], 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._max_body:
                raise TooLarge(
                    f"{_where(request)}: the answer is larger than the bound of {self._max_body:,} bytes; "
                    "ask for fewer records at once"
                )
            parts.append(chunk)
        return b"".join(parts)

    def _note_date(self, headers: httpx.Headers) -> None:
        told = _http_date(headers.get("date", ""))
        if told is not None and told.year in _PLAUSIBLE_YEARS:
            self._ahead = told - self._clock()

    def _judge(self, response: httpx.Response) -> Answer:
        """The answer when it is a 2xx, otherwise the error that says what to do."""
        if response.is_success:
            return Answer(response.status_code, response.headers, response.content)
        status, where = response.status_code, _where(response.request)
        if response.has_redirect_location:
            raise BadResponse(
                f"{where}: redirects to {_redirect_host(response)} ({status}), which was not followed so that no "
                "credential leaves the configured host; set the base URL to where the API is",
                status=status,
            )
        told = f"{where}: {status} {_quoted(response, _secrets(response.request))}".rstrip()
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            remedy = "check the credential" if status == _UNAUTHORIZED else "check the credential's permissions"
            raise AuthenticationError(f"{told}; {remedy}, and the header and scheme it is sent with", status=status)
        if status == _NOT_FOUND:
            raise NotFound(f"{told}; no such object, or the base URL lacks a part of its path", status=status)
        if status in _RETRIED_STATUSES or status >= _SERVER_ERROR:
            wish = parse_retry_after(response.headers, self.vendor_now())
            wait = f"asks to wait {wish:.0f} s" if wish else "try again later"
            raise Unavailable(f"{told}; {wait}", status=status, retry_after=wish)
        raise RequestRejected(f"{told}; the vendor does not take this request as it is", status=status)


class OAuth2ClientCredentials(httpx.Auth):
    """Fetches a bearer token with client credentials, renews it before it ends and once after a 401."""

    def __init__(
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
        self._token_url = _checked_base(token_url, what="token URL")
        self._client_id, self._client_secret, self._scope = client_id, client_secret, scope
        self._header, self._scheme, self._basic = header, scheme, basic
        self._clock = clock
        self._lock = anyio.Lock()
        self._token = ""
        self._renew_at = datetime.min.replace(tzinfo=UTC)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Not offered: one lock serves all tasks of one event loop."""
        del request
        raise RuntimeError("OAuth2ClientCredentials works with httpx.AsyncClient only")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Put a valid token on ``request``, fetching one when there is none; after a 401, once more with a new one.

        Raises:
            AuthenticationError: the token endpoint refuses the client, or does not answer as one.
            Unavailable: the token endpoint asks to come back later.
        """
        # Those who wait here while one task fetches find its token.
        async with self._lock:
            if self._clock() >= self._renew_at:
                self._take(await _read_whole((yield self._token_request())))
            token = self._token
        self._sign(request, token)
        if (yield request).status_code != _UNAUTHORIZED:
            return
        async with self._lock:
            if self._token == token:
                self._take(await _read_whole((yield self._token_request())))
            token = self._token
        self._sign(request, token)
        yield request

    def _sign(self, request: httpx.Request, token: str) -> None:
        request.headers[self._header] = f"{self._scheme} {token}".strip()

    def _token_request(self) -> httpx.Request:
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        if not self._basic:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        request = httpx.Request("POST", self._token_url, data=form, headers=headers)
        if self._basic:
            request = next(httpx.BasicAuth(self._client_id, self._client_secret).auth_flow(request))
        return request

    def _take(self, response: httpx.Response) -> None:
        where = f"the token endpoint {self._token_url.host}"
        if not response.is_success:
            self._refuse(where, response)
        try:
            granted = msgspec.json.decode(response.content)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            granted = None
        token = granted.get("access_token") if isinstance(granted, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise AuthenticationError(f"{where} gave no usable access_token; check that the token URL is the right one")
        self._token = token
        self._renew_at = self._clock() + _renewed_after(granted.get("expires_in"))

    def _refuse(self, where: str, response: httpx.Response) -> NoReturn:
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        status = response.status_code
        if response.has_redirect_location:
            raise AuthenticationError(
                f"{where} redirects to {_redirect_host(response)}, which was not followed; check the token URL",
                status=status,
            )
        secrets = _secrets(response.request) | {self._client_secret}
        told = f"{where}: {status} {_quoted(response, secrets)}".rstrip()
        if status in _RETRIED_STATUSES or status >= _SERVER_ERROR:
            wish = parse_retry_after(response.headers, self._clock())
            raise Unavailable(f"{told}; try again later", status=status, retry_after=wish)
        raise AuthenticationError(f"{told}; check token URL, client id, client secret and scope", status=status)


async def _read_whole(response: httpx.Response) -> httpx.Response:
    await response.aread()
    return response


def _renewed_after(expires_in: object) -> timedelta:
    """When to fetch the next token: a little before this one ends; five minutes where its life is not told."""
    try:
        life = float(expires_in)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        life = 300.0
    if not 0 < life < math.inf:
        life = 300.0
    life = min(life, 86_400.0)
    return timedelta(seconds=life - min(60.0, life / 4))


class _DailyBudget:
    """Counts requests per UTC day, across restarts where there is a memory."""

    _KEY = "http.daily_budget"

    def __init__(self, per_day: int, memory: Memory | None, clock: Clock) -> None:
        self._per_day, self._memory, self._clock = per_day, memory, clock
        self._day, self._spent, self._recalled = "", 0, memory is None

    async def spend(self) -> None:
        """Take one request out of today's budget. Raises Unavailable until midnight UTC when it is used up."""
        now = self._clock().astimezone(UTC)
        if not self._recalled and self._memory is not None:
            self._day, self._spent = _parse_budget(await self._memory.recall(self._KEY))
            self._recalled = True
        if self._day != now.date().isoformat():
            self._day, self._spent = now.date().isoformat(), 0
        if self._spent >= self._per_day:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            raise Unavailable(
                f"today's budget of {self._per_day:,} requests is used up; polling goes on at 00:00 UTC. "
                "Poll less often, or raise the daily budget if your licence allows more",
                retry_after=(midnight - now).total_seconds(),
            )
        self._spent += 1
        if self._memory is not None:
            await self._memory.remember(self._KEY, f"{self._day} {self._spent}")


def _parse_budget(remembered: str | None) -> tuple[str, int]:
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d) (\d{1,9})", remembered or "")
    return (match[1], int(match[2])) if match else ("", 0)


def _limiter(per_minute: int) -> AsyncLimiter:
    """A bucket that never lets more than ``per_minute`` requests through in any sixty seconds.

    A full bucket's burst comes on top of what leaks meanwhile, so the two share the minute between them.
    """
    burst = max(1, per_minute // 6)
    steady = max(1, per_minute - burst)
    return AsyncLimiter(burst, 60.0 * burst / steady)


async def _whole(answer: Answer) -> Answer:
    return answer


def _pause_before_retry(error: Exception) -> bool | float:
    """Stamina's hook: False gives up, True backs off as usual, a number is the vendor's wish in seconds (with jitter)."""
    if isinstance(error, (_CutShort, _Unreadable)):
        return True
    if not isinstance(error, Unavailable):
        return False
    if not error.retry_after:
        return True
    return error.retry_after <= _LONGEST_SLEEP and error.retry_after * random.uniform(1.0, 1.1)  # noqa: S311


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the vendor asks to wait, 0 to 3,600; None when it does not say, or says it in no known way.

    Takes seconds, an HTTP date, epoch seconds or milliseconds, in ``Retry-After`` or ``X-RateLimit-RetryAfter``.
    ``now`` is the vendor's clock, since a date is by that clock.
    """
    told = (headers.get("retry-after") or headers.get("x-ratelimit-retryafter") or "").strip()
    try:
        seconds = float(told)
    except ValueError:
        moment = _http_date(told)
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


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


async def _gunzip(chunks: AsyncIterator[bytes], where: str) -> AsyncIterator[bytes]:
    """Inflate in slices of at most 64 KB, so that whoever counts can stop a bomb."""
    inflater, begun = zlib.decompressobj(wbits=31), False
    try:
        async for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:
                    inflater = zlib.decompressobj(wbits=31)
                begun = True
                yield inflater.decompress(data, 65_536)
                data = inflater.unconsumed_tail or inflater.unused_data
    except zlib.error as error:
        raise _CutShort(f"{where}: the answer's gzip stream is damaged ({error})") from error
    if begun and not inflater.eof:
        raise _CutShort(f"{where}: the answer's gzip stream was cut short")


def _checked_base(base_url: str, what: str = "base URL") -> httpx.URL:
    try:
        url = httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        raise SettingsError(f"the {what} is no URL; it looks like https://api.example.com/xdr-alert") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise SettingsError(f"the {what} needs https:// and a host, as in https://api.example.com/xdr-alert")
    if url.userinfo or url.query or url.fragment:
        raise SettingsError(
            f"the {what} may hold no user, password, query or fragment; give credentials in their own settings"
        )
    return url


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise SettingsError("a header's name has a character that cannot be sent; check the header settings")
        if not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise SettingsError(f"the value of the header {name} cannot be sent; was it pasted with a line break?")
    return dict(headers)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _where(request: httpx.Request) -> str:
    return f"{request.method} {_printable(request.url.host)}{_printable(request.url.raw_path.decode('ascii').partition('?')[0])}"


def _shown_parameters(url: httpx.URL) -> str:
    return " ".join(
        f"{_printable(name)}={'…' if _SECRET_PARAMETER.search(name) else _printable(value)}"
        for name, value in url.params.multi_items()
    )


def _redirect_host(response: httpx.Response) -> str:
    try:
        target = response.request.url.join(response.headers["location"])
    except (httpx.InvalidURL, KeyError):
        return "an address that is no URL"
    return _printable(f"{target.scheme}://{target.host}")


def _secrets(request: httpx.Request) -> set[str]:
    """What a server may echo but nobody else may read: the values of all headers that are not plain, and their last words."""
    values = {value for name, value in request.headers.items() if name not in _PLAIN_HEADERS}
    return values | {value.split()[-1] for value in values if value.strip()}


def _quoted(response: httpx.Response, secrets: set[str]) -> str:
    """The vendor's own words about an error, on one line, shortened, without ``secrets``."""
    try:
        said = _said(msgspec.json.decode(response.content))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        text = response.content[:20_000].decode("utf-8", "replace")
        said = re.sub(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        said = said.replace(secret, "…")
    said = _printable(said)
    return f"“{said}”" if said else response.reason_phrase


def _said(error: Any, depth: int = 4) -> str:
    """The readable part of an error body: JSON:API ``errors``, OAuth2, OData, or what looks like a message."""
    if isinstance(error, list):
        return "; ".join(filter(None, (_said(item, depth - 1) for item in error[:3]))) if depth else ""
    if not isinstance(error, dict):
        return str(error)[:1000] if isinstance(error, str | int | float) else ""
    if not depth:
        return ""
    names = ("errors", "error", "error_description", "code", "title", "detail", "message", "fault", "description")
    parts = (_said(error[name], depth - 1) for name in names if error.get(name))
    return ": ".join(dict.fromkeys(filter(None, parts)))


def _printable(text: str) -> str:
    """Text on one line without control characters, shortened."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text[:2000]).split())
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"
