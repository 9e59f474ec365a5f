"""Counts over the whole store, never over a page of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdr_mcp.interfaces import Grouped
from xdr_mcp.query import parse
from xdr_mcp.server.answers.budget import Answer, fitted, most_that_fit
from xdr_mcp.server.answers.coverage import Detail, caveat
from xdr_mcp.server.answers.desk import Desk
from xdr_mcp.server.answers.telling import told_time
from xdr_mcp.untrusted import contained_line

GROUPS = 20
"""Groups that are told, where no number was given."""
BUDGET = 1_500
"""Tokens, where no budget was given."""

_VALUE_SHOWN = 200


async def counts(
    desk: Desk,
    text: str,
    by: Sequence[str] = (),
    *,
    limit: int = GROUPS,
    as_of: str | None = None,
    budget: int | None = None,
) -> Answer:
    """How many alerts match; with ``by``, in groups of equal values, the largest first.

    Raises:
        QueryError: the query, ``by`` or ``as_of`` cannot be understood.
    """
    now = desk.clock()
    query = parse(text, now=now)
    moment = desk.as_of(as_of, now)
    reach = await desk.reach(query, moment)
    allowed = budget or BUDGET
    if by:
        grouped = await desk.store.count_by(query, by, limit, moment)
    else:
        grouped = Grouped((), 0, await desk.store.count(query, moment))

    def form(number: int, detail: Detail) -> Answer:
        data: dict[str, Any] = {"total": grouped.total}
        if by:
            data["groups"] = [
                {_KEYS.get(name, name): _value(value) for name, value in zip(by, group.values, strict=True)}
                | {"count": group.count}
                for group in grouped.groups[:number]
            ]
            data["others"] = grouped.others + len(grouped.groups) - number
        if moment:
            data["as_of"] = told_time(moment)
        if number < len(grouped.groups):
            data["reduced"] = f"{number} of {len(grouped.groups)} groups"
        if any(name not in _OURS for name in by):
            data["untrusted"] = ["groups"]
        data |= reach.told(detail)
        return Answer(f"{grouped.total} alerts. {caveat(data['coverage'])}".strip(), data)

    full = fitted((form(len(grouped.groups), detail) for detail in reversed(Detail)), allowed)
    if full.tokens <= allowed or not grouped.groups:
        return full
    fits = most_that_fit(len(grouped.groups), lambda number: form(number, Detail.BARE).tokens <= allowed)
    return form(fits, Detail.BARE)


_OURS = frozenset({"severity", "status", "verdict", "source", "risk_score", "confidence", "count"})
"""What is counted by in our words, or in numbers."""
_KEYS = {"count": "event_count"}
"""How a field is told whose own name says how large a group is: by its other name."""


def _value(value: str | None) -> str | None:
    return None if value is None else contained_line(value, _VALUE_SHOWN)
