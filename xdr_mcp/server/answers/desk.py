"""Asks the store and words what it says."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec

from xdr_mcp.alert import Alert
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.interfaces import Clock, Store
from xdr_mcp.query import Query, parse
from xdr_mcp.server.answers.coverage import caveat, told_coverage, told_state
from xdr_mcp.server.answers.telling import RECENT_ROWS, rows, told_raw, told_time, told_whole
from xdr_mcp.server.cursor import Cursors, Place
from xdr_mcp.untrusted import spell, unspell, visible

ALERT_FIELDS = tuple(field.name for field in msgspec.structs.fields(Alert))

_NEIGHBOURS_SEARCHED = 500


class UnknownField(XdrMcpError):
    """An alert has no such field."""


class UnknownAlert(XdrMcpError):
    """No alert has this id."""


class Answers:
    """Asks the store and words what it says."""

    def __init__(self, store: Store, clock: Clock, cursors: Cursors) -> None:
        self.store = store
        self._clock = clock
        self._cursors = cursors

    # -- listings

    async def listing(
        self, tool: str, text: str, *, limit: int, cursor: str | None = None, fields: Sequence[str] = ()
    ) -> dict[str, Any]:
        """One page of the alerts that match ``text``, newest first, with the cursor of the next one.

        Raises:
            QueryError: the query cannot be understood.
            BadCursor: the cursor was not given out by this tool for this query.
            UnknownField: a field asked for does not exist.
        """
        _check_fields(fields)
        place = self._cursors.open(cursor, tool, text) if cursor else None
        asked = place.asked if place else self._clock()
        query = parse(text, now=asked)
        found = await self.store.find(query, limit, place.after if place else None)
        total = place.total if place else len(found.alerts)
        if found.next and not place:
            total = await self.store.count(query)
        page: dict[str, Any] = {"alerts": rows(found.alerts, fields), "total": total}
        if found.next:
            page["next_cursor"] = self._cursors.sign(Place(asked, total, found.next), tool, text)
        return page | {"coverage": await self.coverage()}

    async def newest(self, text: str = "") -> dict[str, Any]:
        """The newest alerts that match: what the recent and search resources hold."""
        found = await self.store.find(parse(text, now=self._clock()), RECENT_ROWS)
        return {"alerts": rows(found.alerts), "more": found.next is not None, "coverage": await self.coverage()}

    # -- one alert

    async def alert(self, told_id: str, *, include_raw: bool = False) -> dict[str, Any]:
        """One alert whole, as of its newest revision, by its id or by its id as it was told.

        Raises:
            UnknownAlert: with the ids that come closest.
        """
        change = await self.store.get(unspell(told_id))
        if change is None and "%" in told_id:
            change = await self.store.get(told_id)
        if change is None:
            raise UnknownAlert(await self._unknown(told_id))
        answer = told_whole(change)
        if include_raw:
            answer["raw"] = told_raw(change.raw)
        return answer | {"coverage": await self.coverage()}

    async def _unknown(self, told_id: str) -> str:
        known = [alert.id for alert in (await self.store.find(Query(), _NEIGHBOURS_SEARCHED)).alerts]
        same = [
            f"{state.source}/{told_id}"
            for state in await self.store.states()
            if await self.store.get(f"{state.source}/{told_id}")
        ]
        close = same or difflib.get_close_matches(told_id, known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(map(spell, close))}?" if close else ""
        return (
            f"No alert has the id {visible(told_id)}.{hint} Ids are <source>/<vendor id>, "
            "as list_alerts and filter_alerts give them."
        )

    # -- how far the picture reaches

    async def coverage(self) -> list[dict[str, Any]]:
        """Per source: its state, and how many seconds old its picture is."""
        now = self._clock()
        return [told_coverage(state, now) for state in await self.store.states()]

    async def status(self) -> dict[str, Any]:
        """Everything an operator asks first: sources, lag, who polls, where the journal stands."""
        now = self._clock()
        states = await self.store.states()
        return {
            "now": told_time(now),
            "last_seq": await self.store.last_seq(),
            "sources": [told_state(state, now) for state in states],
        }


def summary(page: dict[str, Any]) -> str:
    """A page of alerts in one line, for whoever reads text only."""
    shown, total = len(page["alerts"]), page["total"]
    line = f"{shown} of {total} alerts, newest first" if shown else "No alert matches"
    if "next_cursor" in page:
        line += "; next_cursor given"
    return f"{line}. {caveat(page['coverage'])}".strip()


def _check_fields(fields: Sequence[str]) -> None:
    if unknown := [visible(name) for name in fields if name not in ALERT_FIELDS]:
        raise UnknownField(f"No such field: {', '.join(unknown)}. An alert has {', '.join(ALERT_FIELDS)}")
