"""Where requests may go, and with which headers: one origin, the path that was meant, and nothing that cannot be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

import httpx

from xdr_mcp.errors import SettingsError, SourceError


def checked_base(base_url: str, what: str = "base URL") -> httpx.URL:
    """The URL, parsed. Raises SettingsError: it is no plain http(s) URL."""
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


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers as they are. Raises SettingsError: one cannot be sent."""
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise SettingsError("a header's name has a character that cannot be sent; check the header settings")
        if not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise SettingsError(f"the value of the header {name} cannot be sent; was it pasted with a line break?")
    return dict(headers)


def path_segment(vendor_id: str) -> str:
    """A vendor's id as one segment of a path: it cannot climb out of its place, whatever it holds.

    Raises:
        SourceError: it is empty or nothing but dots, which every path takes for another place.
    """
    if not vendor_id.strip("."):
        raise SourceError(
            f"{vendor_id!r} cannot be asked for by its id, for in a path it is another place; look in the vendor's own console"
        )
    return quote(vendor_id, safe="")


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: what must be equal for a credential to go along."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
