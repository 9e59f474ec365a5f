"""The seams. Read this first.

    source ──Page──▶ poller ──save──▶ STORE ──changes──▶ delivery ──▶ sinks       (durable: remembers its position)
                                        │  └──changes──▶ MCP notifications        (live: starts at now)
                                        └──find/get──▶ tools, resources, console

Each interface lists what an implementation owes: order, whether repeats are allowed, what is raised. One behavioural
suite per seam runs over every implementation (``tests/contracts/``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import pairwise
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec
from msgspec import Struct
from pydantic import BaseModel

from xdr_mcp.alert import Alert, Change, KeptChange, Status, Verdict
from xdr_mcp.proposal import AuditNote, AuditRow, Proposal, ProposalState, TriageChange
from xdr_mcp.query import Query

Clock = Callable[[], datetime]
"""Says what time it is; always aware. Injected wherever time is read, so that tests own it."""


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


# ---------------------------------------------------------------- what a source yields


class Window(Struct, frozen=True):
    """A closed interval of the vendor's *updated* time: both ends belong to it. ``start <= end``."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start


class Record(Struct, frozen=True, gc=False):
    """One alert as it arrived: normalised, with the vendor's record as the bytes it came in."""

    alert: Alert
    raw: bytes

    def digest(self) -> bytes:
        """16 bytes that differ when the record's content does; key order and white space do not count."""
        try:
            canonical = msgspec.json.encode(msgspec.json.decode(self.raw), order="sorted")
        except (msgspec.MsgspecError, RecursionError, ValueError):
            canonical = self.raw
        return blake2b(canonical, digest_size=16).digest()


class Quarantined(Struct, frozen=True):
    """A record that could not be taken: kept with its bytes, and told, while the rest of its page goes on."""

    raw: bytes
    reason: str


class Page(Struct, frozen=True):
    """What one answer of the vendor held. Records may repeat, within a page and between pages."""

    records: tuple[Record, ...]
    fetched: datetime
    quarantined: tuple[Quarantined, ...] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """What a vendor's API allows and how it behaves; the house keeps to it."""

    page_size: int = 100
    """Most alerts one request may ask for."""
    per_minute: int = 60
    """Requests a minute."""
    per_day: int | None = None
    """Requests a day, where the vendor counts them."""
    hold_back: timedelta = timedelta(0)
    """A window is only called covered up to this long before now: the vendor's own indexing delay."""
    longest_window: timedelta | None = None
    """Longest interval one request may span; None where there is no limit."""


class Source(Protocol):
    """One vendor tenant. Made by its ``SourceType``; used by one task at a time."""

    name: str
    limits: Limits
    idle_reason: str
    """Why this source makes no calls at all (a dummy credential for development); empty when it works normally."""

    def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:
        """Every alert whose updated time lies in ``window``, as it is while being read, in any order.

        May yield alerts outside the window and may yield one more than once. It must not skip one because others moved
        while it was paging. With ``live`` the window ends at now: leave the upper bound open and yield what is newer too.
        When the iterator ends without an error, the window was read whole.

        Raises:
            WindowTooLarge: the vendor cannot page through that many; the caller halves the window.
            SourceError: any other failure; nothing is to be called covered.
        """
        ...

    async def check(self) -> str:
        """Make the cheapest authenticated call and say what was reached, in one line.

        Raises:
            SourceError: what is wrong and what to do about it.
        """
        ...

    def vendor_now(self) -> datetime:
        """The vendor's clock as its last answer told it (HTTP ``Date``); ours when it never did."""
        ...


class Takes(Struct, frozen=True, kw_only=True):
    """What a vendor can be told about an alert."""

    statuses: tuple[Status, ...]
    verdicts: tuple[Verdict, ...]
    """``UNKNOWN`` takes a verdict back."""
    assignee: bool = True
    comment: bool = True


class VendorRequest(Struct, frozen=True, kw_only=True):
    """One request that changes an alert at the vendor."""

    method: str
    path: str
    """Under the vendor's base URL."""
    body: Any
    """What is sent, as JSON."""
    repeatable: bool
    """Sent twice it does what it does once, so a lost answer is no reason to look first."""


class Plan(Struct, frozen=True):
    """What a change comes to, for an alert as it is."""

    requests: tuple[VendorRequest, ...]
    """To be sent in this order; empty when the alert is already as wished."""
    after: Alert
    """The alert as it will be: what the vendor changes along with the fields that were asked for, too."""


class Triage(Protocol):
    """The ability of a source to be written to: its attribute ``triage``, None or absent where it has none.

    What sends is not what decides: ``xdr_mcp.triage`` plans, has a person approve, and calls this.
    """

    takes: Takes

    def plan(self, record: Record, change: TriageChange, mark: str) -> Plan:
        """What is still to be sent so that the alert of ``record`` becomes as ``change`` wishes. Pure: nobody is called.

        A comment is sent with ``mark`` in it, and is not sent again where the record holds that mark. The house has checked
        the change against ``takes``.

        Raises:
            TriageError: this vendor cannot say that; the message names what it can.
            SourceError: no request can name the alert.
        """
        ...

    async def read(self, vendor_id: str) -> Record:
        """The alert as the vendor has it now, its comments included.

        Raises:
            SourceError: NotFound when there is none; any other: the vendor does not tell, or cannot be asked for such an id.
        """
        ...

    async def send(self, request: VendorRequest) -> None:
        """Send one of a plan's requests. One that is not ``repeatable`` is sent once, whatever happens.

        Raises:
            Unavailable, BadResponse: it may have been done, or not.
            SourceError: any other: the vendor did not do it.
        """
        ...


class Memory(Protocol):
    """What a source may remember between runs (a probed capability, a token's expiry, a daily budget). Never a secret."""

    async def recall(self, key: str) -> str | None:
        """The value last remembered under ``key``."""
        ...

    async def remember(self, key: str, value: str) -> None:
        """Keep ``value`` under ``key``."""
        ...

    async def amend(self, key: str, change: Callable[[str | None], str]) -> str:
        """Keep what ``change`` makes of the value under ``key``, and return it; nobody else's comes in between.

        ``change`` only computes. What it raises is raised, and nothing was kept.
        """
        ...


class SourceType(Protocol):
    """What a vendor's module registers under the entry point group ``xdr_mcp.sources``."""

    Options: ClassVar[type[BaseModel]]
    """Its settings: read from ``XDR_<NAME>_<FIELD>`` in the environment or ``[sources.<name>]`` in xdr-mcp.toml."""

    @classmethod
    def open(cls, name: str, options: Any, memory: Memory) -> AbstractAsyncContextManager[Source]:
        """Connect lazily: entering makes no request.

        Raises:
            SettingsError: an option is missing or contradicts another.
        """
        ...


class ContextItems(Struct, frozen=True):
    """One part of what a vendor knows about an alert beside the alert: objects in the vendor's own shape, newest first."""

    items: tuple[Mapping[str, Any], ...]
    total: int | None
    """How many there are in all, as the vendor says; None when it does not."""


@runtime_checkable
class ContextSource(Protocol):
    """What a source may be able to do besides: tell more about one alert, live. Asked while pages are being read, too."""

    name: str
    idle_reason: str
    context_parts: Sequence[str]
    """What it can tell: of ``events``, ``assets`` and ``intelligence``."""

    async def context(self, vendor_id: str, part: str, limit: int) -> ContextItems:
        """One of its ``context_parts`` about one alert: the newest ``limit``.

        Raises:
            SourceError: the vendor failed; NotFound when it has no such alert (any more).
        """
        ...


# ---------------------------------------------------------------- what the store keeps


class Lease(Struct, frozen=True):
    """The right to poll one source. ``token`` grows with every change of holder and fences the one before."""

    name: str
    holder: str
    token: int
    expires: datetime


class Saved(Struct, frozen=True, kw_only=True):
    """What one save did."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    outdated: int = 0
    """Older than what is stored: a late copy of a version that was already overtaken."""
    quarantined: int = 0
    last_seq: int = 0


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How polling of one source goes, as last written by whoever polls it."""

    state: str = "starting"
    """``starting``, ``ok``, ``failing``, ``development`` (dummy credential) or ``disabled``."""
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    last_error: str = ""
    remedy: str = ""
    """What to do about the last error."""
    last_error_at: datetime | None = None
    failures: int = 0
    """Failed polls in a row."""
    next_attempt: datetime | None = None
    clock_skew: float = 0.0
    """Seconds the vendor's clock is ahead of ours."""
    look_back: float | None = None
    """Seconds that each poll reads back, as of the last one; it follows the arrival lag. None before any."""


class SourceState(Struct, frozen=True, kw_only=True):
    """All that the store knows about one source."""

    source: str
    health: Health = Health()
    coverage: tuple[Window, ...] = ()
    """Closed intervals of updated time that were read whole, merged, ascending."""
    lag_p50: float | None = None
    lag_p99: float | None = None
    lag_p999: float | None = None
    """Seconds from the vendor's updated time to our saving it, over recent first sights of a version; None before any."""
    alerts: int = 0
    quarantined: int = 0
    lease: Lease | None = None
    """Who polls it now; None when nobody does or the lease has run out."""

    @property
    def gaps(self) -> tuple[Window, ...]:
        """What lies between the intervals that were read whole, ascending."""
        return tuple(Window(before.end, after.start) for before, after in pairwise(self.coverage))


class Position(Struct, frozen=True, array_like=True):
    """A place in a newest-first listing: the alert last given out."""

    created: datetime
    key: int


class Found(Struct, frozen=True):
    """One page of a listing, newest first by created time."""

    alerts: tuple[Alert, ...]
    next: Position | None
    """Where the next page begins; None when this was the last."""
    total: int | None = None
    """How many alerts match, over the whole store; None where that was not asked for."""


class Group(Struct, frozen=True):
    """How many alerts have these values."""

    values: tuple[str | None, ...]
    """One for each thing that was counted by, as the newest alert of the group spells it; None where they have none."""
    count: int


class Grouped(Struct, frozen=True):
    """Alerts, counted by what they have in common. One with two hosts counts in both groups, so groups may sum to more."""

    groups: tuple[Group, ...]
    """The largest first; of equal ones the least value first, None last."""
    others: int
    """Groups that are left out."""
    total: int
    """Alerts that match, each once."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A change that a sink refused for good."""

    sink: str
    seq: int
    reason: str
    at: datetime


class SinkState(Struct, frozen=True, kw_only=True):
    """How far one sink has come."""

    sink: str
    position: int
    """Seq of the last change it has taken."""
    dead_letters: int = 0


class Keep(Struct, frozen=True, kw_only=True):
    """What a retention policy keeps; None sets no limit. Longest unchanged is dropped first."""

    since: datetime | None = None
    """An alert that is closed is kept while its updated time is no earlier. One that is not closed has no age."""
    alerts: int | None = None
    """Most alerts, whatever their status."""
    size: int | None = None
    """Most bytes in use in the store; space that became free is used again."""


class Forgotten(Struct, frozen=True, kw_only=True):
    """What was dropped."""

    alerts: int = 0
    changes: int = 0
    """Revisions of those alerts."""
    quarantined: int = 0
    over: bool = False
    """A limit on number or size is exceeded still."""


class Store(Protocol):
    """The one place of truth. Safe for several processes; every method may be called from any task of one event loop.

    Raises (any method):
        StoreUnusable: an operator must act; the message says how.
    """

    # -- the poller's side: everything here is fenced by the lease

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        """Take or renew the lease; None while somebody else holds it. A holder that renews keeps its token."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give the lease up, so that another may take it at once. Harmless when it is lost already."""
        ...

    async def save(self, source: str, page: Page, lease: Lease) -> Saved:
        """Store a page in one transaction: alerts, revisions, changes, entities, text, lag.

        A version (alert id, updated time, content) that was stored before is not told again; one older than the
        stored head never replaces it. All or nothing. Pages are stored in the order of the calls, also where one is begun
        before another has ended: the next is made ready while the last is written.

        Raises:
            LeaseLost: ``lease`` was overtaken; nothing was written.
        """
        ...

    async def cover(self, source: str, window: Window, lease: Lease) -> None:
        """Record that ``window`` was read whole. Raises LeaseLost."""
        ...

    async def uncover(self, source: str, window: Window, lease: Lease) -> None:
        """Forget that anything between the ends of ``window`` was read; they themselves stay covered. Raises LeaseLost.

        A clock that ran ahead had called it covered, or more has come into it than can be read.
        """
        ...

    async def report(self, source: str, health: Health, lease: Lease | None) -> None:
        """Keep how polling goes, for every process to see. With a lease, raises LeaseLost."""
        ...

    def memory(self, source: str) -> Memory:
        """A source's own small memory."""
        ...

    # -- what an archive kept

    async def restore(self, changes: Sequence[Change]) -> int:
        """Put changes back as they were, in one transaction: seq, kind, revision, times, record. How many were not held.

        They come in order, to a store that holds nothing else. A version that is held already is left alone, so that what
        was interrupted can be begun again. ``before`` becomes the version of the alert that was restored before it; a
        revision that the alert has reached already (two stores fed one archive) becomes the next. Nothing is called covered.

        Raises:
            StoreError: one that is not held does not follow the newest change, or cannot be kept; nothing was written.
        """
        ...

    # -- what need not be kept for ever

    async def forget(
        self, keep: Keep, needed: Mapping[str, Sequence[Window]], sinks: Sequence[str], lease: Lease
    ) -> Forgotten:
        """Drop alerts, each with all its revisions, and quarantined records, as ``keep`` asks; some thousands at most.

        In many short transactions, so that no save waits long, and none of them leaves half an alert. Call it until it drops
        nothing. It never drops

        - a change that a sink has not taken: one of ``sinks``, or any other that ever moved its position;
        - an alert that a proposal is pending for;
        - an alert whose updated time, or time of saving, lies in one of ``needed``: what polling may yet read again of
          each source, where it would be taken for new. All is needed of a source that is not named there.

        An alert that is dropped and then changes at the vendor is created again. Raises LeaseLost.
        """
        ...

    async def tidy(self) -> bool:
        """Put in order a little of what saving left behind, so that questions are answered faster; whether there may be more.

        In one short transaction. No answer changes.
        """
        ...

    # -- the asker's side

    # ``as_of`` asks what was known at a moment, by the time of saving: versions saved later, and alerts first seen later,
    # count as unsaved. What was forgotten since is missing. None, or a moment that nothing was saved after, is now.

    async def get(self, alert_id: str, as_of: datetime | None = None) -> Change | None:
        """The newest revision of one alert, with its raw record; None when it is not known."""
        ...

    async def revisions(self, alert_id: str, limit: int) -> tuple[Change, ...]:
        """Revisions of one alert, newest first: at most ``limit``, and fewer where they are large."""
        ...

    async def find(
        self,
        query: Query,
        limit: int,
        after: Position | None = None,
        as_of: datetime | None = None,
        most: int | None = None,
    ) -> Found:
        """Alerts that match, newest created first. Agrees with ``query.matches`` on every alert.

        At most ``limit``, and fewer where they are large: ``next`` says whether there are more. It is a place in a listing
        of the same ``as_of``. With ``most``, ``total`` is what ``count`` would answer at the same moment.
        """
        ...

    async def count(self, query: Query, as_of: datetime | None = None, most: int | None = None) -> int:
        """How many alerts match, over the whole store.

        With ``most``, counting may end when there are more: then the answer is ``most + 1``.
        """
        ...

    async def count_by(self, query: Query, by: Sequence[str], limit: int, as_of: datetime | None = None) -> Grouped:
        """How many alerts match, by what they have in common, over the whole store: the ``limit`` largest groups.

        ``by`` names one to three of ``query.facets``: a choice, number or keyword field, or a time field by its hour, day,
        week or month (``created:day``), UTC. Keyword values that are equal folded are one group. An alert counts in the
        first ``query.MOST_COMBINATIONS`` groups it belongs to.

        Raises:
            QueryError: alerts cannot be counted by this, or fall into more groups than are kept in memory.
        """
        ...

    async def values(self, field: str, prefix: str, limit: int) -> tuple[str, ...]:
        """Values of a keyword field that begin with ``prefix``, case and accents aside, each once.

        In the order of their folded form, where a blank counts as a no-break space. Each as the newest alert that has it spells it, with the shorter forms it is also found by (a host's first label).
        At most ``limit``.

        Raises:
            QueryError: it is no keyword field.
        """
        ...

    async def states(self) -> tuple[SourceState, ...]:
        """What is known about every source ever seen, by name."""
        ...

    # -- the followers' side

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """Changes with ``seq > after``, ascending, none skipped. A change of a lower seq never appears later.

        At most ``limit``, and fewer where they are large: only an empty answer says that there are no more.
        """
        ...

    async def kept_changes(self, after: int, limit: int) -> tuple[KeptChange, ...]:
        """The same changes, told the same way, undecoded."""
        ...

    async def last_seq(self) -> int:
        """The newest change's seq; 0 in an empty store."""
        ...

    async def wait(self, after: int, timeout: float) -> bool:  # noqa: ASYNC109 (a time-out is an answer here)
        """Sleep until a change with ``seq > after`` exists, in whatever process it was saved; False on time-out (seconds).

        Another process's change is noticed within a second.
        """
        ...

    # -- what a person decides on

    async def propose(self, proposal: Proposal) -> Proposal:
        """Keep a proposal, numbered, and log it; the one that is there when the same is undecided already."""
        ...

    async def proposal(self, number: int) -> Proposal | None:
        """One proposal; None when there is none of this number."""
        ...

    async def proposals(self, *states: ProposalState, limit: int = 100) -> tuple[Proposal, ...]:
        """Proposals in one of ``states`` (in any, without), newest first."""
        ...

    async def decide(self, proposal: Proposal, was: ProposalState, note: AuditNote) -> Proposal:
        """Keep what became of a proposal, and log it, in one transaction; returns it with the time of the change.

        Raises:
            ProposalMoved: its state is not ``was`` any more; nothing was written.
        """
        ...

    async def audit(self, after: int, limit: int) -> tuple[AuditRow, ...]:
        """Rows of the log with ``seq > after``, ascending; each as it is kept, be it whole or not."""
        ...

    # -- durable readers (sinks)

    async def position(self, sink: str) -> int:
        """Seq of the last change the sink has taken; 0 for a new sink."""
        ...

    async def move(self, sink: str, seq: int) -> None:
        """The sink has taken everything up to ``seq``. Never moves back."""
        ...

    async def bury(self, letter: DeadLetter) -> None:
        """Set a change aside that the sink refuses for good."""
        ...

    async def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """Changes set aside, newest first."""
        ...

    async def sinks(self) -> tuple[SinkState, ...]:
        """Every sink that ever took or refused a change, by name."""
        ...

    async def forget_sink(self, sink: str, lease: Lease) -> None:
        """Drop a sink's position and dead letters, for it is no more: retention waits for it no longer.

        Were it to come back, it would be given everything that is still there. Raises LeaseLost.
        """
        ...


class Sink(Protocol):
    """A durable destination of changes, fed in order, each at least once."""

    name: str

    def begin(self) -> None:
        """This process feeds it from now on. Until now another may have: what is remembered of what it holds may be wrong."""
        ...

    async def send(self, changes: Sequence[KeptChange]) -> None:
        """Take a batch, durably. A change that was sent before is recognised and does no harm.

        Raises:
            ChangeRefused: the *first* change of the batch can never be taken. (The caller sends one by one to find it.)
            SinkError: try the same batch again later.
        """
        ...
