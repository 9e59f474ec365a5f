"""What all tools have in common: small schemas, refusals in words, and an answer that is told once.

An answer is told in ``structuredContent``, with a line of text about it, or as text. Which of the two reaches the model is
the host's choice, and many show text alone (docs/decisions.md). So the data goes as text to clients from before structured
content (2025-06-18), to hosts known to show nothing else, and to whoever asks for it with ``as_text``: the line of text
says so, because a model whose host hides the data sees only that line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import func_metadata
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from xdr_mcp.errors import XdrMcpError
from xdr_mcp.server.answers.budget import Answer
from xdr_mcp.server.refusals import in_words
from xdr_mcp.server.schema import arguments_schema, lean
from xdr_mcp.untrusted import contained

_STRUCTURED_SINCE = "2025-06-18"
_TEXT_ONLY_HOSTS = ("claude-ai", "gemini-cli-mcp-client", "opencode", "Cline", "Roo-Code")
"""How the ``clientInfo.name`` of hosts begins that show their model the text of an answer and never its structured content:
Claude Desktop and claude.ai, Gemini CLI, opencode, Cline, Roo Code."""
_IF_HIDDEN = "No data in sight? Call again with as_text=true."
_INPUT_SHOWN = 80
_CONTEXT = "ctx"
"""The parameter of every tool that is the SDK's context."""


class AlertTool(Tool):
    """Refuses arguments that it does not have: one that was misspelt, and ignored, would widen what is answered unseen."""

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:  # noqa: FBT001, FBT002 (the SDK's)
        """Run it, and word what is wrong with the arguments."""
        known = list(self.parameters["properties"])
        if unknown := [name for name in arguments if name not in known]:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            name = contained(unknown[0], _INPUT_SHOWN)
            raise ToolError(f"{self.name} has no argument {name}{hint} It has {', '.join(known)}.")
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
        + ("" if problem["type"] == "missing" else f", not {contained(repr(problem['input']), _INPUT_SHOWN)}")
        for problem in problems
    )
    return "\n".join(lines)


def alert_tool(function: Callable[..., Any], title: str, description: str, output: dict[str, Any]) -> Tool:
    """A read-only tool with lean schemas. Made by hand: ``Tool.from_function`` makes more, which is dropped here."""
    metadata = func_metadata(function, skip_names=[_CONTEXT], structured_output=False)
    metadata.output_schema = output
    return AlertTool(
        fn=function,
        name=function.__name__,
        title=title,
        description=description,
        parameters=lean(arguments_schema(metadata.arg_model)) | {"additionalProperties": False},
        fn_metadata=metadata,
        is_async=True,
        context_kwarg=_CONTEXT,
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True),
    )


def told(ctx: Context, answer: Answer, *, as_text: bool) -> CallToolResult:
    """The data once: structured, or as text beside no more than a note that it is there."""
    if as_text or _reads_text_only(ctx):
        return CallToolResult(content=[TextContent(text=answer.as_text())], structured_content={"as_text": True})
    hint = f" {_IF_HIDDEN}" if answer.data.get("total") != 0 else ""
    return CallToolResult(content=[TextContent(text=answer.line + hint)], structured_content=answer.structured())


def _reads_text_only(ctx: Context) -> bool:
    if ctx.request_context.protocol_version < _STRUCTURED_SINCE:
        return True
    client = ctx.session.client_params
    return client is not None and client.client_info.name.startswith(_TEXT_ONLY_HOSTS)


@contextmanager
def refusals() -> Iterator[None]:
    """What the asker can put right is told, in the words of the error."""
    try:
        yield
    except XdrMcpError as error:
        raise ToolError(in_words(error)) from error
