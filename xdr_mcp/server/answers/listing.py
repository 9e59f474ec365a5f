"""Listings: a page of alerts, newest first, storms folded, within a budget.

The forms of a page, from the fullest to the barest: rows; compact and brief rows; clusters, which bring together what looks alike;
the bare ids beside counts; and, when not even those fit, fewer of them, with the cursor that goes on behind the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct

from xdr_mcp.interfaces import Position
from xdr_mcp.query import Query, parse
from xdr_mcp.server.answers.budget import Answer, fitted, most_that_fit
from xdr_mcp.server.answers.coverage import Detail, caveat
from xdr_mcp.server.answers.desk import Desk, Reach
from xdr_mcp.server.answers.storms import Folding, Storm, coarser
from xdr_mcp.server.answers.telling import (
    BRIEF,
    COMPACT,
    FULL,
    Shape,
    check_fields,
    told_counts,
    told_fields,
    told_labels,
    told_row,
    told_time,
)
from xdr_mcp.server.cursor import Place
from xdr_mcp.untrusted import spell

PAGE = 25
SCANNED = 1_000
"""Alerts that are read at most for one page: a storm may take so many of them before others get no row."""
COUNTED = 10_000
"""Where counting what matches ends: a page need not wait for it. What tallies count is told whole."""
PER_ROW = 60
"""Tokens of a page for each row, where no budget was given, and the fence of one that is told as text."""
_FENCE = 14

_BATCH = 200
_UNCOUNTED = f"total is at least {COUNTED}; count_alerts counts them all"


class Question(Struct, frozen=True, kw_only=True):
    """What a page is asked with."""

    tool: str
    text: str
    limit: int = PAGE
    cursor: str | None = None
    fields: Sequence[str] = ()
    as_of: str | None = None
    budget: int | None = None

    @property
    def tokens(self) -> int:
        """What the page may cost."""
        return self.budget or PER_ROW * max(self.limit, PAGE) + _FENCE


class Page(Struct, frozen=True, kw_only=True):
    """What was found for a page: the rows, and what goes with them."""

    storms: tuple[Storm, ...]
    scanned: int
    next: Position | None
    total: int
    asked: datetime
    as_of: datetime | None

    @property
    def uncounted(self) -> bool:
        """There are more than were counted."""
        return self.total == COUNTED + 1


Rows: TypeAlias = Callable[[Sequence[Storm]], list[dict[str, Any]]]
Form: TypeAlias = Callable[[Page, str], Answer]
"""A page, and in which way it is only a part of what was asked for, as it is told."""


async def listing(desk: Desk, question: Question) -> Answer:
    """One page of the alerts that match, newest first, with the cursor of the next one.

    Raises:
        QueryError: the query, or ``as_of``, cannot be understood.
        BadCursor: the cursor was not given out by this tool for this question.
        UnknownField: a field asked for does not exist.
    """
    check_fields(question.fields)
    return await _Listing(desk, question).answer()


async def newest(desk: Desk, text: str = "") -> Answer:
    """The newest alerts that match: what the recent and search resources hold."""
    answer = await listing(desk, Question(tool="newest", text=text))
    more = answer.data.pop("next_cursor", None) is not None
    return Answer(answer.line, {"alerts": answer.data.pop("alerts"), "more": more} | answer.data)


class _Listing:
    """One question on its way to its answer."""

    def __init__(self, desk: Desk, question: Question) -> None:
        self._desk = desk
        self._question = question
        self._signed = (question.tool, question.text, question.as_of or "")
        self._place = desk.cursors.open(question.cursor, *self._signed) if question.cursor else None
        self._asked = self._place.asked if self._place else desk.clock()
        self._query: Query = parse(question.text, now=self._asked)
        self._as_of = desk.as_of(question.as_of, self._asked)
        self._total = self._place.total if self._place else None

    async def answer(self) -> Answer:
        """The page in the fullest form that its budget allows."""
        reach = await self._desk.reach(self._query, self._as_of)
        page = await self._page(self._question.limit)
        whole = self._told(page, reach, self._rows(FULL), "", Detail.FULL)
        if whole.tokens <= self._question.tokens:
            return whole
        forms = self._forms(reach, whole.tokens)
        if not self._question.fields:  # what was asked for by name is not exchanged for less
            answer = fitted((form(page, "") for form in forms[1:]), self._question.tokens)
            if answer.tokens <= self._question.tokens:
                return answer
        return await self._fewer(page, forms)

    async def _fewer(self, page: Page, forms: Sequence[Form]) -> Answer:
        """As many rows as fit: with fields, of those that were asked for; otherwise, of the barest."""
        budget, all_of_them = self._question.tokens, len(page.storms)
        form = forms[0] if self._question.fields else forms[-1]

        def how(number: int) -> str:
            return f"{number} of {all_of_them} rows" if number < all_of_them else ""

        number = most_that_fit(all_of_them, lambda count: form(_first(page, count), how(count)).tokens <= budget)
        while number > 1:
            answer = form(await self._page(number), how(number))
            if answer.tokens <= budget:
                return answer
            number -= 1  # a storm that is read less far may name members that it did not
        one = await self._page(1)
        return fitted((form(one, how(1)) for form in forms), budget)

    # -- reading

    async def _page(self, limit: int) -> Page:
        storms, scanned, following = await self._scan(limit)
        assert self._total is not None, "the first page was asked for it"
        total = self._total if following or self._place else scanned
        return Page(storms=storms, scanned=scanned, next=following, total=total, asked=self._asked, as_of=self._as_of)

    async def _scan(self, limit: int) -> tuple[tuple[Storm, ...], int, Position | None]:
        """Read on until there are ``limit`` rows, the end is reached, or enough was read."""
        folding = Folding(limit, apart=bool(self._question.fields))
        at = self._place.after if self._place else None
        scanned, size = 0, limit
        while True:
            most = COUNTED if self._total is None else None
            found = await self._desk.store.find(self._query, size, at, self._as_of, most)
            if self._total is None:
                self._total = found.total
            taken = folding.take(found.alerts)
            scanned += taken
            if taken < len(found.alerts):
                return folding.storms, scanned, await self._behind(at, taken)
            at = found.next
            if at is None or not folding.missing or scanned >= SCANNED:
                return folding.storms, scanned, at
            size = min(_BATCH, SCANNED - scanned)

    async def _behind(self, at: Position | None, number: int) -> Position | None:
        """The place behind the next ``number`` alerts."""
        while number:
            found = await self._desk.store.find(self._query, number, at, self._as_of)
            at, number = found.next, number - len(found.alerts)
            if at is None:
                break
        return at

    # -- telling

    def _rows(self, shape: Shape) -> Rows:
        asked, fields = self._question.text, self._question.fields
        if fields and shape is FULL:
            return lambda storms: [told_fields(storm.alert, fields) for storm in storms]
        return lambda storms: [told_row(storm, shape, asked) for storm in storms]

    def _forms(self, reach: Reach, costs: int) -> list[Form]:
        """The forms of a page or of a part of it; those that leave something out say so, and what all of it costs."""

        def form(rows: Rows, less: str = "", detail: Detail = Detail.BRIEF) -> Form:
            def told(part: Page, how: str) -> Answer:
                reduced = ", ".join(filter(None, (how, less)))
                return self._told(part, reach, rows, reduced and f"{reduced}; in full {costs} tokens", detail)

            return told

        full = form(self._rows(FULL), detail=Detail.FULL)
        compact = form(self._rows(COMPACT), "compact rows")
        ids = form(_ids, "counts and ids", Detail.BARE)
        if self._question.fields:
            return [full, compact, ids]
        brief = form(self._rows(BRIEF), "brief rows")
        return [full, compact, brief, form(_clusters, "clusters of what looks alike"), ids]

    def _told(self, page: Page, reach: Reach, rows: Rows, reduced: str, detail: Detail) -> Answer:
        told = rows(page.storms)
        data: dict[str, Any] = {"alerts": told, "total": COUNTED if page.uncounted else page.total}
        if detail is Detail.BARE:
            data["counts"] = told_counts(page.storms)
        if page.next:
            data["next_cursor"] = self._desk.cursors.sign(Place(page.asked, page.total, page.next), *self._signed)
        if page.as_of:
            data["as_of"] = told_time(page.as_of)
            for row in told:
                if "query" in row:  # its members as they were, too
                    row["as_of"] = data["as_of"]
        if parts := [*filter(None, (reduced, _UNCOUNTED if page.uncounted else ""))]:
            data["reduced"] = "; ".join(parts)
        data |= told_labels(told)
        data |= reach.told(detail)
        return Answer(_line(page, data), data)


def _first(page: Page, number: int) -> Page:
    """As though the page had ended there."""
    return Page(
        storms=page.storms[:number],
        scanned=page.scanned,
        next=page.next or Position(page.asked, 0),
        total=page.total,
        asked=page.asked,
        as_of=page.as_of,
    )


def _clusters(storms: Sequence[Storm]) -> list[dict[str, Any]]:
    """What looks alike in one row, with the ids of all that would have had a row."""
    rows = []
    for cluster in coarser(storms):
        row = told_row(cluster, COMPACT)
        ids = {"ids": [spell(alert_id) for alert_id in cluster.ids]} if cluster.ids else {}
        rows.append({key: value for key, value in row.items() if key not in {"about", "query"}} | ids)
    return rows


def _ids(storms: Sequence[Storm]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("id", "count", "ids") if key in row} for row in _clusters(storms)]


def _line(page: Page, data: dict[str, Any]) -> str:
    """The page in one line, for whoever reads text only."""
    alerts = sum(storm.count for storm in page.storms)
    total = f"more than {COUNTED}" if page.uncounted else page.total
    line = f"{alerts} of {total} alerts, newest first" if alerts else "No alert matches"
    if alerts > len(data["alerts"]):
        line += f", in {len(data['alerts'])} rows"
    if "next_cursor" in data:
        line += "; next_cursor given"
    return f"{line}. {caveat(data['coverage'])}".strip()
