"""falcon-mcp, CrowdStrike's own server: what it can be asked, and by which calls the questions are answered.

Counts come from ``falcon_aggregate_detections``, which is cheap; alerts come whole.
"""

from __future__ import annotations

from typing import Any

from bench.peers.answering import Answering, Cannot
from bench.peers.questions import Subject
from evals.assistant import Assistant, Call
from evals.clock import hours, stamp
from evals.estate import OUTBREAK_HASH

PAGE = ("falcon_search_detections", {"limit": 25, "sort": "created_timestamp.desc"})
_MOST = 1000


class Discovering(Assistant):
    """Asks falcon-mcp in its dynamic mode: finds a tool, reads its parameters, and executes it, as its instructions say."""

    _known: frozenset[str] = frozenset()

    async def try_call(self, tool: str, arguments: dict[str, Any]) -> Call:
        """Call a tool that is not listed."""
        if not self._known:
            await super().try_call("falcon_search_tools", {"query": "detections"})
        if tool not in self._known:
            await super().try_call("falcon_search_tools", {"tool_names": [tool]})
            self._known |= {tool}
        return await super().try_call("falcon_execute_tool", {"tool_name": tool, "parameters": arguments})


async def _search(assistant: Assistant, fql: str, limit: int = _MOST, **more: Any) -> list[dict[str, Any]]:
    answer = await assistant.call("falcon_search_detections", filter=fql, limit=limit, **more)
    found: list[dict[str, Any]] = answer["results"]
    return found


async def _counts(assistant: Assistant, field: str, **more: Any) -> dict[str, int]:
    counted = await assistant.call("falcon_aggregate_detections", field=field, size=_MOST, **more)
    return {bucket.get("label") or bucket["key_as_string"]: bucket["count"] for bucket in counted["buckets"]}


def _id(alert: dict[str, Any]) -> str:
    return str(alert["composite_id"]).rpartition(":")[2]


async def _count(assistant: Assistant, _: Subject) -> Any:
    by_status = await _counts(assistant, "status", filter="severity_name:'Critical'")
    return by_status.get("new", 0) + by_status.get("in_progress", 0)


async def _newest(assistant: Assistant, _: Subject) -> Any:
    return [_id(one) for one in await _search(assistant, "severity:>=60", 5, sort="created_timestamp.desc")]


async def _one(assistant: Assistant, about: Subject) -> Any:
    return (await assistant.call("falcon_get_detection_details", ids=[about.alert]))["cmdline"]


async def _group(assistant: Assistant, _: Subject) -> Any:
    return {name.lower(): count for name, count in (await _counts(assistant, "severity_name")).items()}


async def _host(assistant: Assistant, about: Subject) -> Any:
    return {_id(one) for one in await _search(assistant, f"device.hostname:'{about.host}'")}


async def _hash(assistant: Assistant, _: Subject) -> Any:
    counts = await _counts(assistant, "device.hostname", filter=f"sha256:'{OUTBREAK_HASH}'")
    return {host.lower() for host in counts}


async def _days(assistant: Assistant, _: Subject) -> Any:
    counts = await _counts(assistant, "created_timestamp", type="date_histogram", interval="day")
    return {day[:10]: count for day, count in counts.items()}


async def _changes(assistant: Assistant, about: Subject) -> Any:
    """Closed lately is what is closed and was touched lately: the record does not say what the last change was."""
    since = stamp(about.lately)
    found = await _search(assistant, f"updated_timestamp:>'{since}'")
    new = {_id(one) for one in found if one["created_timestamp"] > since}
    return new, {_id(one) for one in found if one["status"] == "closed"}


async def _noise(assistant: Assistant, about: Subject) -> Any:
    since = stamp(about.now - hours(3))
    counts = await _counts(assistant, "name", filter=f"created_timestamp:>='{since}'", sort="_count|desc")
    return max(counts.items(), key=lambda item: item[1])


ANSWERS: dict[str, Answering | Cannot] = {
    "count": _count,
    "newest": _newest,
    "one": _one,
    "group": _group,
    "host": _host,
    "hash": _hash,
    "days": _days,
    "changes": _changes,
    "as of": Cannot("tells what is, not what was"),
    "noise": _noise,
}
