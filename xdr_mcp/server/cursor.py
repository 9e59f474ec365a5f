"""Cursors: where a listing goes on, handed to the client and back.

A cursor is signed over its place and over what was asked, so that one which was altered, made up, or given to another
question is refused. It keeps the moment of page one: ``since:-24h`` means the same on every page.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, urlsafe_b64encode
from datetime import datetime

import msgspec
from msgspec import Struct

from xdr_mcp.errors import XdrMcpError
from xdr_mcp.interfaces import Position

_SIGNATURE_BYTES = 16
_LONGEST = 1_024


class BadCursor(XdrMcpError):
    """This cursor does not belong to this question.

    Cursors are opaque: pass next_cursor on unchanged, to the same tool with the same filter. Leave it out to start over.
    """

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class Place(Struct, frozen=True, array_like=True):
    """Where the next page begins."""

    asked: datetime
    """When page one was asked: what relative times are relative to."""
    total: int
    """How many alerts matched then."""
    after: Position


class Cursors:
    """Signs and opens cursors with a key that all processes of one installation share."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, place: Place, *question: str) -> str:
        """A cursor for ``place``, good for this question only."""
        body = msgspec.msgpack.encode(place)
        return urlsafe_b64encode(self._signature(body, question) + body).rstrip(b"=").decode()

    def open(self, cursor: str, *question: str) -> Place:
        """The place that was signed.

        Raises:
            BadCursor: it was not signed here, for this question.
        """
        try:
            signed = b64decode(cursor[:_LONGEST] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise BadCursor from None
        signature, body = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(body, question)):
            raise BadCursor
        return msgspec.msgpack.decode(body, type=Place)

    def _signature(self, body: bytes, question: tuple[str, ...]) -> bytes:
        return hmac.digest(self._key, msgspec.msgpack.encode((body, question)), "sha256")[:_SIGNATURE_BYTES]
