from __future__ import annotations

import re
from pathlib import Path

import msgspec

from xdr_mcp.alert import UNTRUSTED_FIELDS, Alert

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


def test_every_field_is_documented_as_what_it_is_marked_as() -> None:
    rows = re.findall(r"^\| (`.*?) \| (trusted|\*\*untrusted\*\*) \|", SECURITY.read_text("utf-8"), re.MULTILINE)
    trust = {name: kind.strip("*") for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    marked = {
        name: "untrusted" if name in UNTRUSTED_FIELDS else "trusted"
        for name in (field.name for field in msgspec.structs.fields(Alert))
    }
    assert trust == marked


def test_a_field_is_untrusted_when_what_is_nested_in_it_is() -> None:
    assert {"title", "entities", "labels"} <= set(UNTRUSTED_FIELDS)
    assert not {"id", "source", "severity", "created", "attacks"} & set(UNTRUSTED_FIELDS)
