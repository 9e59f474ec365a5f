"""Refusals, in words that are safe to tell: an error quotes what was asked, and what was asked may quote an alert."""

from __future__ import annotations

from xdr_mcp.errors import QueryError, XdrMcpError
from xdr_mcp.untrusted import contained, contained_line

_LONGEST = 2_000


def in_words(error: XdrMcpError) -> str:
    """The cause and the remedy; of a query, with the part at fault marked."""
    if isinstance(error, QueryError):
        return error.render(lambda text: contained_line(text, _LONGEST))
    return contained(str(error), _LONGEST)
