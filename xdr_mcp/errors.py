"""What can go wrong, sorted by what the caller should do about it.

XdrMcpError
├── SettingsError             an operator fixes a setting
├── QueryError                the asker fixes the query; it knows which part
├── SourceError               the vendor's side
│   ├── AuthenticationError   an operator fixes the credential or its permissions
│   ├── Unavailable           retry later; ``retry_after`` says when, if the vendor did
│   ├── RequestRejected       the vendor refuses this request as it is (400, 422)
│   ├── NotFound              no such object at the vendor
│   ├── BadResponse           the answer is not what the API promises: not JSON, cut short, elsewhere
│   │   └── TooLarge          ask for fewer records at once
│   └── WindowTooLarge        ask for a shorter interval
├── StoreError                the database
│   ├── StoreUnusable         an operator acts: corrupt, read-only, full disk, too new a schema
│   └── LeaseLost             another process polls now; stop and follow it
├── SinkError                 a destination failed; try again later
│   └── ChangeRefused         the destination will never take this change
└── TriageError               a change that was proposed cannot be taken, or not yet; the message says what to do
    └── ProposalMoved         somebody else decided meanwhile; look again

Every message names the cause and the remedy. None contains a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

EXCERPT = 60
"""Characters of a long query shown on each side of the part at fault."""


class XdrMcpError(Exception):
    """Something went wrong in xdr-mcp."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class SettingsError(XdrMcpError):
    """A setting is missing or wrong."""


class QueryError(XdrMcpError):
    """A query that cannot be understood.

    Attributes:
        query: the text as it was asked.
        start, end: the half-open range of ``query`` that is at fault, in characters.
        reason: what is wrong with that part.
        example: the query corrected, or the closest thing that works.
    """

    def __init__(self, query: str, start: int, end: int, reason: str, example: str = "") -> None:
        self.query = query
        self.start = max(0, min(start, len(query)))
        self.end = max(self.start, min(end, len(query)))
        self.reason = reason
        self.example = example
        super().__init__(self.render())

    def render(self, told: Callable[[str], str] = str) -> str:
        """The query (what lies around the mark, when it is long), the part at fault marked, the reason, and an example.

        ``told`` says how a text is told where the query is shown: in a terminal, or to a model.
        """
        begin = max(0, self.start - EXCERPT)
        stop = min(len(self.query), max(self.start + 1, min(self.end, self.start + EXCERPT)) + EXCERPT)
        before = "… " if begin else ""
        after = " …" if stop < len(self.query) else ""
        shown = "".join(character if character.isprintable() else " " for character in self.query[begin:stop])
        ahead = len(told(before + shown[: self.start - begin]))
        marked = len(told(before + shown[: max(self.start + 1, min(self.end, stop)) - begin])) - ahead
        text = f"{told(self.reason)}\n  {told(before + shown + after)}\n  {' ' * ahead}{'^' * max(1, marked)}"
        return f"{text}\nFor example: {told(self.example)}" if self.example else text


class SourceError(XdrMcpError):
    """The vendor's API did not do what was asked.

    Attributes:
        status: the HTTP status, where there was an answer.
        remedy: what an operator can do about it; the message says what happened.
    """

    remedy: ClassVar[str] = (
        "check the address: it must be the API itself, up to and without /api/v1; then what lies between, such as a proxy"
    )

    def __init__(self, message: str | None = None, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AuthenticationError(SourceError):
    """The vendor refused the credential."""

    remedy = "check the token, how it is sent, and what it may read"


class Unavailable(SourceError):
    """The vendor cannot be reached, is overloaded, or asks to wait."""

    remedy = "none while it is short: it is tried again; else check the address, the network and a proxy, then the vendor's status page"

    def __init__(
        self, message: str | None = None, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after
        """Seconds the vendor asks to wait, already bounded; None when it did not say."""


class RequestRejected(SourceError):
    """The vendor refused the request as it is."""


class NotFound(SourceError):
    """The vendor has no such object."""


class BadResponse(SourceError):
    """The vendor's answer is not what its API promises."""


class TooLarge(BadResponse):
    """The answer is larger than the bound; asking for less may help."""

    remedy = "check the address, for no page of alerts is so large; then ask the vendor what its API answers"


class WindowTooLarge(SourceError):
    """More alerts lie in this interval than the vendor's API can page through."""

    remedy = (
        "ask the vendor how its API can page through so many at one instant; all else is read, and these stay a gap"
    )


class StoreError(XdrMcpError):
    """The store could not do what was asked."""


class StoreUnusable(StoreError):
    """The store cannot be used until an operator acts."""


class LeaseLost(StoreError):
    """Another process holds the polling lease now."""


class SinkError(XdrMcpError):
    """A destination could not take a batch; it will be offered again."""


class ChangeRefused(SinkError):
    """A destination will never take this change."""


class TriageError(XdrMcpError):
    """A change that was proposed cannot be taken."""


class ProposalMoved(TriageError):
    """The proposal is not in the state any more that it was looked at in."""
