"""Reading on until all is read: rows, groups, the journal. What a careful assistant does with the tools' answers."""

from __future__ import annotations

from typing import Any, Final

from evals.assistant import Assistant

_MOST_ROWS: Final = 100
_MOST_GROUPS: Final = 100
_ROOM: Final = 10_000
_MOST_CHANGES: Final = 100
_CHANGES_COST: Final = 1_500
"""Tokens a page of the journal may cost: what looks alike is then told together, with all ids."""


async def every_row(
    assistant: Assistant, query: str, fields: tuple[str, ...] = ("status",), **more: Any
) -> list[dict[str, Any]]:
    """All alerts that match, one row each with these fields."""
    asked = {"query": query, "limit": _MOST_ROWS, "fields": list(fields), **more}
    page = await assistant.call("filter_alerts", **asked)
    rows: list[dict[str, Any]] = page["alerts"]
    while "next_cursor" in page:
        page = await assistant.call("filter_alerts", **asked, cursor=page["next_cursor"])
        rows += page["alerts"]
    return rows


async def every_group(assistant: Assistant, query: str, by: str, **more: Any) -> dict[str, int]:
    """How many alerts match, by each value of a field or time bucket; asked again with more room where some are left out."""
    answer = await assistant.call("count_alerts", query=query, by=[by], limit=_MOST_GROUPS, **more)
    if answer["others"]:
        more["budget"] = _ROOM
        answer = await assistant.call("count_alerts", query=query, by=[by], limit=_MOST_GROUPS, **more)
    return {str(group[by]): group["count"] for group in answer["groups"] if group[by] is not None}


async def journal(assistant: Assistant, since: int, query: str = "") -> list[dict[str, Any]]:
    """All changes after a number, oldest first."""
    asked: dict[str, Any] = {"limit": _MOST_CHANGES, "budget": _CHANGES_COST} | ({"query": query} if query else {})
    answer = await assistant.call("alert_changes", since=since, **asked)
    changes: list[dict[str, Any]] = answer["changes"]
    while answer["more"]:
        answer = await assistant.call("alert_changes", since=answer["next"], **asked)
        changes += answer["changes"]
    return changes


def ids(rows: list[dict[str, Any]]) -> set[str]:
    """The alerts that rows are about, those of a folded row included."""
    return {str(one) for row in rows for one in (row["id"], *row.get("ids", ()))}


async def every_id(assistant: Assistant, query: str, **more: Any) -> set[str]:
    """The ids of all alerts that match."""
    return ids(await every_row(assistant, query, **more))


async def total(assistant: Assistant, query: str, **more: Any) -> int:
    """How many alerts match."""
    return int((await assistant.call("count_alerts", query=query, **more))["total"])


def coverage_of(answer: dict[str, Any], source: str) -> dict[str, Any]:
    """What an answer says of how far a source was read."""
    return next((entry for entry in answer["coverage"] if entry["source"] == source), {"state": "blind"})


def account(user: str) -> str:
    r"""``alice`` from ``alice@corp.example`` or ``CORP\alice``."""
    return user.rpartition("\\")[2].partition("@")[0].lower()


def values_of(alert: dict[str, Any], kind: str) -> list[str]:
    """The values of an alert's entities of one kind."""
    return [str(entity["value"]) for entity in alert.get("entities", ()) if entity["kind"] == kind]


def moment(text: str) -> str:
    """A time to the second, however precisely it was told."""
    return f"{text[:19]}Z"
