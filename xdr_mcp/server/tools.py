"""The tools: list, get, filter. Few, small to describe, and each answer small to read.

An answer is told once: in ``structuredContent``, with a line of text about it, or as text. Which of the two reaches the
model is the host's choice, and many show text alone (docs/decisions.md). So the data goes as text to clients from before
structured content (2025-06-18), to hosts known to show nothing else, and to whoever asks for it with ``as_text``: the line
of text says so, because a model whose host hides the data sees only that line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field, ValidationError

from xdr_mcp.alert import Severity, Status
from xdr_mcp.errors import QueryError, XdrMcpError
from xdr_mcp.query import guide
from xdr_mcp.server.answers import Answers, caveat, summary
from xdr_mcp.server.schema import LISTING, WHOLE, lean
from xdr_mcp.untrusted import visible

_STRUCTURED_SINCE = "2025-06-18"
_TEXT_ONLY_HOSTS = ("claude-ai", "gemini-cli-mcp-client", "opencode", "Cline", "Roo-Code")
"""How the ``clientInfo.name`` of hosts begins that show their model the text of an answer and never its structured content:
Claude Desktop and claude.ai, Gemini CLI, opencode, Cline, Roo Code."""
_IF_HIDDEN = "No data in sight? Call again with as_text=true."

Answer = Annotated[CallToolResult, dict[str, Any]]
Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str | None, Field(description="next_cursor, with the same filter")]
Fields = Annotated[list[str] | None, Field(description="Fields of get_alert to give instead")]
AsText = Annotated[bool, Field(description="Data as text")]

LIST = "List the newest alerts. An empty list proves nothing about a source whose coverage is blind."
GET = "One alert in full, its revision, and when it was stored."
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
        as_text: AsText = False,
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
        return _answer(ctx, summary(page), page, as_text=as_text)

    async def filter_alerts(
        ctx: Context,
        *,
        query: str,
        limit: Limit = 25,
        cursor: Cursor = None,
        fields: Fields = None,
        as_text: AsText = False,
    ) -> Answer:
        with _told():
            page = await answers.listing("filter_alerts", query, limit=limit, cursor=cursor, fields=fields or ())
        return _answer(ctx, summary(page), page, as_text=as_text)

    async def get_alert(
        ctx: Context,
        *,
        id: str,  # noqa: A002 (the name that the model is shown)
        include_raw: Annotated[bool, Field(description="With the vendor's own record")] = False,
        as_text: AsText = False,
    ) -> Answer:
        with _told():
            whole = await answers.alert(id, include_raw=include_raw)
        alert = whole["alert"]
        line = f"{alert['id']}: {alert['severity']}, {alert['status']}, revision {whole['revision']}."
        return _answer(ctx, f"{line} {caveat(whole['coverage'])}".strip(), whole, as_text=as_text)

    return [
        _tool(list_alerts, "List alerts", LIST, LISTING),
        _tool(get_alert, "Get one alert", GET, WHOLE),
        _tool(filter_alerts, "Filter alerts", f"{FILTER} {guide()}", LISTING),
    ]


class AlertTool(Tool):
    """Refuses arguments that it does not have: one that was misspelt, and ignored, would widen what is answered unseen."""

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:  # noqa: FBT001, FBT002 (the SDK's)
        """Run it, and word what is wrong with the arguments."""
        known = list(self.parameters["properties"])
        if unknown := [name for name in arguments if name not in known]:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise ToolError(f"{self.name} has no argument {visible(unknown[0])}{hint} It has {', '.join(known)}.")
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_explained(error.__cause__)) from error
            raise


def _explained(error: ValidationError) -> str:
    """One line for each argument that is wrong."""
    problems = error.errors(include_url=False, include_context=False)
    lines = (
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        + ("" if problem["type"] == "missing" else f", not {visible(repr(problem['input'])[:80])}")
        for problem in problems
    )
    return "\n".join(lines)


def _tool(function: Callable[..., Any], title: str, description: str, output: dict[str, Any]) -> Tool:
    """A read-only tool with lean schemas."""
    hints = ToolAnnotations(read_only_hint=True, idempotent_hint=True)
    tool = AlertTool.from_function(function, title=title, description=description, annotations=hints)
    tool.parameters = lean(tool.parameters) | {"additionalProperties": False}
    tool.fn_metadata.output_schema = output
    return tool


def _answer(ctx: Context, line: str, data: dict[str, Any], *, as_text: bool) -> CallToolResult:
    """``data`` once: structured, or as text beside the little that the output schema asks for."""
    if as_text or _reads_text_only(ctx):
        text = msgspec.json.encode(data).decode()
        return CallToolResult(content=[TextContent(text=text)], structured_content=_least(data))
    hint = f" {_IF_HIDDEN}" if data.get("total") != 0 else ""
    return CallToolResult(content=[TextContent(text=line + hint)], structured_content=data)


def _reads_text_only(ctx: Context) -> bool:
    if ctx.request_context.protocol_version < _STRUCTURED_SINCE:
        return True
    client = ctx.session.client_params
    return client is not None and client.client_info.name.startswith(_TEXT_ONLY_HOSTS)


def _least(data: dict[str, Any]) -> dict[str, Any]:
    """What an output schema requires."""
    return {name: data[name] for name in ("total", "revision") if name in data}


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
