"""Who may ask: fixed tokens, and short-lived ones given for client credentials."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs

from xdr_mcp.simulator.asked import Refused
from xdr_mcp.simulator.company import stable_uuid

DEFAULT_TOKEN = "simulator-token"  # noqa: S105 (opens a simulation only)


class Auth:
    """Credentials of one simulated tenant."""

    def __init__(
        self,
        tokens: tuple[str, ...] = (DEFAULT_TOKEN,),
        clients: Mapping[str, str] | None = None,
        lifetime: timedelta = timedelta(seconds=600),
    ) -> None:
        """Begin with fixed tokens.

        Args:
            tokens: taken for ever, as bearer token or API key.
            clients: OAuth2 client ids and their secrets.
            lifetime: of a token given for client credentials.
        """
        self._tokens = tokens
        self._clients = dict(clients or {})
        self._lifetime = lifetime
        self._issued: dict[str, datetime] = {}
        self._number = 0

    def check(self, headers: Mapping[str, str], now: datetime) -> None:
        """Let a request in that carries a good token in any of the vendor's headers. Raises Refused (401)."""
        offered = (
            headers.get("x-fireeye-api-key"),
            _bearer(headers.get("authorization", "")),
            _bearer(headers.get("x-trellix-api-token", "")),
        )
        if not any(token and self._good(token, now) for token in offered):
            raise Refused(401, "Unauthorized", "The token is missing, invalid or has expired.")

    def issue(self, headers: Mapping[str, str], body: bytes, now: datetime) -> dict[str, Any]:
        """Answer a client credentials request, the id and secret as HTTP Basic or in the form. Raises Refused."""
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            raise Refused(400, "unsupported_grant_type", "grant_type must be client_credentials")
        basic = _basic(headers.get("authorization", ""))
        client, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        known = self._clients.get(client)
        if known is None or not compare_digest(known.encode(), secret.encode()):
            raise Refused(401, "invalid_client", "The client id or secret is wrong.")
        self._number += 1
        token = stable_uuid("token", client, self._number)
        self._issued[token] = now + self._lifetime
        return {
            "access_token": token,
            "expires_in": int(self._lifetime.total_seconds()),
            "scope": form.get("scope", "xdr.alr.r"),
            "token_type": "Bearer",
        }

    def expire(self) -> None:
        """End every token that was given for client credentials."""
        self._issued.clear()

    def _good(self, token: str, now: datetime) -> bool:
        if any(compare_digest(token.encode(), known.encode()) for known in self._tokens):
            return True
        ends = self._issued.get(token)
        return ends is not None and now < ends


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else ""


def _basic(value: str) -> tuple[str, str] | None:
    scheme, _, text = value.partition(" ")
    if scheme.casefold() != "basic":
        return None
    try:
        client, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Refused(401, "invalid_client", "The Basic credential is not base64.") from None
    return client, secret
