"""xdr-mcp itself: by which calls the questions are answered."""

from __future__ import annotations

from typing import Any

from bench.peers.answering import Answering, Cannot
from bench.peers.questions import SOURCE, Subject
from evals.assistant import Assistant
from evals.clock import hours, stamp
from evals.estate import OUTBREAK_HASH
from evals.reading import every_group, every_row, journal

PAGE: tuple[str, dict[str, Any]] = ("list_alerts", {"source": SOURCE, "limit": 25})


def _id(row: dict[str, Any]) -> str:
    return str(row["id"]).partition("/")[2]


async def _count(assistant: Assistant, _: Subject) -> Any:
    query = f"source:{SOURCE} severity:critical status:open"
    return (await assistant.call("count_alerts", query=query))["total"]


async def _newest(assistant: Assistant, _: Subject) -> Any:
    page = await assistant.call("list_alerts", source=SOURCE, severity="high", limit=5)
    return [_id(row) for row in page["alerts"]]


async def _one(assistant: Assistant, about: Subject) -> Any:
    whole = await assistant.call("get_alert", id=f"{SOURCE}/{about.alert}")
    return next(entity["value"] for entity in whole["alert"]["entities"] if entity["kind"] == "command")


async def _group(assistant: Assistant, _: Subject) -> Any:
    return await every_group(assistant, f"source:{SOURCE}", "severity")


async def _host(assistant: Assistant, about: Subject) -> Any:
    rows = await every_row(assistant, f"source:{SOURCE} host:{about.host}")
    return {_id(row) for row in rows}


async def _hash(assistant: Assistant, _: Subject) -> Any:
    return {host.lower() for host in await every_group(assistant, f"source:{SOURCE} hash:{OUTBREAK_HASH}", "host")}


async def _days(assistant: Assistant, _: Subject) -> Any:
    return await every_group(assistant, f"source:{SOURCE}", "created:day")


async def _changes(assistant: Assistant, about: Subject) -> Any:
    changes = await journal(assistant, about.seq, f"source:{SOURCE}")
    return (
        {_id(change) for change in changes if change["kind"] == "created"},
        {_id(change) for change in changes if change["kind"] == "closed"},
    )


async def _as_of(assistant: Assistant, about: Subject) -> Any:
    whole = await assistant.call("get_alert", id=f"{SOURCE}/{about.handled}", as_of=stamp(about.then))
    return whole["alert"]["assignee"], whole["alert"]["status"]


async def _noise(assistant: Assistant, about: Subject) -> Any:
    query = f"source:{SOURCE} since:{stamp(about.now - hours(3))}"
    answer = await assistant.call("count_alerts", query=query, by=["rule"], limit=1)
    (most,) = answer["groups"]
    page = await assistant.call("filter_alerts", query=f"{query} rule:{most['rule']}", limit=1)
    return page["alerts"][0]["title"], most["count"]


ANSWERS: dict[str, Answering | Cannot] = {
    "count": _count,
    "newest": _newest,
    "one": _one,
    "group": _group,
    "host": _host,
    "hash": _hash,
    "days": _days,
    "changes": _changes,
    "as of": _as_of,
    "noise": _noise,
}
