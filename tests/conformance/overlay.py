"""The tools, resources and prompts that the conformance suite asks for by name, laid over the server that users run.

Only their bodies are the tests' own. What is tested is the way there and back: routing, eras, subscriptions, sessions,
headers, request state, errors.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
"""One grey pixel."""
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="
"""One sample of silence."""
WATCHED = "test://watched-resource"
WATCHED_HERE = "xdr://alerts/recent"

SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
"""What the suite sends and expects back whole (SEP-1613, SEP-2106)."""

ENUMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["active", "inactive", "pending"]},
        "titledSingle": {"type": "string", "oneOf": [{"const": "low", "title": "Low"}]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["read", "write"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": [{"const": "bug", "title": "Bug"}]}},
        "legacyEnum": {"type": "string", "enum": ["small", "large"], "enumNames": ["Small", "Large"]},
    },
}
"""The five ways to offer a choice (SEP-1330)."""


def lay_over(mcp: MCPServer[Any]) -> None:
    """Add what the suite asks for."""
    mcp.middleware.append(_watched_here)
    _add_contents(mcp)
    _add_elicitation(mcp)
    _add_input_required(mcp)
    _add_changes(mcp)
    _add_schemas(mcp)
    _add_resources(mcp)
    _add_prompts(mcp)


async def _watched_here(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """The suite's resource to watch is another name for one of ours, so that our own subscriptions answer."""
    if ctx.params and ctx.params.get("uri") == WATCHED and ctx.method.startswith("resources/"):
        ctx = replace(ctx, params={**ctx.params, "uri": WATCHED_HERE})
    return await call_next(ctx)


def _picture() -> ImageContent:
    return ImageContent(data=PNG, mime_type="image/png")


def _embedded(uri: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type="text/plain", text="embedded"))


def _add_contents(mcp: MCPServer[Any]) -> None:
    @mcp.tool()
    def test_simple_text() -> str:
        """Text."""
        return "This is a simple text response for testing."

    @mcp.tool()
    def test_image_content() -> list[ImageContent]:
        """A picture."""
        return [_picture()]

    @mcp.tool()
    def test_audio_content() -> list[AudioContent]:
        """A sound."""
        return [AudioContent(data=WAV, mime_type="audio/wav")]

    @mcp.tool()
    def test_embedded_resource() -> list[EmbeddedResource]:
        """A resource."""
        return [_embedded("test://embedded-resource")]

    @mcp.tool()
    def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        """Text, a picture, a resource."""
        return [TextContent(text="Several"), _picture(), _embedded("test://mixed-content-resource")]

    @mcp.tool()
    def test_error_handling() -> str:
        """An error."""
        raise RuntimeError("This tool intentionally returns an error for testing")

    @mcp.tool()
    async def test_tool_with_progress(ctx: Context) -> str:
        """Progress."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        return "done"


class Answered(BaseModel):
    """What a person types."""

    response: str = Field(description="The answer")


class Preset(BaseModel):
    """A form with every kind of default (SEP-1034)."""

    name: str = Field(default="John Doe", description="Name")
    age: int = Field(default=30, description="Age")
    score: float = Field(default=95.5, description="Score")
    status: str = Field(
        default="active", description="Status", json_schema_extra={"enum": ["active", "inactive", "pending"]}
    )
    verified: bool = Field(default=True, description="Verified")


def _add_elicitation(mcp: MCPServer[Any]) -> None:
    @mcp.tool()
    async def test_elicitation(message: str, ctx: Context) -> str:
        """Ask a person."""
        answer = await ctx.elicit(message, Answered)
        return f"User response: {answer.action}"

    @mcp.tool()
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Ask with defaults."""
        answer = await ctx.elicit("Please check", Preset)
        return f"User response: {answer.action}"

    @mcp.tool()
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Ask for choices."""
        answer = await ctx.session.elicit_form("Please choose", ENUMS, ctx.request_id)
        return f"User response: {answer.action}"

    @mcp.tool()
    async def test_missing_capability(ctx: Context) -> str:
        """Refuse a client that has not said that it can sample."""
        able = ctx.client_capabilities
        if able is None or able.sampling is None:
            needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This needs sampling", needed)
        return "sampling is declared"


def _ask(key: str, kind: str = "string") -> ElicitRequest:
    form = {"type": "object", "properties": {key: {"type": kind}}, "required": [key]}
    return ElicitRequest(params=ElicitRequestFormParams(message=f"What is your {key}?", requested_schema=form))


def _content(ctx: Context, key: str) -> Mapping[str, Any] | None:
    """What was answered to the question ``key``; None where it was not."""
    answer = (ctx.input_responses or {}).get(key)
    return answer.content or {} if isinstance(answer, ElicitResult) else None


def _add_input_required(mcp: MCPServer[Any]) -> None:
    @mcp.tool()
    async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
        """Ask, then greet."""
        if (content := _content(ctx, "user_name")) is not None:
            return f"Hello, {content.get('name')}!"
        return InputRequiredResult(input_requests={"user_name": _ask("name")})

    @mcp.tool()
    async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
        """Ask, with state that comes back."""
        if _content(ctx, "confirm") is not None and ctx.request_state == "nonce":
            return "state-ok"
        return InputRequiredResult(input_requests={"confirm": _ask("ok", "boolean")}, request_state="nonce")

    @mcp.tool()
    async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
        """Ask twice."""
        done = int(ctx.request_state or 0)
        if done == 2:
            return "done"
        question = {f"step{done + 1}": _ask("color" if done else "name")}
        return InputRequiredResult(input_requests=question, request_state=str(done + 1))

    @mcp.tool()
    async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
        """Hand out state that the suite then spoils."""
        if ctx.request_state:
            return "state-ok"
        return InputRequiredResult(input_requests={"confirm": _ask("ok", "boolean")}, request_state="round-1")


def _add_changes(mcp: MCPServer[Any]) -> None:
    @mcp.tool()
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Tell that the tools changed."""
        await ctx.notify_tools_changed()
        return "told"

    @mcp.tool()
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Tell that the prompts changed."""
        await ctx.notify_prompts_changed()
        return "told"


def _add_schemas(mcp: MCPServer[Any]) -> None:
    @mcp.tool()
    def test_custom_header(
        region: Annotated[str, Field(description="Where", json_schema_extra={"x-mcp-header": "Region"})],
    ) -> str:
        """Take an argument that travels in a header, too (SEP-2243)."""
        return region

    def json_schema_2020_12_tool() -> str:
        """A schema with every keyword that must survive."""
        return "taken"

    tool = Tool.from_function(json_schema_2020_12_tool)
    tool.parameters = SCHEMA_2020_12
    mcp._tool_manager._tools[tool.name] = tool  # a schema of one's own has no public way in


def _add_resources(mcp: MCPServer[Any]) -> None:
    @mcp.resource("test://static-text", description="Text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", description="A picture", mime_type="image/png")
    def static_binary() -> bytes:
        return b64decode(PNG)

    @mcp.resource("test://template/{id}/data", description="Whatever is named", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 (the template's variable)
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(mcp: MCPServer[Any]) -> None:
    @mcp.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """Text."""
        return [UserMessage("This is a simple prompt for testing.")]

    @mcp.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        """Text with arguments."""
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @mcp.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 (the suite's spelling)
        """A resource."""
        return [UserMessage(_embedded(resourceUri)), UserMessage("Please process the embedded resource above.")]

    @mcp.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A picture."""
        return [UserMessage(_picture()), UserMessage("Please analyze the image above.")]

    @mcp.prompt()
    async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
        """Ask, then speak."""
        if (content := _content(ctx, "user_context")) is not None:
            return [UserMessage(f"Use: {content.get('context')}")]
        return InputRequiredResult(input_requests={"user_context": _ask("context")})
