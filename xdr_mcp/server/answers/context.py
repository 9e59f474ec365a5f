"""What the vendor knows about an alert beside the alert: events, assets, intelligence. Fetched live, kept for some minutes.

The vendor may be slow, or away. Each part is asked for by itself, so that one which fails is told as failed and costs none of
the others, and what is stored about the alert is told in any case.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import anyio
import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert
from xdr_mcp.errors import SourceError
from xdr_mcp.interfaces import Clock, ContextItems, ContextSource
from xdr_mcp.server.answers.budget import Answer, fitted, most_that_fit
from xdr_mcp.server.answers.coverage import Detail, caveat
from xdr_mcp.server.answers.desk import Desk, Reach
from xdr_mcp.server.answers.storms import Storm
from xdr_mcp.server.answers.telling import BRIEF, FULL, one_line, told_entity, told_row
from xdr_mcp.untrusted import contained_json

BUDGET = 3_000
"""Tokens, where no budget was given."""

_FRESH = timedelta(minutes=5)
_KEPT = 128
"""Parts that are kept, the latest asked for."""
_KEPT_BYTES = 65_536
"""Most of one part that is kept, in bytes of JSON."""
_ASKED = 20
"""Items of each part that the vendor is asked for, the newest."""
_PATIENCE = 20.0
"""Seconds that the vendor has for one part."""
_VALUE_SHOWN = 400
_BRIEF_VALUE = 60
_ERROR_SHOWN = 200
_ENTITIES = 20

Progress: TypeAlias = Callable[[float, float, str], Awaitable[None]]


class Part(Struct, frozen=True):
    """One part of an alert's context, as it was fetched."""

    items: tuple[Any, ...]
    total: int | None
    fetched: datetime


class LiveContext:
    """Asks the sources that can tell more, and keeps what they told."""

    def __init__(
        self, sources: Mapping[str, ContextSource], clock: Clock, connect: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._sources = sources
        self._connect = connect
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], Part] = OrderedDict()

    async def refusal(self, source: str) -> str:
        """Why nothing can be fetched for an alert of this source; empty when something can."""
        if self._connect is not None and source not in self._sources:
            await self._connect()
        known = self._sources.get(source)
        if known is None:
            return (
                f"{source} tells no more than the alert, or is not polled by this process; get_alert has all there is"
            )
        return known.idle_reason

    def parts(self, source: str) -> Sequence[str]:
        """What can be fetched."""
        return self._sources[source].context_parts

    async def part(self, alert: Alert, name: str) -> Part:
        """One part, at most some minutes old.

        Raises:
            SourceError: the vendor failed, or took too long.
        """
        key = (alert.id, name)
        kept = self._kept.get(key)
        if kept is None or self._clock() - kept.fetched > _FRESH:
            kept = self._kept[key] = await self._fetch(alert, name)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _fetch(self, alert: Alert, name: str) -> Part:
        found: ContextItems | None = None
        with anyio.move_on_after(_PATIENCE):
            found = await self._sources[alert.source].context(alert.vendor_id, name, _ASKED)
        if found is None:
            raise SourceError(f"the vendor did not answer within {_PATIENCE:.0f} s; try again later")
        return Part(tuple(_bounded(found.items)), found.total, self._clock())


def _bounded(items: Sequence[Mapping[str, Any]]) -> list[Any]:
    """As many as may be kept, contained, their long texts capped."""
    kept, size = [], 0
    for item in items[:_ASKED]:
        told = contained_json(item, _VALUE_SHOWN)
        size += len(msgspec.json.encode(told))
        if size > _KEPT_BYTES:
            break
        kept.append(told)
    return kept


class _Fetched(Struct):
    """What came of all parts."""

    alert: Alert
    parts: dict[str, Part]
    failed: dict[str, str]


async def alert_context(
    desk: Desk, live: LiveContext, told_id: str, progress: Progress, *, budget: int | None = None
) -> Answer:
    """An alert with its events, assets and intelligence, as far as its vendor tells them.

    Raises:
        UnknownAlert: with the ids that come closest.
    """
    reach = await desk.reach()
    alert = (await desk.alert(told_id)).alert
    reach = reach.of(alert.source)
    fetched = _Fetched(alert, {}, {})
    if refusal := await live.refusal(alert.source):
        fetched.failed["all"] = refusal
        return _told(fetched, reach, desk.clock(), budget or BUDGET)
    names = live.parts(alert.source)
    for number, name in enumerate(names):
        await progress(number, len(names), f"asking {alert.source} for {name}")
        try:
            fetched.parts[name] = await live.part(alert, name)
        except SourceError as error:
            fetched.failed[name] = one_line(str(error), _ERROR_SHOWN)
    await progress(len(names), len(names), "done")
    return _told(fetched, reach, desk.clock(), budget or BUDGET)


# ---------------------------------------------------------------- telling


def _told(fetched: _Fetched, reach: Reach, now: datetime, budget: int) -> Answer:
    most = max((len(part.items) for part in fetched.parts.values()), default=0)

    def form(number: int, reduced: str = "", *, brief: bool = False, detail: Detail = Detail.FULL) -> Answer:
        data = _told_alert(fetched.alert, brief=brief)
        for name, part in fetched.parts.items():
            items = [_brief(item) if brief else item for item in part.items[:number]]
            total = len(part.items) if part.total is None else part.total
            data[name] = {"items": items, "total": total, "age_s": round((now - part.fetched).total_seconds())}
        data |= {"failed": fetched.failed} if fetched.failed else {}
        data |= {"reduced": reduced} if reduced else {}
        data |= {"untrusted": ["alert", *fetched.parts]} | reach.told(detail)
        told = [f"{len(part.items)} {name}" for name, part in fetched.parts.items()]
        told += [f"not fetched: {', '.join(fetched.failed)}"] if fetched.failed else []
        return Answer(f"{'; '.join(told)}. {caveat(data['coverage'])}".strip(), data)

    brief = "brief items: plain values alone"
    answer = fitted((form(most), form(most, brief, brief=True, detail=Detail.BRIEF)), budget)
    if answer.tokens <= budget or not most:
        return answer
    number = most_that_fit(most, lambda count: form(count, brief, brief=True, detail=Detail.BARE).tokens <= budget)
    some = form(number, f"{number} items each, {brief}", brief=True, detail=Detail.BARE)
    return some if some.tokens <= budget else form(0, "totals alone", brief=True, detail=Detail.BARE)


def _told_alert(alert: Alert, *, brief: bool) -> dict[str, Any]:
    if brief:
        return {"alert": told_row(Storm.of(alert), BRIEF)}
    row = told_row(Storm.of(alert), FULL)
    row["about"] = [told_entity(entity, FULL.entity) for entity in alert.entities[:_ENTITIES]]
    return {"alert": row | ({"techniques": list(alert.techniques)} if alert.techniques else {})}


def _brief(item: Any) -> Any:
    """An object without what is nested in it, and without its long values."""
    if not isinstance(item, dict):
        return item
    return {
        key: value
        for key, value in item.items()
        if isinstance(value, int | float) or (isinstance(value, str) and 0 < len(value) <= _BRIEF_VALUE)
    }
