"""One patient HTTP client for sources and sinks: retries, Retry-After, rate and daily budgets, size bounds, host pinning."""

from __future__ import annotations

from xdr_mcp.errors import TooLarge
from xdr_mcp.http_client.addresses import path_segment
from xdr_mcp.http_client.client import Answer, HttpClient
from xdr_mcp.http_client.oauth2 import OAuth2ClientCredentials
from xdr_mcp.http_client.patience import parse_retry_after

__all__ = ["Answer", "HttpClient", "OAuth2ClientCredentials", "TooLarge", "parse_retry_after", "path_segment"]
