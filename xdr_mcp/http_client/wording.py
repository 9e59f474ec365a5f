"""What messages and logs tell of requests and answers: on one line, bounded, and never a secret.

A vendor's own words are quoted, for they often name the cause; what a server echoes of a credential is cut out of them.
"""

from __future__ import annotations

import re
from typing import Any

import httpx
import msgspec

_LONGEST_QUOTE = 200
"""Characters of the vendor's own words in an error message."""
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


def where_of(request: httpx.Request) -> str:
    """Method, host and path: no query, which may hold a secret."""
    return f"{request.method} {printable(request.url.host)}{printable(request.url.raw_path.decode('ascii').partition('?')[0])}"


def shown_parameters(url: httpx.URL) -> str:
    """The query for a log line, without the values of what sounds like a secret."""
    return " ".join(
        f"{printable(name)}={'…' if _SECRET_PARAMETER.search(name) else printable(value)}"
        for name, value in url.params.multi_items()
    )


def redirect_host(response: httpx.Response) -> str:
    """Where a redirect leads, as scheme and host."""
    try:
        target = response.request.url.join(response.headers["location"])
    except (httpx.InvalidURL, KeyError):
        return "an address that is no URL"
    return printable(f"{target.scheme}://{target.host}")


def secrets_of(request: httpx.Request) -> set[str]:
    """What a server may echo but nobody else may read: the values of all headers that are not plain, and their last words."""
    values = {value for name, value in request.headers.items() if name not in _PLAIN_HEADERS}
    return values | {value.split()[-1] for value in values if value.strip()}


def quoted(response: httpx.Response, secrets: set[str]) -> str:
    """The vendor's own words about an error, on one line, shortened, without ``secrets``."""
    try:
        said = _said(msgspec.json.decode(response.content))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        text = response.content[:20_000].decode("utf-8", "replace")
        said = re.sub(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        said = said.replace(secret, "…")
    said = printable(said)
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


def printable(text: str) -> str:
    """Text on one line without control characters, shortened."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text[:2000]).split())
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"
