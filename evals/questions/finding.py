"""Finding: which alerts, when, and what one of them says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from evals.asking import Answer, Question
from evals.assistant import Assistant
from evals.clock import NOON, hours, stamp
from evals.estate import World
from evals.policies import find, most
from evals.reading import every_row, moment, values_of
from evals.truth import Fact, counted, newest, technique_is

CRITICAL: Final = 5
HIGH: Final = 4
_DAY: Final = hours(24)


def questions(world: World) -> list[Question]:
    """The questions of this kind."""
    facts = list(world.facts.values())
    north = [fact for fact in facts if fact.source == "north"]
    return [*_which(facts, north), *_of_one(north), *_when(north)]


def _which(facts: list[Fact], north: list[Fact]) -> list[Question]:
    workload = counted(fact.assignee for fact in facts if fact.open and fact.assignee)
    analyst = max(sorted(workload), key=lambda name: workload[name])
    loader = min(next(fact for fact in newest(north) if fact.rule == "EDR-2060").hashes)

    async def latest(assistant: Assistant) -> Answer:
        page = await assistant.call("list_alerts", source="north", severity="critical", limit=5, fields=["severity"])
        return [str(row["id"]) for row in page["alerts"]]

    critical = newest((fact for fact in north if fact.rank == CRITICAL), 5)
    return [
        Question("find latest", "Which are the five newest critical alerts of north, newest first?", [f.id for f in critical], latest),
        Question(
            "find open",
            "Which critical alerts of north are open?",
            _ids(fact for fact in north if fact.open and fact.rank == CRITICAL),
            find("source:north severity:critical status:open"),
        ),
        Question(
            "find unassigned",
            "Which open alerts of medium severity or worse, created in north within the last three days, has nobody taken?",
            _ids(f for f in north if f.open and f.rank >= HIGH - 1 and not f.assignee and f.created >= NOON - hours(72)),
            find('source:north severity>=medium status:open assignee:"" since:-72h'),
        ),
        Question(
            "find words",
            "Which alerts mention shadow copies?",
            _ids(fact for fact in facts if "shadow copies" in fact.text.lower()),
            find('"shadow copies"'),
        ),
        Question(
            "find technique",
            "Which alerts of north show ATT&CK technique T1003, or one below it?",
            _ids(fact for fact in north if technique_is(fact, "T1003")),
            find("source:north technique:T1003"),
        ),
        Question(
            "find workload",
            f"Which alerts is {analyst} working on?",
            _ids(fact for fact in facts if fact.open and fact.assignee == analyst),
            find(f'assignee:"{analyst}" status:open'),
        ),
        Question(
            "find hash",
            f"Which alerts saw the file with the SHA-256 {loader}?",
            _ids(fact for fact in facts if loader in fact.hashes),
            find(f"hash:{loader}"),
        ),
        Question(
            "find command",
            "Which alerts of north saw a command line that contains vssadmin?",
            _ids(fact for fact in north if "vssadmin" in fact.command),
            find("source:north command:*vssadmin*"),
        ),
    ]  # fmt: skip


def _of_one(north: list[Fact]) -> list[Question]:
    about = next(fact for fact in newest(north) if fact.rule == "EDR-2095")

    async def command(assistant: Assistant) -> Answer:
        return values_of((await assistant.call("get_alert", id=about.id))["alert"], "command")[0]

    async def rule(assistant: Assistant) -> Answer:
        return str((await assistant.call("get_alert", id=about.id))["alert"]["rule_id"])

    return [
        Question("find detail", f"Which command line did alert {about.id} see?", about.command, command),
    ]


def _when(north: list[Fact]) -> list[Question]:
    server = "hm-fs01"
    encrypted = min(fact.created for fact in north if technique_is(fact, "T1486") and fact.created >= NOON - _DAY)
    begin, end = NOON - hours(16), NOON - hours(14)
    by_hour = counted(f"{fact.created:%Y-%m-%dT%H}" for fact in north if fact.created >= NOON - _DAY)

    async def first_encryption(assistant: Assistant) -> Answer:
        rows = await every_row(assistant, "source:north technique:T1486 since:-24h", ("created",))
        return min(moment(row["created"]) for row in rows)

    async def last_on_server(assistant: Assistant) -> Answer:
        page = await assistant.call("filter_alerts", query=f"source:north host:{server}", limit=1, fields=["created"])
        return str(page["alerts"][0]["id"])

    return [
        Question(
            "time first",
            "When was the first alert of technique T1486 created in north within the last 24 hours? (UTC, to the second)",
            stamp(encrypted),
            first_encryption,
        ),
        Question(
            "time window",
            f"Which alerts were created in north from {stamp(begin)} to {stamp(end)}?",
            _ids(fact for fact in north if begin <= fact.created <= end),
            find(f"source:north since:{stamp(begin)} created<{stamp(end)}"),
        ),
        Question(
            "time busiest",
            "In which hour of the last 24 were most alerts created in north? (as 2026-03-20T09)",
            max(sorted(by_hour), key=lambda hour: by_hour[hour]),
            most("source:north since:-24h", "created:hour"),
        ),
        Question(
            "time changed",
            "Which alerts of north changed, or were created, within the last two hours?",
            _ids(fact for fact in north if fact.updated > NOON - hours(2)),
            find("source:north updated>-2h"),
        ),
    ]


def _ids(facts: Iterable[Fact]) -> set[str]:
    return {fact.id for fact in facts}
