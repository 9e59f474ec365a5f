"""The tools. Few, small to describe, and each answer small to read; what all have in common is in ``tool``."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import BeforeValidator, Field

from xdr_mcp.alert import Severity, Status
from xdr_mcp.query import guide, literal
from xdr_mcp.server import schema
from xdr_mcp.server.answers import budget as budgets
from xdr_mcp.server.answers import context, counting, journal, listing, one, related, status
from xdr_mcp.server.answers.desk import Desk
from xdr_mcp.server.answers.listing import Question
from xdr_mcp.server.tool import alert_tool, refusals, told

WAIT = 25.0
"""Seconds to wait, where none were given: some hosts give a call no more than thirty."""
LONGEST_WAIT = 300.0


def _listed(value: object) -> object:
    """``a, b`` as well as a list: models write either."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Budget = Annotated[int | None, Field(ge=budgets.LEAST, le=budgets.MOST, description="Tokens for the answer")]
Limit = Annotated[int, Field(ge=1, le=100, description="Most rows")]
AlertId = Annotated[str, Field(description="As rows give it")]
Cursor = Annotated[str | None, Field(description="next_cursor, rest unchanged")]
Fields = Annotated[
    list[str] | None, BeforeValidator(_listed), Field(description="Of get_alert, instead; a row for each alert")
]
Query = Annotated[str, Field(description="As of filter_alerts")]
AsOf = Annotated[str | None, Field(description="What was known then: ISO or -2h")]
AsText = Annotated[bool, Field(description="Data as text")]

LIST = (
    "The newest alerts. Near-duplicates share a row: count, first, last, ids or query. "
    "An empty list proves nothing about a source whose coverage is blind or has gaps."
)
GET = "One alert in full."
FILTER = "Find alerts, newest first, rows as of list_alerts."
COUNT = "How many alerts match, over the whole store, in groups of equal values, the largest first."
CHANGED = (
    "The numbered journal: what was created, updated, closed or reopened after since, with the fields that differ. "
    "Go on with since=next. Without since: where it stands now."
)
WAITED = "Returns as soon as a new or changed alert matches, or after the timeout."
RELATE = "Alerts that share entities, rule, case or technique with this one, the strongest relation first, with why."
CONTEXT = "Events, assets and intelligence of an alert, asked from its vendor now."
SOURCES = "How far and how freshly each source was read: lag, gaps, errors."


def alert_tools(desk: Desk, live: context.LiveContext) -> list[Tool]:
    """The tools about alerts; ``live`` is asked for what the store does not hold."""
    return [*_finding(desk), *_watching(desk), *_exploring(desk, live)]


def _finding(desk: Desk) -> list[Tool]:
    async def list_alerts(
        ctx: Context,
        *,
        severity: Annotated[Severity | None, Field(description="Or worse")] = None,
        status: Annotated[Status | None, Field(description="Where the work stands")] = None,
        source: Annotated[str | None, Field(description="Name of a source")] = None,
        since: Annotated[str | None, Field(description="-24h, today or ISO")] = None,
        limit: Limit = listing.PAGE,
        cursor: Cursor = None,
        fields: Fields = None,
        as_of: AsOf = None,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        conditions = [
            f"severity>={severity.value}" if severity else "",
            f"status:{status.value}" if status else "",
            f"source:{literal(source)}" if source else "",
            f"since:{literal(since)}" if since else "",
        ]
        question = Question(
            tool="list_alerts",
            text=" and ".join(filter(None, conditions)),
            limit=limit,
            cursor=cursor,
            fields=fields or (),
            as_of=as_of,
            budget=budget,
        )
        with refusals():
            return told(ctx, await listing.listing(desk, question), as_text=as_text)

    async def filter_alerts(
        ctx: Context,
        *,
        query: Annotated[str, Field(description="In the language told above")],
        limit: Limit = listing.PAGE,
        cursor: Cursor = None,
        fields: Fields = None,
        as_of: AsOf = None,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        question = Question(
            tool="filter_alerts",
            text=query,
            limit=limit,
            cursor=cursor,
            fields=fields or (),
            as_of=as_of,
            budget=budget,
        )
        with refusals():
            return told(ctx, await listing.listing(desk, question), as_text=as_text)

    async def get_alert(
        ctx: Context,
        *,
        id: AlertId,  # noqa: A002 (the name that the model is shown)
        include_raw: Annotated[bool, Field(description="With the vendor's own record")] = False,
        as_of: AsOf = None,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        with refusals():
            answer = await one.one_alert(desk, id, raw=include_raw, as_of=as_of, budget=budget)
        return told(ctx, answer, as_text=as_text)

    return [
        alert_tool(list_alerts, "List alerts", LIST, schema.LISTING),
        alert_tool(get_alert, "Get one alert", GET, schema.WHOLE),
        alert_tool(filter_alerts, "Filter alerts", f"{FILTER} {guide()}", schema.LISTING),
    ]


def _watching(desk: Desk) -> list[Tool]:
    async def count_alerts(
        ctx: Context,
        *,
        query: Query = "",
        by: Annotated[
            list[str] | None,
            BeforeValidator(_listed),
            Field(description="Query fields, or created:hour|day|week|month"),
        ] = None,
        limit: Limit = counting.GROUPS,
        as_of: AsOf = None,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        with refusals():
            answer = await counting.counts(desk, query, by or (), limit=limit, as_of=as_of, budget=budget)
        return told(ctx, answer, as_text=as_text)

    async def alert_changes(
        ctx: Context,
        *,
        since: Annotated[int | None, Field(ge=0, description="seq or next of an earlier answer")] = None,
        query: Query = "",
        limit: Limit = journal.CHANGES,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        with refusals():
            answer = await journal.alert_changes(desk, since, query, limit=limit, budget=budget)
        return told(ctx, answer, as_text=as_text)

    async def wait_for_alerts(
        ctx: Context,
        *,
        query: Query = "",
        timeout: Annotated[float, Field(ge=0, le=LONGEST_WAIT, description="Seconds")] = WAIT,  # noqa: ASYNC109 (a time-out is an answer here)
        since: Annotated[int | None, Field(ge=0, description="As of alert_changes, so that none is missed")] = None,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        with refusals():
            answer = await journal.wait_for_alerts(desk, query, timeout, since, budget=budget)
        return told(ctx, answer, as_text=as_text)

    async def source_status(ctx: Context, *, budget: Budget = None, as_text: AsText = False) -> CallToolResult:
        with refusals():
            return told(ctx, await status.source_status(desk, budget), as_text=as_text)

    return [
        alert_tool(count_alerts, "Count alerts", COUNT, schema.COUNTS),
        alert_tool(alert_changes, "What changed", CHANGED, schema.CHANGES),
        alert_tool(wait_for_alerts, "Wait for alerts", WAITED, schema.CHANGES),
        alert_tool(source_status, "Status of the sources", SOURCES, schema.STATUS),
    ]


def _exploring(desk: Desk, live: context.LiveContext) -> list[Tool]:
    async def related_alerts(
        ctx: Context,
        *,
        id: AlertId,  # noqa: A002 (the name that the model is shown)
        limit: Limit = related.RELATED,
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        with refusals():
            answer = await related.related_alerts(desk, id, limit=limit, budget=budget)
        return told(ctx, answer, as_text=as_text)

    async def alert_context(
        ctx: Context,
        *,
        id: AlertId,  # noqa: A002 (the name that the model is shown)
        budget: Budget = None,
        as_text: AsText = False,
    ) -> CallToolResult:
        with refusals():
            answer = await context.alert_context(desk, live, id, ctx.report_progress, budget=budget)
        return told(ctx, answer, as_text=as_text)

    return [
        alert_tool(related_alerts, "Related alerts", RELATE, schema.RELATIONS),
        alert_tool(alert_context, "Context of an alert", CONTEXT, schema.CONTEXTS),
    ]
