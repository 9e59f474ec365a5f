"""What is true, computed from the simulated vendors' own records: nothing of the program's store, mapping or queries is used.

An alert is reduced to a ``Fact``, in the words that the tools use; what a perfect reader knew at some moment is ``Known``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from xdr_mcp.simulator.attack import TECHNIQUES
from xdr_mcp.simulator.revision import Revision

_SEVERITIES: Final = ("unknown", "informational", "low", "medium", "high", "critical")
_STATUSES: Final = {
    "NEW": "new",
    "IN_PROGRESS": "in_progress",
    "ACK_COMPLETE": "resolved",
    "ACK_FP": "resolved",
    "SUPPRESS": "suppressed",
    "new": "new",
    "inProgress": "in_progress",
    "resolved": "resolved",
}
_VERDICTS: Final = {
    "ACK_FP": "false_positive",
    "falsePositive": "false_positive",
    "truePositive": "true_positive",
    "informationalExpectedActivity": "benign",
}


@dataclass(frozen=True)
class Fact:
    """One version of one alert, as its vendor has it."""

    id: str
    source: str
    title: str
    text: str
    """Title and prose."""
    severity: str
    status: str
    verdict: str
    assignee: str
    rule: str
    case: str
    created: datetime
    updated: datetime
    techniques: frozenset[str]
    tactics: frozenset[str]
    hosts: frozenset[str]
    """In lower case, without their domain."""
    users: frozenset[str]
    """Account names, in lower case, without their domain."""
    ips: frozenset[str]
    hashes: frozenset[str]
    command: str
    events: int

    @property
    def open(self) -> bool:
        """Somebody is expected to work on it."""
        return self.status in {"new", "in_progress"}

    @property
    def rank(self) -> int:
        """How bad it is, 0 to 5."""
        return _SEVERITIES.index(self.severity)


@dataclass(frozen=True)
class Known:
    """What a perfect reader knew at a moment, and where the journal stood then."""

    at: datetime
    facts: dict[str, Fact]
    seq: int


def of_xdr(source: str, public_id: Callable[[str], str], revision: Revision) -> Fact:
    """A version of a simulated XDR alert, from its record before any drift."""
    attributes = revision.record["attributes"]
    data = attributes["supportingData"]
    assets = [asset["attributes"] for asset in revision.assets]
    techniques = frozenset(attack["techniqueId"] for attack in attributes["attacks"])
    return Fact(
        id=f"{source}/{public_id(revision.alert_id)}",
        source=source,
        title=attributes["name"],
        text=f"{attributes['name']} {attributes['message']}",
        severity=_SEVERITIES[attributes["severity"]],
        status=_STATUSES[attributes["status"]],
        verdict=_VERDICTS.get(attributes["status"], "unknown"),
        assignee=attributes["assignee"] or "",
        rule=attributes["ruleId"],
        case=data.get("caseId", ""),
        created=_moment(revision.created),
        updated=_moment(revision.updated),
        techniques=techniques,
        tactics=frozenset(attack["tactic"].partition(" ")[0] for attack in attributes["attacks"]),
        hosts=frozenset(name.lower() for name in _texts(data.get("hostname"), *(one["hostname"] for one in assets))),
        users=frozenset(name.lower() for name in _texts(data.get("user"))),
        ips=frozenset(
            _texts(*(data.get(name) for name in ("host_ip", "src_ip", "dst_ip")), *(one["ipAddress"] for one in assets))
        )
        | frozenset(data.get("src_ips", ())),
        hashes=frozenset(_texts(data.get("sha256"))),
        command=data.get("command_line", ""),
        events=attributes["totalEventMatchCount"],
    )


_TACTICS: Final = {
    "InitialAccess": "TA0001",
    "Execution": "TA0002",
    "DefenseEvasion": "TA0005",
    "Exfiltration": "TA0010",
}


def of_graph(source: str, record: dict[str, Any]) -> Fact:
    """A version of an alert of the small Graph."""
    users = {one["userAccount"]["accountName"] for one in record["evidence"] if "userAccount" in one}
    devices = [one for one in record["evidence"] if "deviceDnsName" in one]
    return Fact(
        id=f"{source}/{record['id']}",
        source=source,
        title=record["title"],
        text=f"{record['title']} {record['description']}",
        severity=record["severity"],
        status=_STATUSES[record["status"]],
        verdict=_VERDICTS.get(record["classification"], "unknown"),
        assignee=record["assignedTo"] or "",
        rule="",
        case="",
        created=_parsed(record["createdDateTime"]),
        updated=_parsed(record["lastUpdateDateTime"]),
        techniques=frozenset(record["mitreTechniques"]),
        tactics=frozenset({_TACTICS[record["category"]]}),
        hosts=frozenset(one["deviceDnsName"].partition(".")[0].lower() for one in devices),
        users=frozenset(user.lower() for user in users),
        ips=frozenset(_texts(*(one.get("ipAddress") or one.get("lastIpAddress") for one in record["evidence"]))),
        hashes=frozenset(),
        command="",
        events=1,
    )


def newest(facts: Iterable[Fact], number: int | None = None) -> list[Fact]:
    """By created time, newest first."""
    return sorted(facts, key=lambda fact: fact.created, reverse=True)[:number]


def counted(values: Iterable[str]) -> dict[str, int]:
    """How often each occurs."""
    return dict(Counter(values))


def technique_is(fact: Fact, technique: str) -> bool:
    """Whether an alert shows a technique, or one below it."""
    return any(each == technique or each.startswith(f"{technique}.") for each in fact.techniques)


def named(technique: str) -> str:
    """A technique's name."""
    return TECHNIQUES[technique][0]


def _texts(*values: str | None) -> list[str]:
    return [value for value in values if value]


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
