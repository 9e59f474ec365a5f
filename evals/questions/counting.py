"""Counting, by anything; pivots from one thing to another; storms; and what several sources say together."""

from __future__ import annotations

from collections.abc import Iterable

from evals.asking import Answer, Question
from evals.assistant import Assistant
from evals.clock import NOON, hours, stamp
from evals.estate import OUTBREAK_HASH, World
from evals.policies import count, group, values
from evals.questions.finding import HIGH
from evals.reading import account, every_group, ids, moment, values_of
from evals.truth import Fact, counted, newest


def questions(world: World) -> list[Question]:
    """The questions of this kind."""
    facts = list(world.facts.values())
    north = [fact for fact in facts if fact.source == "north"]
    return [*_counts(facts, north), *_groups(facts, north), *_pivots(facts, north), *_storms(north), *_sources(facts)]


def _counts(facts: list[Fact], north: list[Fact]) -> list[Question]:
    return [
        Question("count all", "How many alerts are known in all?", len(facts), count("")),
        Question(
            "count open",
            "How many open alerts of high severity or worse are known?",
            len([fact for fact in facts if fact.open and fact.rank >= HIGH]),
            count("status:open severity>=high"),
        ),
        Question(
            "count day",
            "How many alerts were created in north within the last 24 hours?",
            len([fact for fact in north if fact.created >= NOON - hours(24)]),
            count("source:north since:-24h"),
        ),
        Question(
            "count false",
            "How many alerts of south were closed as false positives?",
            len([fact for fact in facts if fact.source == "south" and fact.verdict == "false_positive"]),
            count("source:south verdict:false_positive"),
        ),
    ]


def _groups(facts: list[Fact], north: list[Fact]) -> list[Question]:
    return [
        Question(
            "group severity", "How many alerts are known of each severity?", counted(f.severity for f in facts), group("", "severity")
        ),
        Question("group status", "How many alerts are known in each status?", counted(f.status for f in facts), group("", "status")),
        Question(
            "group day",
            "How many alerts were created in north on each day? (by date, UTC)",
            counted(f"{fact.created:%Y-%m-%d}" for fact in north),
            group("source:north", "created:day"),
        ),
        Question(
            "group analyst",
            "How many open alerts is each analyst working on? (those taken by somebody)",
            counted(fact.assignee for fact in facts if fact.open and fact.assignee),
            group("status:open assignee:*", "assignee"),
        ),
    ]  # fmt: skip


def _pivots(facts: list[Fact], north: list[Fact]) -> list[Question]:
    dumped = next(fact for fact in newest(north) if fact.rule == "EDR-2083")
    victim = min(dumped.users)

    async def elsewhere(assistant: Assistant) -> Answer:
        alert = (await assistant.call("get_alert", id=dumped.id))["alert"]
        who = account(values_of(alert, "user")[0])
        return {host.lower() for host in await every_group(assistant, f"source:north user:{who}", "host")}

    return [
        Question(
            "pivot hash",
            f"On which hosts was the file with the SHA-256 {OUTBREAK_HASH} seen?",
            _hosts(fact for fact in facts if OUTBREAK_HASH in fact.hashes),
            values(f"hash:{OUTBREAK_HASH}", "host"),
        ),
        Question(
            "pivot users",
            "Which accounts occur in alerts of north about the host HM-DC01? (account names, without domain)",
            {user for fact in north if "hm-dc01" in fact.hosts for user in fact.users},
            values("source:north host:HM-DC01", "user", account),
        ),
        Question(
            "pivot network",
            "How many alerts of north involve an address of 203.0.113.0/24?",
            len([fact for fact in north if any(ip.startswith("203.0.113.") for ip in fact.ips)]),
            count("source:north ip:203.0.113.0/24"),
        ),
        Question(
            "pivot chain",
            f"Take the account of alert {dumped.id}: on which hosts does it occur in alerts of north?",
            _hosts(fact for fact in north if victim in fact.users),
            elsewhere,
        ),
    ]  # fmt: skip


def _storms(north: list[Fact]) -> list[Question]:
    lately = [fact for fact in north if fact.created >= NOON - hours(3)]
    flood = [fact for fact in lately if fact.rule == "NET-3010" and "hm-vpn01" in fact.hosts]
    alike = sorted(stamp(fact.created) for fact in flood if fact.status == "new")

    async def size(assistant: Assistant) -> Answer:
        answer = await assistant.call("count_alerts", query="source:north since:-3h", by=["rule", "host"], limit=1)
        return int(answer["groups"][0]["count"])

    async def span(assistant: Assistant) -> Answer:
        page = await assistant.call("list_alerts", source="north", status="new", since="-3h", limit=60)
        row = max(page["alerts"], key=lambda row: int(row.get("count", 1)))
        return [moment(row["first"]), moment(row["last"])]

    async def others(assistant: Assistant) -> Answer:
        page = await assistant.call("list_alerts", source="north", since="-3h", limit=100, severity="low")
        return ids(page["alerts"])

    return [
        Question(
            "storm size",
            "One detection has flooded north within the last three hours: the same finding about one host, over and over. "
            "How many alerts is it?",
            len(flood),
            size,
        ),
        Question(
            "storm span",
            "One detection has flooded north within the last three hours. When were the first and the last of its alerts created "
            "that are still new? "
            "(two times, UTC, to the second)",
            [alike[0], alike[-1]],
            span,
        ),
        Question(
            "storm rest",
            "Which alerts of low severity or worse were created in north within the last three hours?",
            _ids(fact for fact in lately if fact.severity not in {"informational", "unknown"}),
            others,
        ),
    ]


def _sources(facts: list[Fact]) -> list[Question]:
    open_in = {name: [fact for fact in facts if fact.source == name and fact.open] for name in ("north", "cloud")}
    shared = {user for fact in open_in["north"] for user in fact.users} & {u for f in open_in["cloud"] for u in f.users}

    async def in_both(assistant: Assistant) -> Answer:
        users = await every_group(assistant, "source:cloud status:open", "user")
        accounts = {account(user) for user in users}
        query = f"source:north status:open user:({' or '.join(sorted(accounts))})"
        return accounts & {account(user) for user in await every_group(assistant, query, "user")}

    return [
        Question(
            "sources count",
            "How many critical and high alerts is each source known to have?",
            counted(fact.source for fact in facts if fact.rank >= HIGH),
            group("severity>=high", "source"),
        ),
        Question("sources users", "Which accounts have open alerts both in north and in cloud?", shared, in_both),
    ]


def _ids(facts: Iterable[Fact]) -> set[str]:
    return {fact.id for fact in facts}


def _hosts(facts: Iterable[Fact]) -> set[str]:
    return {host for fact in facts for host in fact.hosts}
