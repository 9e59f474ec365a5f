"""The guide's example is a source that works."""

from __future__ import annotations

import re
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import respx

from xdr_mcp.alert import Severity
from xdr_mcp.errors import BadResponse
from xdr_mcp.interfaces import Page, Window

pytestmark = pytest.mark.anyio

GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-source.md"
URL = "https://acme.example/v2/alerts"
WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
RECORD = {"uid": "1", "name": "n", "level": 3, "hosts": "web-01", "created": 1767225600, "updated": 1767225601}


@pytest.fixture
def acme() -> ModuleType:
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    module = ModuleType("acme_xdr_mcp")
    exec(compile(example, str(GUIDE), "exec", dont_inherit=True), vars(module))  # noqa: S102 (our own documentation)
    return module


async def read(acme: ModuleType, *, live: bool = False) -> list[Page]:
    options = acme.AcmeSource.Options(base_url="https://acme.example", api_key="a-made-up-key")
    async with acme.AcmeSource.open("acme", options, None) as source:
        assert await source.check() == "Acme EDR answers"
        async with aclosing(source.pages(WINDOW, live=live)) as pages:
            return [page async for page in pages]


@respx.mock
async def test_the_guides_example_reads_pages_to_the_end(acme: ModuleType) -> None:
    second: dict[str, Any] = {"alerts": [RECORD | {"uid": "2", "level": 9}, {"uid": "no times"}], "next": None}
    respx.get(URL, params={"cursor": "c"}).respond(json=second)
    first = respx.get(URL).respond(json={"alerts": [RECORD], "next": "c"})

    pages = await read(acme)

    assert [record.alert.vendor_id for page in pages for record in page.records] == ["1", "2"]
    assert [record.alert.severity for page in pages for record in page.records] == [Severity.HIGH, Severity.UNKNOWN]
    assert [bad.raw for page in pages for bad in page.quarantined] == [b'{"uid":"no times"}']
    asked = first.calls.last.request
    assert asked.headers["x-api-key"] == "a-made-up-key"
    assert asked.url.params["updated_to"] == "2026-01-02T00:00:00+00:00"


@respx.mock
async def test_the_guides_example_leaves_the_upper_bound_open_when_live(acme: ModuleType) -> None:
    route = respx.get(URL).respond(json={"alerts": []})

    await read(acme, live=True)

    assert "updated_to" not in route.calls.last.request.url.params


@respx.mock
async def test_the_guides_example_notices_a_cursor_that_goes_in_circles(acme: ModuleType) -> None:
    respx.get(URL).respond(json={"alerts": [], "next": "again"})

    with pytest.raises(BadResponse, match="nowhere"):
        await read(acme)


def test_the_guide_names_only_files_that_exist() -> None:
    named = set(re.findall(r"`((?:xdr_mcp|sources|tests|scripts)/[\w/.]+)`", GUIDE.read_text("utf-8")))
    invented = {"tests/sources/test_acme.py", "tests/recordings/acme/"}

    root = GUIDE.parents[1]
    assert named - invented
    missing = {
        name for name in named - invented if not (root / name).exists() and not (root / "xdr_mcp" / name).exists()
    }
    assert missing == set()
