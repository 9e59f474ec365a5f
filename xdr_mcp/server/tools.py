"""The tools: list, get, filter. Few, small to describe, and each answer small to read.

The data is in ``structuredContent`` and the text is one line about it, so that nothing crosses the wire twice. Only a
client from before structured content (2025-06-18) is sent the data as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from xdr_mcp.alert import Severity, Status
from xdr_mcp.errors import QueryError, XdrMcpError
from xdr_mcp.query import guide
from xdr_mcp.server.answers import Answers, caveat, summary
from xdr_mcp.server.schema import LISTING, WHOLE, lean
from xdr_mcp.server.untrusted import visible

_STRUCTURED_SINCE = "2025-06-18"

Answer = Annotated[CallToolResult, dict[str, Any]]
Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str | None, Field(description="next_cursor, with the same filter")]
Fields = Annotated[list[str] | None, Field(description="Fields of get_alert to give instead")]


LIST = "List the newest alerts. An empty list proves nothing about a source whose coverage is blind."
GET = "One alert in full: every field, its revision, when it was fetched and stored."
FILTER = "Find alerts, newest first."


def alert_tools(answers: Answers) -> list[Tool]:
    """The tools about alerts, answered by ``answers``."""

    async def list_alerts(
        ctx: Context,
        *,
        severity: Annotated[Severity | None, Field(description="Or worse")] = None,
        status: Status | None = None,
        source: str | None = None,
        since: Annotated[str | None, Field(description="-24h, today or an ISO time")] = None,
        limit: Limit = 25,
        cursor: Cursor = None,
        fields: Fields = None,
    ) -> Answer:
        conditions = [
            f"severity>={severity.value}" if severity else "",
            f"status:{status.value}" if status else "",
            f"source:{_quoted(source)}" if source else "",
            f"since:{_quoted(since)}" if since else "",
        ]
        text = " and ".join(filter(None, conditions))
        with _told():
            page = await answers.listing("list_alerts", text, limit=limit, cursor=cursor, fields=fields or ())
        return _answer(ctx, summary(page), page)

    async def filter_alerts(
        ctx: Context,
        *,
        query: str,
        limit: Limit = 25,
        cursor: Cursor = None,
        fields: Fields = None,
    ) -> Answer:
        with _told():
            page = await answers.listing("filter_alerts", query, limit=limit, cursor=cursor, fields=fields or ())
        return _answer(ctx, summary(page), page)

    async def get_alert(
        ctx: Context,
        *,
        id: str,  # noqa: A002
        include_raw: Annotated[bool, Field(description="With the vendor's own record")] = False,
    ) -> Answer:
        with _told():
            whole = await answers.alert(id, include_raw=include_raw)
        alert = whole["alert"]
        line = f"{alert['id']}: {alert['severity']}, {alert['status']}, revision {whole['revision']}."
        return _answer(ctx, f"{line} {caveat(whole['coverage'])}".strip(), whole)

    return [
        _tool(list_alerts, "List alerts", LIST, LISTING),
        _tool(get_alert, "Get one alert", GET, WHOLE),
        _tool(filter_alerts, "Filter alerts", f"{FILTER} {guide()}", LISTING),
    ]


def _tool(function: Callable[..., Any], title: str, description: str, output: dict[str, Any]) -> Tool:
    """A read-only tool with lean schemas."""
    hints = ToolAnnotations(read_only_hint=True, idempotent_hint=True)
    tool = Tool.from_function(function, title=title, description=description, annotations=hints)
    tool.parameters = lean(tool.parameters)
    tool.fn_metadata.output_schema = output
    return tool


def _answer(ctx: Context, line: str, data: dict[str, Any]) -> CallToolResult:
    if ctx.request_context.protocol_version < _STRUCTURED_SINCE:
        line, data = msgspec.json.encode(data).decode(), {}
    return CallToolResult(content=[TextContent(text=line)], structured_content=data)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@contextmanager
def _told() -> Iterator[None]:
    """What the asker can put right is told, in the words of the error."""
    try:
        yield
    except QueryError as error:
        raise ToolError(visible(error.render())) from error
    except XdrMcpError as error:
        raise ToolError(visible(str(error))) from error
