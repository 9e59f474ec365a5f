"""What an operator can choose about the XDR Alert Management API, and how the credential is sent."""

from __future__ import annotations

from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from xdr_mcp.errors import SettingsError
from xdr_mcp.http_client import OAuth2ClientCredentials
from xdr_mcp.interfaces import Clock, Limits, utc_now

DEVELOPMENT_TOKEN = "dev-dummy-token"  # noqa: S105 (published: it means that no call is made)

_PRESETS = {"bearer": ("Authorization", "Bearer"), "trellix": ("x-fireeye-api-key", "")}
_TRELLIX_CALLS_A_DAY = 2000
"""What the Trellix platform includes in a licence; more can be bought."""


class XdrOptions(BaseModel):
    """The settings of one tenant of the XDR Alert Management API."""

    model_config = ConfigDict(frozen=True)

    base_url: str = Field("", description="Where the API is, up to and without `/api/v1`.")
    auth_token: SecretStr | None = Field(
        None, description="The API key or token. `dev-dummy-token` means development: no call is made."
    )
    preset: Literal["bearer", "trellix"] = Field(
        "bearer",
        description="How the token is sent: `bearer` as `Authorization: Bearer …`, `trellix` as `x-fireeye-api-key: …`, "
        "with the 2,000 calls a day that platform allows.",
    )
    auth_header: str | None = Field(None, description="Header that carries the token, instead of the preset's.")
    auth_scheme: str | None = Field(
        None, description="Word before the token in that header, instead of the preset's; `none` for no word."
    )
    api_key: SecretStr | None = Field(
        None, description="Key sent as `x-api-key` beside the token, where a tenant asks for both."
    )
    token_url: str = Field(
        "", description="OAuth 2 token endpoint; with it, client_id and client_secret replace the token."
    )
    client_id: str = Field("", description="OAuth 2 client id.")
    client_secret: SecretStr | None = Field(None, description="OAuth 2 client secret.")
    scope: str = Field("", description="OAuth 2 scopes, by blank: `xdr.alr.r xdr.srh.r`.")
    token_auth: Literal["basic", "form"] = Field(
        "basic", description="How the client id and secret reach the token endpoint: HTTP Basic, or in the form."
    )
    timeout: float = Field(30.0, gt=0, le=600, description="Seconds to wait for a connection and for each read.")
    max_retries: int = Field(3, ge=0, le=10, description="Attempts after the first, for what may pass by itself.")
    max_alerts_per_poll: int = Field(
        100, ge=1, le=1000, description="Alerts asked for in one request. Never a limit on what a poll reads in all."
    )
    requests_per_minute: int = Field(60, ge=1, description="Requests a minute that the vendor allows.")
    requests_per_day: int | None = Field(
        None, ge=1, description="Requests a day that the vendor allows; the preset `trellix` sets 2,000."
    )

    write_back: bool = Field(
        default=False,
        description="Whether the tenant's API takes `PATCH /api/v1/alerts/{id}`, which no public source shows: find out before "
        "relying on it. Only with `XDR_TRIAGE`.",
    )

    @property
    def development(self) -> bool:
        """The credential is the published dummy: nothing is ever called."""
        return self.auth_token is not None and self.auth_token.get_secret_value() == DEVELOPMENT_TOKEN

    @property
    def limits(self) -> Limits:
        """What the tenant's API allows."""
        per_day = self.requests_per_day or (_TRELLIX_CALLS_A_DAY if self.preset == "trellix" else None)
        return Limits(page_size=self.max_alerts_per_poll, per_minute=self.requests_per_minute, per_day=per_day)

    def headers(self) -> dict[str, str]:
        """The headers that carry a fixed credential."""
        headers = {"x-api-key": self.api_key.get_secret_value()} if self.api_key else {}
        if not self.token_url and self.auth_token:
            header, scheme = self._header_and_scheme()
            headers[header] = f"{scheme} {self.auth_token.get_secret_value().strip()}".strip()
        return headers

    def auth(self, clock: Clock = utc_now) -> httpx.Auth | None:
        """What fetches and renews a token; None where the token is fixed.

        Raises:
            SettingsError: neither kind of credential is complete.
        """
        if not self.token_url:
            if self.auth_token is None or not self.auth_token.get_secret_value().strip():
                raise SettingsError(
                    "no credential: set XDR_AUTH_TOKEN (dev-dummy-token to try things without an XDR), "
                    "or XDR_TOKEN_URL, XDR_CLIENT_ID and XDR_CLIENT_SECRET"
                )
            return None
        if not self.client_id or self.client_secret is None:
            raise SettingsError("XDR_TOKEN_URL needs XDR_CLIENT_ID and XDR_CLIENT_SECRET beside it")
        header, scheme = self._header_and_scheme()
        return OAuth2ClientCredentials(
            self.token_url,
            self.client_id,
            self.client_secret.get_secret_value(),
            scope=self.scope,
            header=header,
            scheme=scheme,
            basic=self.token_auth == "basic",  # noqa: S105 (a way, not a secret)
            clock=clock,
        )

    def _header_and_scheme(self) -> tuple[str, str]:
        header, scheme = _PRESETS[self.preset]
        if self.auth_scheme is not None:
            scheme = "" if self.auth_scheme.strip().lower() == "none" else self.auth_scheme
        return self.auth_header or header, scheme
