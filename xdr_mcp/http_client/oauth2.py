"""OAuth 2 client credentials: fetched, renewed before they end, and once after a 401."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import anyio
import httpx
import msgspec

from xdr_mcp.errors import AuthenticationError, Unavailable
from xdr_mcp.http_client.addresses import checked_base
from xdr_mcp.http_client.patience import RETRIED_STATUSES, SERVER_ERROR, UNAUTHORIZED, parse_retry_after
from xdr_mcp.http_client.wording import quoted, redirect_host, secrets_of
from xdr_mcp.interfaces import Clock, utc_now


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
        self._token_url = checked_base(token_url, what="token URL")
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
        if (yield request).status_code != UNAUTHORIZED:
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
                f"{where} redirects to {redirect_host(response)}, which was not followed; check the token URL",
                status=status,
            )
        secrets = secrets_of(response.request) | {self._client_secret}
        told = f"{where}: {status} {quoted(response, secrets)}".rstrip()
        if status in RETRIED_STATUSES or status >= SERVER_ERROR:
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
