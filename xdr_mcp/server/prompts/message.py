"""One message: what is asked for, how far the picture reaches, and the facts inside a fence, within a budget.

Outside the fence there is nothing but words of ours and numbers: not an id, not a name, not what the user typed. Inside there is
JSON, so that a text cannot pass for another field. What does not fit is left out whole, and told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from xdr_mcp.server.answers.coverage import BLIND
from xdr_mcp.server.answers.telling import told_time
from xdr_mcp.server.prompts.wording import EVIDENCE, RULES, Task
from xdr_mcp.untrusted import Fence

MOST_BYTES = 6_000
"""A message: 1,500 tokens of four bytes."""

_NOTHING = object()
_LEFT_OUT_BYTES = 240
"""Room for the list of what was left out."""


def message(task: Task, tools: Collection[str], now: datetime, facts: Mapping[str, Any]) -> str:
    """The whole message; ``facts`` by section, the most important first, one of them ``coverage``."""
    frame = _frame(task, tools, _picture(now, facts["coverage"]))
    fence = Fence()
    room = MOST_BYTES - len(f"{frame}\n\n{fence.wrap('')}".encode())
    return f"{frame}\n\n{fence.wrap(_told(facts, room))}"


def _frame(task: Task, tools: Collection[str], picture: str) -> str:
    steps = [step.text for step in task.steps if not step.tool or step.tool in tools]
    return "\n".join(
        [
            task.goal,
            "\nSteps",
            *(f"{number}. {text}" for number, text in enumerate(steps, 1)),
            "\nAnswer",
            *(f"- {part}" for part in task.answer),
            "\nRules",
            *(f"- {rule}" for rule in RULES),
            f"\n{picture}",
            EVIDENCE,
        ]
    )


def _picture(now: datetime, coverage: Sequence[Mapping[str, Any]]) -> str:
    """How far the facts reach, in our words and numbers; the sources' names and reasons are among the facts."""
    fetched = f"Facts as of {told_time(now)}"
    if not coverage:
        return f"{fetched}. No source has ever reported: nothing is known, and an empty answer means nothing."
    fetched += f", from {len(coverage)} source{'s' * (len(coverage) > 1)}"
    if ages := [entry["age_s"] for entry in coverage if "age_s" in entry]:
        fetched += f", the oldest picture {max(ages)} s old"
    missing = {
        "blind": sum(entry["state"] == BLIND for entry in coverage),
        "failing": sum(entry["state"] == "failing" for entry in coverage),
        "with gaps": sum("gaps" in entry for entry in coverage),
    }
    if lacking := ", ".join(f"{count} {name}" for name, count in missing.items() if count):
        return f"{fetched}. Not whole: {lacking} (coverage, in the facts); what is missing there is not known."
    return f"{fetched}."


def _told(facts: Mapping[str, Any], room: int) -> str:
    """The facts as JSON, a section a line, in at most ``room`` bytes."""
    whole = _lines(facts)
    if len(whole.encode()) <= room:
        return whole
    left_out: list[str] = []
    kept = _fitted(dict(facts), room - _LEFT_OUT_BYTES, left_out, "")
    return _lines(kept | {"left_out": _fitted(left_out, _LEFT_OUT_BYTES - 20, [], "")})


def _lines(facts: Mapping[str, Any]) -> str:
    sections = (f"{_json(name)}:{_json(value)}" for name, value in facts.items())
    return "{" + ",\n".join(sections) + "}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _fitted(value: Any, room: int, left_out: list[str], path: str) -> Any:
    """As much of the beginning of an object or a list as fits, whole values only; ``_NOTHING`` when nothing does."""
    if len(_json(value).encode()) <= room:
        return value
    match value:
        case dict():
            return _fitted_object(value, room, left_out, path)
        case list():
            kept: list[Any] = []
            room -= 2
            for item in value:
                room -= len(_json(item).encode()) + 1
                if room < 0:
                    break
                kept.append(item)
            left_out.append(f"{path}: {len(value) - len(kept)} of {len(value)}")
            return kept or _NOTHING
        case _:
            left_out.append(path)
            return _NOTHING


def _fitted_object(value: dict[str, Any], room: int, left_out: list[str], path: str) -> Any:
    """No part takes more than half of the room while others wait."""
    kept: dict[str, Any] = {}
    sizes = {key: len(f"{_json(key)}:{_json(item)},".encode()) for key, item in value.items()}
    waiting = sum(sizes.values())
    room -= 2
    for key, item in value.items():
        waiting -= sizes[key]
        name = len(f"{_json(key)}:,\n".encode())
        part = _fitted(item, room - min(waiting, room // 2) - name, left_out, f"{path}.{key}" if path else key)
        if part is not _NOTHING:
            kept[key] = part
            room -= name + len(_json(part).encode())
    return kept or _NOTHING
