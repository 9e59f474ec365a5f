"""JSON Schemas as small as they can be said, and those of the answers.

Generated schemas say everything twice: a title for each property, ``$defs`` that some clients do not follow, ``null`` and a
default for each argument that may be left out. The model reads all of it, at every start.
"""

from __future__ import annotations

from typing import Any

import msgspec

from xdr_mcp.alert import Alert


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
        schema = definitions[schema["$ref"].rpartition("/")[2]] | schema
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


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}

COVERAGE = _array(_object("source state", source=_TEXT, state=_TEXT, age_s=_NUMBER, why=_TEXT))
"""How far the picture reaches, per source."""

ROW = _object("id", id=_TEXT, severity=_TEXT, status=_TEXT, title=_TEXT, created=_TEXT, about=_array(_TEXT))
"""A compact alert; with ``fields``, it has those of ``ALERT``."""

ALERT = lean(msgspec.json.schema(Alert), "description", "enum", "minimum", "maximum") | {"required": ["id"]}
"""An alert whole. What has no value is left out."""

LISTING = _object("alerts total coverage", alerts=_array(ROW), total=_NUMBER, next_cursor=_TEXT, coverage=COVERAGE)

WHOLE = _object(
    "alert revision seq change fetched saved coverage",
    alert=ALERT,
    revision=_NUMBER,
    seq=_NUMBER,
    change=_TEXT,
    fetched=_TEXT,
    saved=_TEXT,
    raw={},
    coverage=COVERAGE,
)
