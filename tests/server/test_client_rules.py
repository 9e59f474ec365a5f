"""What clients and hosts are known to need of a server's lists, whatever it offers.

Some hosts refuse a whole server for one tool with a ``$ref``, a long name, or a schema that is no plain object; what has no
description is never used well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from mcp import Client
from serving import ERAS, a_server

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""Hosts put the server's name before it, and allow 60 or 64 characters in all."""
TOKENS = 3_000
BYTES_A_TOKEN = 4
WRITING = {"propose_triage"}
"""The tools that change anything; there when an operator has set them up."""
NOT_AT_THE_ROOT = {"anyOf", "oneOf", "allOf", "not", "if", "enum", "$ref", "$defs"}


async def tools_of(era: str, folder: Path) -> list[dict[str, Any]]:
    """All tools that there can be, as they cross the wire."""
    async with a_server(folder, proposing=True) as (server, _), Client(server.mcp, mode=era) as client:
        listed = await client.list_tools()
    return [tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in listed.tools]


def schemas_of(tool: dict[str, Any]) -> list[dict[str, Any]]:
    return [tool[name] for name in ("inputSchema", "outputSchema") if name in tool]


def parts_of(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema, and every one within it."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from parts_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from parts_of(part)


async def test_names_are_short_plain_and_different(era: str, tmp_path: Path) -> None:
    tools = await tools_of(era, tmp_path)
    names = [tool["name"] for tool in tools]
    arguments = {name for tool in tools for name in tool["inputSchema"]["properties"]}
    assert set(names) >= WRITING
    assert [name for name in (*names, *arguments) if not NAME.fullmatch(name)] == []
    assert len(set(names)) == len(names)


async def test_schemas_are_valid_plain_objects_without_references(era: str, tmp_path: Path) -> None:
    for tool in await tools_of(era, tmp_path):
        for schema in schemas_of(tool):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object", tool["name"]
            assert not NOT_AT_THE_ROOT & schema.keys(), tool["name"]
            for part in parts_of(schema):
                assert not {"$ref", "$defs", "definitions"} & part.keys(), tool["name"]


async def test_an_argument_has_one_type_that_every_model_s_api_takes(era: str, tmp_path: Path) -> None:
    """Gemini's and OpenAI's function calls know neither lists of types nor null, and want to know what is in a list."""
    for tool in await tools_of(era, tmp_path):
        for name, argument in tool["inputSchema"]["properties"].items():
            assert argument["type"] in {"string", "integer", "number", "boolean", "array"}, (tool["name"], name)
            assert argument["type"] != "array" or "type" in argument["items"], (tool["name"], name)


async def test_what_is_required_exists_and_nothing_else_is_taken(era: str, tmp_path: Path) -> None:
    for tool in await tools_of(era, tmp_path):
        schema = tool["inputSchema"]
        assert set(schema.get("required", ())) <= schema["properties"].keys(), tool["name"]
        assert schema["additionalProperties"] is False, tool["name"]


async def test_every_tool_and_argument_says_what_it_is_for_and_whether_it_changes_anything(
    era: str, tmp_path: Path
) -> None:
    for tool in await tools_of(era, tmp_path):
        assert tool["title"], tool["name"]
        assert tool["description"], tool["name"]
        undescribed = [name for name, part in tool["inputSchema"]["properties"].items() if not part.get("description")]
        assert undescribed == [], tool["name"]
        assert tool["annotations"]["readOnlyHint"] is (tool["name"] not in WRITING), tool["name"]
        assert not tool["annotations"].get("destructiveHint"), tool["name"]


async def test_the_whole_list_of_tools_costs_at_most_3000_tokens(era: str, tmp_path: Path) -> None:
    wire = json.dumps({"tools": await tools_of(era, tmp_path)}, separators=(",", ":"), ensure_ascii=False)
    assert len(wire.encode()) / BYTES_A_TOKEN <= TOKENS


async def test_every_resource_and_prompt_is_described(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        prompts = (await client.list_prompts()).prompts
    described = [each.model_dump(mode="json") for each in (*resources, *templates, *prompts)]
    for each in described:
        assert NAME.fullmatch(each["name"]), each["name"]
        assert each["title"], each["name"]
        assert each["description"], each["name"]
    for prompt in prompts:
        assert [argument.name for argument in prompt.arguments or () if not argument.description] == [], prompt.name
