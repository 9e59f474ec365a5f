"""The prompts: work that analysts do again and again, each as one message that is useful by itself.

A message holds what is asked for (which tools, in which order, what to conclude, how sure) and the facts of this moment, in at
most 1,500 tokens. Whoever has no tools can answer from it; whoever has them knows where to begin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from pydantic import Field

from xdr_mcp.alert import Severity
from xdr_mcp.server.answers.desk import Desk
from xdr_mcp.server.prompts import facts
from xdr_mcp.server.prompts.message import message
from xdr_mcp.server.prompts.prompt import AlertPrompt
from xdr_mcp.server.prompts.wording import EXPLANATION, HANDOVER, HUNT, REPORT, TRIAGE, Task

__all__ = ["add_prompts"]

AlertId = Annotated[str, Field(description="Id of the alert, as tools and resources give it: <source>/<vendor id>")]
Since = Annotated[str, Field(description="Since when: -8h, -7d, today, or an ISO time (UTC)")]


def add_prompts(mcp: MCPServer[Any], desk: Desk) -> None:
    """Register the prompts, answered from ``desk``."""

    async def told(task: Task, sections: facts.Sections) -> str:
        tools = {tool.name for tool in await mcp.list_tools()}
        return message(task, tools, desk.clock(), sections)

    async def triage_alert(id: AlertId) -> str:  # noqa: A002 (the name that people are shown)
        return await told(TRIAGE, await facts.of_alert(desk, id))

    async def shift_handover(
        since: Since = "-8h",
        severity: Annotated[Severity, Field(description="Least severity of the open alerts to list")] = Severity.HIGH,
    ) -> str:
        return await told(HANDOVER, await facts.of_shift(desk, since, severity))

    async def hunt_entity(
        entity: Annotated[
            str, Field(description="What to hunt for: a host, user, address, hash, …; * for any characters")
        ],
        kind: Annotated[
            str, Field(description="What it is: host, user, ip, hash, technique, …; any when left out")
        ] = "",
        since: Since = "-30d",
    ) -> str:
        return await told(HUNT, await facts.of_entity(desk, kind, entity, since))

    async def incident_report(
        query: Annotated[
            str,
            Field(description="The incident's alerts, as a query of filter_alerts: host:web-01 since:-24h, or id:…"),
        ],
    ) -> str:
        return await told(REPORT, await facts.of_incident(desk, query))

    async def explain_detection(id: AlertId) -> str:  # noqa: A002 (the name that people are shown)
        return await told(EXPLANATION, await facts.of_detection(desk, id))

    _add(mcp, triage_alert, "Triage an alert", "Is this alert real, how bad is it, what is to be done first?")
    _add(mcp, shift_handover, "Shift handover", "What came, what is open, and what the next shift has to do first")
    _add(mcp, hunt_entity, "Hunt an entity", "Follow a host, user, address, hash or technique through all alerts")
    _add(mcp, incident_report, "Incident report", "Report the incident that some alerts belong to")
    _add(mcp, explain_detection, "Explain a detection", "What a detection means, why it fired, how far to trust it")


def _add(mcp: MCPServer[Any], function: Callable[..., Awaitable[str]], title: str, description: str) -> None:
    mcp.add_prompt(AlertPrompt.from_function(function, title=title, description=description))
