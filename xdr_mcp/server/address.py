"""What an ``xdr://`` URI names. Reading and watching go through here, so they never disagree.

An alert's id is ``<source>/<vendor id>``, and vendors put anything into theirs. Its URI is ``xdr://alerts/`` and the id
percent-encoded (``xdr://alerts/xdr%2FA-17``, the RFC 6570 expansion of ``{id}``); a plain slash is understood as well.
"""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import quote, unquote

from msgspec import Struct

RECENT = "xdr://alerts/recent"
STATUS = "xdr://status"
ALERT_TEMPLATE = "xdr://alerts/{id}"
SEARCH_TEMPLATE = "xdr://alerts/search{?q}"

_ALERTS = "xdr://alerts/"
_SEARCH = "xdr://alerts/search"
_LONGEST = 32_768


class Recent(Struct, frozen=True):
    """The newest alerts."""


class Status(Struct, frozen=True):
    """How the sources are doing."""


class OneAlert(Struct, frozen=True):
    """One alert, known or not."""

    id: str


class Search(Struct, frozen=True):
    """The newest alerts that match a query, as it was written."""

    text: str


Topic: TypeAlias = Recent | Status | OneAlert | Search


def topic_of(uri: str) -> Topic | None:
    """What ``uri`` names, or None when nothing here has such a name."""
    if len(uri) > _LONGEST:
        return None
    if uri == RECENT:
        return Recent()
    if uri == STATUS:
        return Status()
    if uri == _SEARCH or uri.startswith(f"{_SEARCH}?"):
        return Search(_parameter(uri.partition("?")[2], "q"))
    if not uri.startswith(_ALERTS) or "?" in uri or "#" in uri:
        return None
    alert_id = unquote(uri.removeprefix(_ALERTS))
    source, slash, vendor_id = alert_id.partition("/")
    return OneAlert(alert_id) if source and slash and vendor_id else None


def uri_of(topic: Topic) -> str:
    """The one spelling of a topic's URI that is told to clients."""
    match topic:
        case Recent():
            return RECENT
        case Status():
            return STATUS
        case OneAlert(id=alert_id):
            return f"{_ALERTS}{quote(alert_id, safe='', errors='surrogatepass')}"
        case Search(text=text):
            return f"{_SEARCH}?q={quote(text, safe='', errors='surrogatepass')}"


def _parameter(query_string: str, name: str) -> str:
    """The first value of ``name``; a plus sign is a plus sign (RFC 3986), blanks are ``%20``."""
    for pair in query_string.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return unquote(value)
    return ""
