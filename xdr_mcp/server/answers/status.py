"""How the sources are doing."""

from __future__ import annotations

from typing import Any

from xdr_mcp.server.answers.budget import Answer, fitted
from xdr_mcp.server.answers.coverage import Detail, caveat, told_coverage, told_state
from xdr_mcp.server.answers.desk import Desk
from xdr_mcp.server.answers.telling import one_line, told_time

BUDGET = 2_000
"""Tokens, where no budget was given."""

_NAME_SHOWN = 200


async def status(desk: Desk) -> dict[str, Any]:
    """Everything an operator asks first: sources, gaps, lag, who polls, the journal, and how far sinks have come."""
    reach = await desk.reach()
    return {
        "now": told_time(reach.now),
        "seq": reach.seq,
        "sources": [told_state(state, reach.now) for state in reach.states],
        "sinks": [
            {
                "sink": one_line(state.sink, _NAME_SHOWN),
                "behind": reach.seq - state.position,
                "dead_letters": state.dead_letters,
            }
            for state in await desk.store.sinks()
        ],
    } | dict(desk.facts())


async def source_status(desk: Desk, budget: int | None = None) -> Answer:
    """The same, within a budget: with many sources, of each its freshness alone."""
    told = await status(desk)
    reach = await desk.reach()
    coverage = told_coverage(reach.states, reach.now)
    line = f"{len(coverage)} sources. {caveat(coverage)}".strip()
    brief = told | {
        "sources": told_coverage(reach.states, reach.now, detail=Detail.BARE),
        "reduced": "state and age alone",
    }
    return fitted((Answer(line, told), Answer(line, brief)), budget or BUDGET)
