"""JSON Schemas as small as they can be said, and those of the answers.

Generated schemas say everything twice: a title for each property, ``$defs`` that some clients do not follow, ``null`` and a
default for each argument that may be left out. The model reads all of it, at every start.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from xdr_mcp.alert import Alert


class _WithoutDefaults(GenerateJsonSchema):
    """Leaves defaults out, which are dropped anyway: to find out how one is written, pydantic makes an adapter of its type."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def arguments_schema(arguments: type[BaseModel]) -> dict[str, Any]:
    """What a tool's arguments have to be, without defaults."""
    return arguments.model_json_schema(schema_generator=_WithoutDefaults)


def lean(schema: dict[str, Any], *dropped: str) -> dict[str, Any]:
    """The same schema without titles, defaults, ``$ref``, ``null`` alternatives, and the keywords named besides."""
    slim: dict[str, Any] = _lean(schema, schema.get("$defs", {}), {"title", "default", "$defs", *dropped})
    return slim


def _lean(schema: Any, definitions: dict[str, Any], dropped: set[str]) -> Any:
    if isinstance(schema, list):
        return [_lean(item, definitions, dropped) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        meant = definitions[schema["$ref"].rpartition("/")[2]]
        schema = {key: value for key, value in meant.items() if key != "description"} | schema
    slim: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            slim[key] = {name: _lean(item, definitions, dropped) for name, item in value.items()}
        elif key == "anyOf":
            slim |= _alternatives([_lean(item, definitions, dropped) for item in value])
        elif key not in dropped | {"$ref"}:
            slim[key] = _lean(value, definitions, dropped)
    return slim


def _alternatives(items: list[dict[str, Any]]) -> dict[str, Any]:
    said = [item for item in items if item != {"type": "null"}]
    return said[0] if len(said) == 1 else {"anyOf": said}


def _object(required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _sparing(schema: dict[str, Any]) -> dict[str, Any]:
    """The same object, its many texts named in one list instead of described one by one."""
    properties: dict[str, Any] = schema["properties"]
    return {
        "type": "object",
        "properties": {name: _shallow(kind) for name, kind in properties.items() if kind not in (_TEXT, {})},
        "propertyNames": {"enum": list(properties)},
        "additionalProperties": _TEXT,
        "required": ["id"],
    }


def _shallow(schema: dict[str, Any]) -> dict[str, Any]:
    """A list says only that."""
    return _LIST if schema.get("type") == "array" else schema


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_LIST = {"type": "array"}
_OBJECT = {"type": "object"}
_FLAG = {"type": "boolean"}

COVERAGE = _LIST
"""How far the picture reaches, per source: ``source``, ``state``, ``age_s``, ``lag_s`` (seconds), ``begins``, ``gaps``, ``why``."""

ROW = _object("id", id=_TEXT, severity={}, status={}, title={}, created={}, about=_LIST, count=_NUMBER, ids=_LIST)
"""A compact alert; with ``fields``, it has those of ``ALERT``."""

ALERT = _sparing(lean(msgspec.json.schema(Alert), "description", "enum", "minimum", "maximum", "required"))
"""An alert whole. What has no value is left out."""


def _answer(**properties: dict[str, Any]) -> dict[str, Any]:
    """Nothing is required: told as text, the data is not here."""
    schema = _object("", **properties, coverage=COVERAGE, seq=_NUMBER, reduced=_TEXT)
    return {name: said for name, said in schema.items() if name != "required"}


LISTING = _answer(alerts=_array(ROW), total=_NUMBER, next_cursor=_TEXT)
WHOLE = _answer(alert=ALERT, revision=_NUMBER, raw={})
COUNTS = _answer(total=_NUMBER, groups=_LIST, others=_NUMBER)
CHANGES = _answer(changes=_LIST, next=_NUMBER, more=_FLAG)
RELATIONS = _answer(alerts=_LIST, total=_NUMBER, not_followed=_LIST)
CONTEXTS = _answer(alert=_OBJECT, events=_OBJECT, assets=_OBJECT, intelligence=_OBJECT, failed=_OBJECT)
STATUS = _answer(sources=_LIST)
