"""An assistant's side of the protocol: a real MCP client that keeps count of what crosses to the model and back.

Tokens are UTF-8 bytes divided by four. Of an answer, text and structured content both count; of a call, the tool's name and
its arguments as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from mcp import Client

BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True)
class Call:
    """One call of a tool, as the model sees it."""

    tool: str
    arguments: dict[str, Any]
    prose: str
    """Text around the data: the server's own words, or an error's."""
    data: dict[str, Any]
    """The data, from the structured content or from text that is JSON; empty when the call failed."""
    failed: bool
    tokens: int
    """Of all that crosses."""
    shown: int
    """Of what a host passes on that shows its model one form of the data: the structured one, where there are both."""


@dataclass
class Assistant:
    """Calls tools; remembers what was said."""

    client: Client
    calls: list[Call] = field(default_factory=list)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The data that a tool answers.

        Raises:
            ToolRefused: it answered with an error.
        """
        call = await self.try_call(tool, arguments)
        if call.failed:
            raise ToolRefused(f"{tool}({arguments}): {call.prose}")
        return call.data

    async def try_call(self, tool: str, arguments: dict[str, Any]) -> Call:
        """Call a tool, whatever comes of it."""
        result = await self.client.call_tool(tool, arguments)
        texts = [part.text for part in result.content if part.type == "text"]
        structured = result.structured_content or {}
        asked, read = said(tool) + said(arguments), said(structured) if structured else 0
        parsed = [(text, data_in(text)) for text in texts]
        data = max((structured, *(found for _, found in parsed)), key=said)
        prose = "\n".join(text if result.is_error else words_around(text) for text in texts)
        failed = bool(result.is_error)
        tokens = _tokens(asked + read + sum(map(said, texts)))
        shown = _tokens(asked + read + said(prose)) if structured else tokens
        call = Call(tool, arguments, prose, {} if failed else data, failed, tokens, shown)
        self.calls.append(call)
        return call


class ToolRefused(Exception):
    """A tool answered with an error."""


def _tokens(number: int) -> int:
    return round(number / BYTES_PER_TOKEN)


def said(value: object) -> int:
    """UTF-8 bytes of a text, or of anything else as compact JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode())


def data_in(text: str) -> dict[str, Any]:
    """The JSON object that a text holds, between a fence's two lines or bare; empty where there is none."""
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def words_around(text: str) -> str:
    """What a text says beside the JSON object that it holds."""
    return f"{text[: text.index('{')]}{text[text.rindex('}') + 1 :]}".strip() if data_in(text) else text


async def tokens_to_connect(client: Client) -> dict[str, int]:
    """What a host may put before a model at the start, in tokens: tools, prompts, resources, instructions."""
    offered = client.server_capabilities
    parts: dict[str, object] = {"tools": (await client.list_tools()).tools}
    if offered.prompts is not None:
        parts["prompts"] = (await client.list_prompts()).prompts
    if offered.resources is not None:
        parts["resources"] = (await client.list_resources()).resources
        parts["templates"] = (await client.list_resource_templates()).resource_templates
    told = {name: [_plain(item) for item in items] for name, items in parts.items() if isinstance(items, list)}
    counted = {name: _tokens(said(items)) for name, items in told.items() if items}
    if client.instructions:
        counted["instructions"] = _tokens(said(client.instructions))
    return counted


def _plain(item: Any) -> Any:
    return item.model_dump(mode="json", by_alias=True, exclude_none=True)
