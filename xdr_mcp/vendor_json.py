"""Reading vendors' JSON: split a page into records without one bad record costing the rest, and absorb shape drift.

A page is split into the byte slices of its records (msgspec.Raw), each decoded alone. Where the whole page is refused
(a lone surrogate, a 5,000-digit integer, 2,000 levels of nesting somewhere in it), a tolerant scan finds the records one
by one and quarantines the one at fault, with its bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from xdr_mcp.interfaces import Quarantined


class Envelope(Struct, frozen=True):
    """A page as split: the raw records, what could not be taken, and the envelope's other members, decoded."""

    records: tuple[tuple[bytes, dict[str, Any]], ...]
    """Each record as its own bytes and decoded."""
    quarantined: tuple[Quarantined, ...]
    members: dict[str, Any]
    """Everything of the envelope but the list (links, meta, @odata.nextLink, errors, included)."""


def split(body: bytes, member: str) -> Envelope:
    """Split ``body``, an object whose ``member`` is the list of records (a single object there counts as a list of one).

    Raises:
        BadResponse: it is not JSON, or not such an object; the message shows what came instead (HTML, a cut text).
    """
    raise NotImplementedError


def parse_time(value: object) -> datetime | None:
    """A vendor's time as an aware UTC datetime; None for null, blank and what is no time.

    Takes ISO 8601 with 0 to 9 fractional digits (cut to microseconds), ``Z``, ``ZZ``, ``+0000``, ``+05:30``, a blank in
    place of ``T``, no zone (UTC); epoch seconds, milliseconds, microseconds or nanoseconds as number or digits.
    """
    raise NotImplementedError


def as_list(value: object) -> list[Any]:
    """The value as a list: None is empty, a list is itself, anything else is a list of one."""
    raise NotImplementedError


def as_text(value: object) -> str:
    """The value as text: None is empty, ``{"value": x}`` is x, a list is its items joined by lines, a number its digits."""
    raise NotImplementedError
