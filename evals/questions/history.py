"""What changed, what was known when, what belongs together, and what the vendor knows beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from evals.asking import Answer, Policy, Question
from evals.assistant import Assistant
from evals.clock import NOON, hours, stamp
from evals.estate import World
from evals.policies import count, group
from evals.questions.finding import CRITICAL, HIGH
from evals.reading import every_id, ids, journal, values_of
from evals.truth import Fact, Known, counted, newest


def questions(world: World) -> list[Question]:
    """The questions of this kind."""
    return [*_changes(world), *_past(world), *_related(world), *_context(world)]


def _changes(world: World) -> list[Question]:
    then, now = world.known_at(NOON - hours(1)), world.known[-1]
    since = f"Your last look ended at number {then.seq} of the journal of changes."
    fresh = [fact for fact in now.facts.values() if fact.id not in then.facts]
    closed = [f for f in now.facts.values() if f.id in then.facts and then.facts[f.id].open and not f.open]
    known = [step for step in world.known if step.at >= then.at]
    taken = next(
        fact
        for fact in sorted(now.facts.values(), key=lambda fact: fact.id)
        if fact.id in then.facts
        and then.facts[fact.id].status != fact.status
        and len({step.facts[fact.id].status for step in known}) == 2  # noqa: PLR2004 (one step)
    )

    async def created(assistant: Assistant) -> Answer:
        return ids([one for one in await journal(assistant, then.seq) if one["kind"] == "created"])

    async def ended(assistant: Assistant) -> Answer:
        return ids([one for one in await journal(assistant, then.seq) if one["kind"] == "closed"])

    async def step(assistant: Assistant) -> Answer:
        changes = await journal(assistant, then.seq, f'id:"{taken.id}"')
        return next(list(map(str, one["fields"]["status"])) for one in changes if "status" in one.get("fields", {}))

    async def number(assistant: Assistant) -> Answer:
        return sum(1 + len(one.get("ids", ())) for one in await journal(assistant, then.seq))

    async def reopened(assistant: Assistant) -> Answer:
        return ids([one for one in await journal(assistant, 0, "source:cloud") if one["kind"] == "reopened"])

    async def worst(assistant: Assistant) -> Answer:
        answer = await assistant.call("wait_for_alerts", query="severity>=high", since=then.seq, timeout=1)
        return "yes" if answer["changes"] else "no"

    async def quiet(assistant: Assistant) -> Answer:
        answer = await assistant.call("wait_for_alerts", query="source:cloud", since=then.seq, timeout=1)
        return "yes" if answer["changes"] else "no"

    return [
        Question("changes new", f"{since} Which alerts are new since then?", _ids(fresh), created),
        Question("changes closed", f"{since} Which alerts that were known then have been closed?", _ids(closed), ended),
        Question(
            "changes step",
            f"{since} From which status to which did alert {taken.id} go since then?",
            [then.facts[taken.id].status, taken.status],
            step,
        ),
        Question("changes number", f"{since} How many changes are there since then?", _number_of_changes(known), number),
        Question("changes reopened", "Which alerts of cloud were ever reopened?", _ids(_reopened(world.known, "cloud")), reopened),
        Question(
            "changes severe",
            f"{since} Has any alert of high severity or worse been raised or changed since then? (yes or no)",
            "yes" if any(f.rank >= HIGH and then.facts.get(f.id) != f for f in now.facts.values()) else "no",
            worst,
        ),
        Question("changes quiet", f"{since} Has anything become known from cloud since then? (yes or no)", "no", quiet),
    ]  # fmt: skip


def _past(world: World) -> list[Question]:
    then, now = world.known_at(NOON - hours(12)), world.known[-1]
    at = then.at + hours(0.5)
    bad = [fact for fact in then.facts.values() if fact.source == "north" and fact.rank >= HIGH - 1]
    was_open = [fact for fact in bad if fact.open and fact.rank == CRITICAL]
    taken = [f for f in then.facts.values() if f.source == "north" and f.status == "in_progress" and f.assignee]
    about = next(fact for fact in sorted(taken, key=lambda fact: fact.id) if not now.facts[fact.id].open)

    async def state(assistant: Assistant) -> Answer:
        alert = (await assistant.call("get_alert", id=about.id, as_of=stamp(at)))["alert"]
        return [str(alert["status"]), str(alert["assignee"])]

    async def handled(assistant: Assistant) -> Answer:
        query = "source:north severity>=medium status:open"
        return await every_id(assistant, query, as_of=stamp(at)) - await every_id(assistant, query)

    return [
        Question(
            "as_of count",
            f"How many alerts were known at {stamp(at)}?",
            len(then.facts),
            count("", as_of=stamp(at)),
        ),
        Question(
            "as_of open",
            f"How many open critical alerts of north were known at {stamp(at)}, as they stood then?",
            len(was_open),
            count("source:north severity:critical status:open", as_of=stamp(at)),
        ),
        Question(
            "as_of status",
            f"How many alerts of north were in each status at {stamp(at)}, as far as was known then?",
            counted(fact.status for fact in then.facts.values() if fact.source == "north"),
            group("source:north", "status", as_of=stamp(at)),
        ),
        Question(
            "as_of alert",
            f"At {stamp(at)}, what was the status of alert {about.id}, and who was working on it?",
            [about.status, about.assignee],
            state,
        ),
        Question(
            "as_of handled",
            f"Which alerts of north of medium severity or worse were open at {stamp(at)}, as far as was known then, and are not "
            "open now?",
            _ids(fact for fact in bad if fact.open and not now.facts[fact.id].open),
            handled,
        ),
    ]


def _related(world: World) -> list[Question]:
    north = [fact for fact in world.facts.values() if fact.source == "north"]
    payload = next(fact for fact in newest(north) if fact.rule == "EDR-2120")
    injected = next(fact for fact in newest(north) if fact.rule == "EDR-2060")

    async def same_file(assistant: Assistant) -> Answer:
        return await _sharing(assistant, payload.id, "hash:")

    async def same_case(assistant: Assistant) -> Answer:
        alert = (await assistant.call("get_alert", id=injected.id))["alert"]
        (case,) = (label for label in alert["labels"] if label.startswith("case:"))
        return await every_id(assistant, f'label:"{case}"') - {injected.id}

    async def same_host(assistant: Assistant) -> Answer:
        alert = (await assistant.call("get_alert", id=injected.id))["alert"]
        return await every_id(assistant, f"host:{values_of(alert, 'host')[0]}") - {injected.id}

    return [
        Question(
            "related file",
            f"Which other alerts saw the same file as alert {payload.id}?",
            _ids(fact for fact in north if fact.hashes & payload.hashes and fact.id != payload.id),
            same_file,
        ),
        Question(
            "related case",
            f"Which other alerts belong to the same case as alert {injected.id}?",
            _ids(fact for fact in north if fact.case == injected.case and fact.id != injected.id),
            same_case,
        ),
    ]


async def _sharing(assistant: Assistant, told_id: str, what: str) -> set[str]:
    """The related alerts that share something of a kind."""
    answer = await assistant.call("related_alerts", id=told_id, limit=20)
    return ids([row for row in answer["alerts"] if any(str(why).startswith(what) for why in row["why"])])


def _context(world: World) -> list[Question]:
    """What only the vendor knows, asked for live."""
    revision = next(
        one for one in reversed(world.revisions_of("north")) if one.record["attributes"]["ruleId"] == "NET-3105"
    )
    about = f"north/{revision.alert_id}"
    seen = set(revision.record["attributes"]["artefacts"])
    actors = {one["attributes"]["actor"] for one in world.tenants.north.intel if one["attributes"]["value"] in seen}

    def of(part: str, read: Callable[[dict[str, Any]], Answer]) -> Policy:
        async def policy(assistant: Assistant) -> Answer:
            return read((await assistant.call("alert_context", id=about, budget=8_000))[part])

        return policy

    return [
        Question(
            "context assets",
            f"Which assets (by name) does the vendor list for alert {about}?",
            {asset["attributes"]["name"] for asset in revision.assets},
            of("assets", lambda part: {str(item["name"]) for item in part["items"]}),
        ),
        Question(
            "context actor",
            f"Which actor does the vendor's intelligence name for what was seen in alert {about}?",
            actors,
            of("intelligence", lambda part: {str(item["actor"]) for item in part["items"]}),
        ),
    ]  # fmt: skip


def _reopened(known: list[Known], source: str) -> Iterable[Fact]:
    for before, after in pairwise(known):
        for fact in after.facts.values():
            if fact.source == source and fact.open and fact.id in before.facts and not before.facts[fact.id].open:
                yield fact


def _number_of_changes(known: list[Known]) -> int:
    """How many versions became known, poll by poll."""
    return sum(
        sum(before.facts.get(fact.id) != fact for fact in after.facts.values()) for before, after in pairwise(known)
    )


def _ids(facts: Iterable[Fact]) -> set[str]:
    return {fact.id for fact in facts}
