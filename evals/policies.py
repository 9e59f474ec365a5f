"""Policies that many questions share: one tool, its arguments, and how the answer is read off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evals.asking import UNKNOWN, Answer, Policy
from evals.assistant import Assistant
from evals.reading import coverage_of, every_group, every_id, total

_STALE = 900
"""Seconds after which a picture no longer tells what is happening now."""


def find(query: str, **more: Any) -> Policy:
    """The ids of all alerts that match."""

    async def policy(assistant: Assistant) -> Answer:
        return await every_id(assistant, query, **more)

    return policy


def count(query: str, **more: Any) -> Policy:
    """How many alerts match."""

    async def policy(assistant: Assistant) -> Answer:
        return await total(assistant, query, **more)

    return policy


def group(query: str, by: str, named: Callable[[str], str] = str, **more: Any) -> Policy:
    """How many alerts match by each value; values that ``named`` makes one are one."""

    async def policy(assistant: Assistant) -> Answer:
        counts: dict[str, int] = {}
        for value, number in (await every_group(assistant, query, by, **more)).items():
            counts[named(value)] = max(number, counts.get(named(value), 0))
        return counts

    return policy


def values(query: str, by: str, named: Callable[[str], str] = str.lower) -> Policy:
    """Which values of a field the alerts that match have."""

    async def policy(assistant: Assistant) -> Answer:
        return {named(value) for value in await every_group(assistant, query, by)}

    return policy


def most(query: str, by: str) -> Policy:
    """The value that most alerts have."""

    async def policy(assistant: Assistant) -> Answer:
        counts = await every_group(assistant, query, by)
        return max(counts, key=lambda value: counts[value])

    return policy


def count_if_known(source: str, query: str) -> Policy:
    """How many alerts of a source match, or that it cannot be known: never read, a hole in the time asked for, a stale picture."""

    async def policy(assistant: Assistant) -> Answer:
        answer = await assistant.call("count_alerts", query=f"source:{source} {query}")
        reach = coverage_of(answer, source)
        if reach["state"] == "blind" or reach.get("gaps") or reach.get("age_s", 0) > _STALE:
            return UNKNOWN
        return int(answer["total"])

    return policy
