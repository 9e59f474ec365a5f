"""Ten questions about one vendor's alerts, each with the answer that is true; whoever answers them returns the same shapes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from evals.clock import NOON, hours, stamp
from evals.estate import OUTBREAK_HASH, World
from evals.truth import Fact, counted, newest

SOURCE: Final = "north"


@dataclass(frozen=True)
class Question:
    """What is asked, and what is true."""

    name: str
    text: str
    truth: Any


@dataclass(frozen=True)
class Subject:
    """What the questions are about; chosen from the truth, so that each has an answer worth asking for."""

    alert: str
    """Vendor's id of an alert with a command line."""
    host: str
    handled: str
    """Vendor's id of an alert that somebody was working on at ``then`` and that is closed now."""
    then: datetime
    lately: datetime
    seq: int
    """Where xdr-mcp's journal stood at ``lately``: what an assistant that looked then has kept."""
    now: datetime = NOON


def vendor_id(fact: Fact) -> str:
    """An alert's id as the vendor has it."""
    return fact.id.partition("/")[2]


def subject(world: World) -> Subject:
    """Choose."""
    facts = of_vendor(world)
    host = max(sorted(counted(host for fact in facts for host in fact.hosts if "-lt-" in host).items()), key=_number)[0]
    commands = newest(fact for fact in facts if fact.command and fact.severity == "critical")
    then = world.known_at(NOON - hours(12))
    lately = world.known_at(NOON - hours(1))
    handled = sorted(
        vendor_id(fact)
        for fact in then.facts.values()
        if fact.source == SOURCE and fact.status == "in_progress" and not world.facts[fact.id].open
    )
    return Subject(vendor_id(commands[0]), host.upper(), handled[0], then.at, lately.at, lately.seq)


def questions(world: World) -> list[Question]:
    """The ten, with what is true of each."""
    about, facts = subject(world), of_vendor(world)
    by_id = {vendor_id(fact): fact for fact in facts}
    then = world.known_at(about.then)
    lately = [fact for fact in facts if fact.updated > about.lately]
    before = world.known_at(about.lately).facts
    recent = counted(fact.title for fact in facts if fact.created >= NOON - hours(3))
    handled = then.facts[f"{SOURCE}/{about.handled}"]
    high = newest((fact for fact in facts if fact.rank >= 4), 5)
    return [
        Question("count", "How many critical alerts are open?", len([f for f in facts if f.open and f.rank == 5])),
        Question("newest", "Which are the five newest alerts of high severity or worse?", [*map(vendor_id, high)]),
        Question("one", f"Which command did alert {about.alert} see?", by_id[about.alert].command),
        Question("group", "How many alerts are there of each severity?", counted(fact.severity for fact in facts)),
        Question(
            "host",
            f"Which alerts concern the host {about.host}?",
            {vendor_id(fact) for fact in facts if about.host.lower() in fact.hosts},
        ),
        Question(
            "hash",
            f"On which hosts was the file {OUTBREAK_HASH} seen?",
            {host for fact in facts if OUTBREAK_HASH in fact.hashes for host in fact.hosts},
        ),
        Question("days", "How many alerts came on each day?", counted(f"{fact.created:%Y-%m-%d}" for fact in facts)),
        Question(
            "changes",
            f"Since {stamp(about.lately)}: which alerts are new, and which were closed?",
            (
                {vendor_id(fact) for fact in lately if fact.id not in before},
                {
                    vendor_id(fact)
                    for fact in lately
                    if not fact.open and (fact.id not in before or before[fact.id].open)
                },
            ),
        ),
        Question(
            "as of",
            f"Who was working on alert {about.handled} at {stamp(about.then)}, and what was its status?",
            (handled.assignee, handled.status),
        ),
        Question(
            "noise",
            "Which title was raised most in the last three hours, and how often?",
            max(recent.items(), key=_number),
        ),
    ]


def of_vendor(world: World) -> list[Fact]:
    """The alerts that all who are compared can see."""
    return [fact for fact in world.facts.values() if fact.source == SOURCE]


def _number(item: tuple[str, int]) -> int:
    return item[1]
