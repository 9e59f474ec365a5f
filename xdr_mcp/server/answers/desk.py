"""What every question is answered with: the store, a clock, and how far the picture reaches."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from xdr_mcp.alert import Change
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.interfaces import Clock, SourceState, Store
from xdr_mcp.query import Query, instant
from xdr_mcp.server.answers.coverage import EVER, Detail, Span, sources_of, span_of, told_blind, told_coverage
from xdr_mcp.server.answers.telling import told_time
from xdr_mcp.server.cursor import Cursors
from xdr_mcp.untrusted import contained, spell, unspell

_NEIGHBOURS_SEARCHED = 500
_ID_SHOWN = 200


class UnknownAlert(XdrMcpError):
    """No alert has this id."""


class Reach(Struct, frozen=True):
    """How far an answer reaches: the sources it can come from, the times it is about, and the newest change it may know."""

    states: tuple[SourceState, ...]
    now: datetime
    span: Span
    seq: int
    stored_since: datetime | None = None
    """When the first of what is stored was stored, where the moment that is asked about lies before it."""

    def of(self, source: str) -> Reach:
        """How far it reaches for what comes from one source."""
        states = tuple(state for state in self.states if state.source == source)
        return structs.replace(self, states=states or self.states)

    def told(self, detail: Detail = Detail.FULL) -> dict[str, Any]:
        """The part of every answer that says so; ``seq`` is where ``alert_changes`` goes on."""
        coverage = told_coverage(self.states, self.now, self.span, detail)
        if self.stored_since:
            coverage = told_blind(coverage, f"nothing was stored before {told_time(self.stored_since)}")
        return {"coverage": coverage, "seq": self.seq}


class Desk:
    """Where questions are answered."""

    def __init__(
        self, store: Store, clock: Clock, cursors: Cursors, facts: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self.store = store
        self.clock = clock
        self.cursors = cursors
        self.facts = facts
        """Further facts about the installation, such as where the data lies."""

    async def reach(self, query: Query | None = None, as_of: datetime | None = None) -> Reach:
        """How far answers to ``query`` reach. Asked before the answers are, so that ``seq`` never skips a change.

        Of a moment before anything was stored nothing is known, however far back at the vendor it was read later.
        """
        seq = await self.store.last_seq()
        states = await self.store.states()
        span = span_of(query) if query else EVER
        sources = tuple(sources_of(query, states) if query else states)
        return Reach(sources, self.clock(), span, seq, await self._stored_after(as_of))

    async def _stored_after(self, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        first = await self.store.changes(0, 1)
        return first[0].saved if first and first[0].saved > moment else None

    def as_of(self, text: str | None, now: datetime) -> datetime | None:
        """The moment that is asked about.

        Raises:
            QueryError: it is no time.
        """
        return instant(text, now=now) if text else None

    async def alert(self, told_id: str, as_of: datetime | None = None) -> Change:
        """The newest revision of an alert (at ``as_of``), by its id or by its id as it was told.

        Raises:
            UnknownAlert: with the ids that come closest.
        """
        change = await self.store.get(unspell(told_id), as_of)
        if change is None and "%" in told_id:
            change = await self.store.get(told_id, as_of)
        if change is None:
            raise UnknownAlert(await self._unknown(told_id, as_of))
        return change

    async def _unknown(self, told_id: str, as_of: datetime | None) -> str:
        shown = contained(told_id, _ID_SHOWN)
        if as_of is not None and await self.store.get(unspell(told_id)):
            return f"{shown} was not known at {as_of.isoformat()}; ask without as_of, or for a later time."
        known = [alert.id for alert in (await self.store.find(Query(), _NEIGHBOURS_SEARCHED)).alerts]
        same = [
            f"{state.source}/{told_id}"
            for state in await self.store.states()
            if await self.store.get(f"{state.source}/{told_id}")
        ]
        close = same or difflib.get_close_matches(told_id, known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(map(spell, close))}?" if close else ""
        return (
            f"No alert has the id {shown}.{hint} "
            "An id is a source's name, a slash and the vendor's id, as list_alerts and filter_alerts give it."
        )
