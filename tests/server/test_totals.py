"""How many there are, beside a page of them: exact, or said to be more than was counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcp import Client
from serving import a_server, an_alert, data_of, save

from xdr_mcp.server.answers.listing import COUNTED

pytestmark = pytest.mark.anyio


async def test_a_page_counts_so_far_and_says_so_and_summaries_are_exact(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store):
        await save(store, *(an_alert(number, rule_id="noisy") for number in range(COUNTED + 2)))
        async with Client(server.mcp) as client:
            page = await client.call_tool("filter_alerts", {"query": "rule:noisy"})
            told = data_of(page)
            assert (told["total"], "total is at least 10000; count_alerts" in told["reduced"]) == (COUNTED, True)
            assert "of more than 10000 alerts" in str(page.content[0])
            later = {"query": "rule:noisy", "cursor": told["next_cursor"]}
            assert data_of(await client.call_tool("filter_alerts", later))["total"] == COUNTED
            exact = data_of(await client.call_tool("filter_alerts", {"query": "severity>=unknown"}))
            assert (exact["total"], "total" in exact.get("reduced", "")) == (COUNTED + 2, False)
            counted = data_of(await client.call_tool("count_alerts", {"query": "rule:noisy"}))
            assert counted["total"] == COUNTED + 2
