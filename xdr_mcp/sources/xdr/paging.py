"""Reading a list whole through ``page[offset]``, while it moves.

An offset counts from the top of a list that is sorted by what changes, so between two requests rows slip past it in either
direction. Each page therefore overlaps the one before: seeing a row again proves that none was stepped over; where none is
seen again, the reader steps back until one is. Nothing the API says about itself is taken on trust: whether it filters and
sorts by time is probed and remembered, a short page is not the end, and a total may be wrong.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from operator import ge
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from xdr_mcp.errors import RequestRejected, TooLarge, Unavailable, WindowTooLarge
from xdr_mcp.interfaces import Clock, Memory, Quarantined, Window, utc_now
from xdr_mcp.sources.xdr.entities import reference_of
from xdr_mcp.vendor_json import Envelope, parse_time

Item = TypeVar("Item")

log = logging.getLogger(__name__)

_NEWEST_FIRST = "-updatedAt"
_MEMORY_KEY = "xdr.abilities"
_PROBED_AGAIN = timedelta(days=7)
_MILLISECOND = timedelta(milliseconds=1)
_REMEMBERED_ROWS = 5_000
_SMALLEST_PAGE = 2
"""A page of one row could not overlap the next."""
_PROBED = 100
"""Most rows that a probe asks for: what they tell is their order, and a page of a thousand tells no more."""
_MOST_OVERLAP = 20
"""Rows that a page shares with the one before, however large it is: one that is seen again is enough. Where more than these
leave the rows above between two requests, the reader steps back."""
_MOST_PAGES = 20_000
_MOST_PAGES_IN_VAIN = 20
_MOST_RESTARTS = 3
_EMPTY_BELIEVED = 3
"""An empty page where there should be rows is asked for this often before it is believed."""
_MOST_EMPTY_PAGES = 3
_SAME_END_BELIEVED = 3
"""Short pages that end with the row that the page before ended with, before that row is believed to be the last."""
_ROUND = 1000
_TOO_FAST = (
    "the list of alerts moves faster than it can be read page by page, or page[offset] has no effect; try again later"
)
_SERVER_ERRORS = {500, 501}

RowKey = tuple[str, datetime | int | None]


class Listing(Struct, Generic[Item], frozen=True, kw_only=True):
    """One page of a list."""

    items: tuple[Item, ...]
    """What was made of each record that can be read: by default the record, decoded."""
    keys: tuple[RowKey, ...]
    """What tells its rows apart: an item that changed is another row."""
    times: tuple[datetime, ...]
    """When its items were changed last, of those that say so."""
    quarantined: tuple[Quarantined, ...]
    """What no parser takes."""
    members: dict[str, Any]
    """What else the answer holds beside its list."""
    offset: int = 0

    @property
    def included(self) -> tuple[dict[str, Any], ...]:
        """Assets, events and so on that the items refer to."""
        return _included(self.members)

    @property
    def total(self) -> int | None:
        """How many items there are in all, as the vendor says, which need not be true."""
        meta = self.members.get("meta")
        total = meta.get("totalRecords") if isinstance(meta, dict) else None
        return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None

    @property
    def rows(self) -> int:
        """How many rows of the list it holds; rather too few than too many, which only reads some of them again."""
        if "included" not in self.members:
            return len(self.items) + len(self.quarantined)
        return len(self.items) or min(1, len(self.quarantined))


Included = Mapping[tuple[str, str], dict[str, Any]]
"""What stands beside the records of an answer, by what it is referred to by."""

Make = Callable[[bytes, dict[str, Any], Included], Item]
"""What is made of a record: called with its bytes, with these decoded, and with what stands beside it."""


def read_listing(envelope: Envelope, make: Make[Item], offset: int = 0) -> Listing[Item]:
    """Make something of each record of a page, one after the other: no more than one is ever held decoded."""
    beside = {reference_of(item): item for item in _included(envelope.members)}
    items: list[Item] = []
    keys: list[RowKey] = []
    moments: list[datetime] = []
    quarantined: list[Quarantined] = []
    for raw, record in envelope.each(quarantined):
        identifier, moment = record.get("id"), updated_at(record)
        keys.append((str(identifier), moment) if identifier else ("", hash(raw)))
        if moment is not None:
            moments.append(moment)
        items.append(make(raw, record, beside))
    keys += [("", hash(bad.raw)) for bad in quarantined]
    return Listing(
        items=tuple(items),
        keys=tuple(keys),
        times=tuple(moments),
        quarantined=tuple(quarantined),
        members=envelope.members,
        offset=offset,
    )


def _included(members: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    included = members.get("included")
    return tuple(item for item in included if isinstance(item, dict)) if isinstance(included, list) else ()


Fetch = Callable[..., Awaitable[Listing[Item]]]
"""One page: called with ``filters``, ``sort``, ``limit`` and ``offset`` by keyword."""


class Abilities(Struct, frozen=True, kw_only=True):
    """What was learnt about the API's way with time."""

    time_filter: bool = False
    """``filter[updatedAt]`` with bounds gives what lies within them."""
    sorts: bool = False
    """``sort=-updatedAt`` really sorts, so that reading may stop at the first older row."""
    sort: str = _NEWEST_FIRST
    probed: datetime


class _FilterRefused(Exception):
    """The API takes no time filter, or ignores it."""


class Reader(Generic[Item]):
    """Reads one list. Used by one task at a time; what it learns about the API stays in ``memory``."""

    def __init__(self, fetch: Fetch[Item], memory: Memory, page_size: int, clock: Clock = utc_now) -> None:
        self._fetch = fetch
        self._memory = memory
        self._page_size = max(_SMALLEST_PAGE, page_size)
        self._clock = clock
        self._totals = _Totals()

    async def window(self, window: Window, *, live: bool) -> AsyncGenerator[Listing[Item], None]:
        """Pages that hold every row whose updatedAt lies in ``window``, and perhaps others; rows may repeat.

        Raises:
            WindowTooLarge: the API refuses offsets as deep as this needs.
            Unavailable: the list moves faster than it can be read.
            SourceError: any other failure.
        """
        abilities = await self._abilities()
        if abilities.time_filter:
            filters = {"updatedAt": _bounds(window.start, None if live else window.end)}
            try:
                async with aclosing(self._walk(abilities, window.start, filters)) as listings:
                    async for listing in listings:
                        yield listing
            except _FilterRefused:
                log.info("the API refuses or ignores its time filter now; reading newest first instead")
                abilities = await self._probe(time_filter=False)
            else:
                return
        async with aclosing(self._walk(abilities, window.start)) as listings:
            async for listing in listings:
                yield listing

    async def everything(self, offset: int = 0) -> AsyncGenerator[Listing[Item], None]:
        """Pages that hold every row of the list from ``offset`` on; rows may repeat. Raises as ``window`` does."""
        async with aclosing(self._walk(offset=offset)) as listings:
            async for listing in listings:
                yield listing

    # -- one walk from the top to the end

    async def _walk(
        self,
        abilities: Abilities | None = None,
        start: datetime | None = None,
        filters: dict[str, Any] | None = None,
        offset: int = 0,
    ) -> AsyncGenerator[Listing[Item], None]:
        """Every row from ``offset`` on, but none older than ``start`` once it is certain that only older ones follow."""
        selection: dict[str, Any] = {"sort": abilities.sort} if abilities else {}
        selection |= {"filters": filters} if filters else {}
        walk = _Walk(self._page_size, offset, self._totals, newest_first=abilities is not None and abilities.sorts)
        for _ in range(_MOST_PAGES):
            try:
                listing = await self._ask(**selection, offset=walk.offset)
            except RequestRejected as error:
                if walk.offset > offset:
                    raise WindowTooLarge(f"the API refuses page[offset]={walk.offset}: {error}") from error
                if filters:
                    raise _FilterRefused from error
                raise
            walk.limit = self._page_size
            past_start = start is not None and _any_before(listing, start)
            if filters and past_start:
                raise _FilterRefused
            contiguous = walk.take(listing)
            yield listing
            if walk.ended or (contiguous and past_start and walk.newest_first):
                return
        raise WindowTooLarge(f"the list has not ended after {_MOST_PAGES:,} pages")

    async def _ask(self, *, offset: int = 0, most: int | None = None, **selection: Any) -> Listing[Item]:
        """One page; where a whole one is too large, half of it, from now on."""
        while True:
            limit = min(self._page_size, most or self._page_size)
            try:
                return await self._fetch(**selection, limit=limit, offset=offset)
            except TooLarge:
                if limit == _SMALLEST_PAGE:
                    raise
                self._page_size = max(_SMALLEST_PAGE, limit // 2)
                log.warning("a page was too large; asking for %d rows at once from now on", self._page_size)

    # -- what the API can do

    async def _abilities(self) -> Abilities:
        remembered = _decode_abilities(await self._memory.recall(_MEMORY_KEY))
        if remembered is None:
            return await self._probe()
        stale = self._clock() - remembered.probed > _PROBED_AGAIN
        return await self._probe() if stale and not remembered.time_filter else remembered

    async def _probe(self, *, time_filter: bool = True) -> Abilities:
        """Find out with three requests, by comparing answers: a server may ignore or misread what it does not know."""
        sort, newest = await self._newest()
        oldest = await self._oldest() if newest and sort == _NEWEST_FIRST else None
        others = [moment for moment in (*reversed(newest), *(oldest or ())) if moment != newest[0]]
        if not others:  # nothing to tell apart yet, so nothing is learnt
            return Abilities(sort=sort, probed=self._clock())
        abilities = Abilities(
            time_filter=time_filter and await self._filters_by_time(sort, others[0]),
            sorts=sort == _NEWEST_FIRST and _newest_first(newest) and (oldest is None or oldest[:1] < newest[:1]),
            sort=sort,
            probed=self._clock(),
        )
        log.info(
            "the API %s and %s", _can(abilities.time_filter, "filter by time"), _can(abilities.sorts, "sort by it")
        )
        await self._memory.remember(_MEMORY_KEY, msgspec.json.encode(abilities).decode())
        return abilities

    async def _newest(self) -> tuple[str, tuple[datetime, ...]]:
        try:
            return _NEWEST_FIRST, (await self._ask(most=_PROBED, sort=_NEWEST_FIRST)).times
        except RequestRejected:
            return "-createdAt", (await self._ask(most=_PROBED, sort="-createdAt")).times

    async def _oldest(self) -> tuple[datetime, ...] | None:
        """None where the API refuses to sort that way: then it knows which sorts it knows, and newest first is one."""
        try:
            return (await self._ask(most=_PROBED, sort="updatedAt")).times
        except RequestRejected:
            return None

    async def _filters_by_time(self, sort: str, moment: datetime) -> bool:
        """Asked for one moment among several, it gives rows of that moment and no others."""
        filters = {"updatedAt": _bounds(moment, moment)}
        try:
            found = (await self._ask(most=_PROBED, filters=filters, sort=sort)).times
        except RequestRejected:
            return False
        except Unavailable as error:
            if error.status in _SERVER_ERRORS:
                return False
            raise
        return bool(found) and all(abs(time - moment) <= 2 * _MILLISECOND for time in found)


class _Walk:
    """Where a walk through a list stands: pure bookkeeping, no requests.

    The rows seen so far are one unbroken stretch of the list from where the walk began. A page that shows one of them
    again continues the stretch; a page that shows none might not, and is not counted until the reader has stepped back.
    """

    def __init__(self, page_size: int, offset: int, totals: _Totals, *, newest_first: bool) -> None:
        self.offset = offset
        self.limit = page_size
        self.ended = False
        self.newest_first = newest_first
        """The API is known to sort that way, and has done so until now."""
        self._start = offset
        self._totals = totals
        self._seen: OrderedDict[RowKey, None] = OrderedDict()
        self._last: tuple[RowKey, ...] = ()
        self._reached: datetime | None = None
        """How far down in time the stretch goes."""
        self._linked = False
        """The next page is asked for so that it overlaps what was seen."""
        self._back = 0
        self._in_vain = 0
        self._restarts = 0
        self._same_end = 0
        self._empty = 0

    def take(self, listing: Listing[Any]) -> bool:
        """Note a page and decide where to go on. False when rows may lie between it and what was read before."""
        keys = listing.keys
        if not keys:
            self._take_empty(listing)
            return False
        self._empty = 0
        fresh = [key for key in keys if key not in self._seen]
        times = listing.times
        if self._linked and len(fresh) == len(keys) and not self._continues(times):
            if self.offset > self._start:
                self._step_back()
                return False
            self._restart()
        self._note_order(times)
        self._note_progress(made=bool(fresh))
        self._seen.update(dict.fromkeys(fresh))
        for _ in range(len(self._seen) - max(_REMEMBERED_ROWS, 3 * self.limit)):
            self._seen.popitem(last=False)
        self._go_on(listing, keys, made_progress=bool(fresh))
        return True

    def _take_empty(self, listing: Listing[Any]) -> None:
        """The end where it was looked for, if the vendor's total agrees; otherwise the list shrank, or has a hole."""
        self._empty += 1
        more = self._totals.promise_more(listing, self.offset)
        if not more and (self.offset == self._start or not self._linked):
            self.ended = True
        elif self._empty < _EMPTY_BELIEVED:
            pass  # the same again: it may have been a slip
        elif not more:
            self._step_back()
        elif self._empty == _EMPTY_BELIEVED + _MOST_EMPTY_PAGES:
            self._give_up_on_the_rest()
        else:
            self.offset += self.limit
            self._linked = False

    def _give_up_on_the_rest(self) -> None:
        reached = self.offset - _MOST_EMPTY_PAGES * self.limit
        if reached and reached % _ROUND == 0:
            raise WindowTooLarge(
                f"the API shows nothing beyond page[offset]={reached}, though its total says there is more"
            )
        self._totals.overcount = True
        self.ended = True

    def _step_back(self) -> None:
        """None of these rows was seen: the list moved up under the reader."""
        self._note_progress(made=False)
        self._back = max(2 * self._back, self._overlap(self.limit))
        self.offset = max(self._start, self.offset - self._back)
        self._linked = True

    def _restart(self) -> None:
        """Not even the top is as it was. What was seen still counts: no row that stays as it is comes to lie before it unseen."""
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise Unavailable(_TOO_FAST)

    def _continues(self, times: Sequence[datetime]) -> bool:
        """Newer rows came in above and pushed the stretch down: a sorted page that begins above its end leaves no gap."""
        return bool(self.newest_first and self._reached and times and times[0] > self._reached)

    def _note_order(self, times: Sequence[datetime]) -> None:
        self.newest_first = self.newest_first and _newest_first(times)
        if times:
            self._reached = min(times[-1], self._reached or times[-1])

    def _note_progress(self, *, made: bool) -> None:
        self._in_vain = 0 if made else self._in_vain + 1
        if self._in_vain > _MOST_PAGES_IN_VAIN:
            raise Unavailable(_TOO_FAST)

    def _go_on(self, listing: Listing[Any], keys: tuple[RowKey, ...], *, made_progress: bool) -> None:
        rows, end = listing.rows, self.offset + listing.rows
        short = rows < self.limit
        self._same_end = self._same_end + 1 if keys[-1:] == self._last[-1:] else 0
        self._totals.note(listing)
        if short and (self._same_end == _SAME_END_BELIEVED or self._totals.tell_the_end(listing, end)):
            self.ended = True
        elif keys != self._last or self._same_end > 1:  # a page that repeats the last is asked for once more
            self.offset = end - (self._overlap(rows) if made_progress and not short else min(1, rows - 1))
            self._linked = rows > 1
        self._back, self._last = 0, keys

    def _overlap(self, rows: int) -> int:
        return min(rows // 2, max(1, self.limit // 20), _MOST_OVERLAP)


class _Totals:
    """Whether ``meta.totalRecords`` deserves trust: some APIs count the page, some everything there is."""

    def __init__(self) -> None:
        self.overcount = False
        self._exceeds_pages = False

    def note(self, listing: Listing[Any]) -> None:
        """Learn from a page."""
        if listing.total is not None and listing.total > listing.rows:
            self._exceeds_pages = True

    def promise_more(self, listing: Listing[Any], offset: int) -> bool:
        """It says that there are rows from ``offset`` on."""
        return not self.overcount and listing.total is not None and listing.total > offset

    def tell_the_end(self, listing: Listing[Any], end: int) -> bool:
        """It says that there are none from ``end`` on, and has shown that it counts more than the page."""
        return self._exceeds_pages and not self.overcount and listing.total is not None and listing.total <= end


def _can(able: bool, what: str) -> str:  # noqa: FBT001 (private, and plain where it is called)
    return f"can {what}" if able else f"cannot {what}"


def updated_at(item: dict[str, Any]) -> datetime | None:
    """When the vendor last changed an item."""
    attributes = item.get("attributes")
    value = (attributes if isinstance(attributes, dict) else item).get("updatedAt")
    return parse_time(value["value"] if isinstance(value, dict) and "value" in value else value)


def _newest_first(times: Sequence[datetime]) -> bool:
    return all(map(ge, times, times[1:]))


def _any_before(listing: Listing[Any], start: datetime) -> bool:
    return bool(listing.times) and min(listing.times) < start - 2 * _MILLISECOND


def _bounds(start: datetime, end: datetime | None) -> dict[str, str]:
    """Inclusive bounds, rounded outward by a millisecond: what is stored finer than it is shown must not fall out."""
    bounds = {"gte": _in_milliseconds(start - _MILLISECOND)}
    return bounds if end is None else {**bounds, "lte": _in_milliseconds(end + 2 * _MILLISECOND)}


def _in_milliseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decode_abilities(remembered: str | None) -> Abilities | None:
    try:
        return msgspec.json.decode(remembered, type=Abilities) if remembered else None
    except msgspec.MsgspecError:
        return None
