"""The means of telling a story: alerts that appear, gather events, are worked on and closed, at minutes after its beginning.

A story says *what* happens; this module gives each alert its id, attributes, relationships and one revision a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from xdr_mcp.simulator.attack import attack
from xdr_mcp.simulator.company import Company, Host, User, host_asset, stable_uuid, user_asset
from xdr_mcp.simulator.revision import StoryRevision, stamp
from xdr_mcp.simulator.rules import RULES, Rule

MINUTE = 60_000
"""Milliseconds."""


class Story:
    """A sequence of related alerts that share people, machines and a case.

    Times are epoch milliseconds; ``minutes`` in every method counts from the story's beginning, in the story's own time,
    which runs ``speed`` times as fast as the clock's.
    """

    def __init__(self, key: str, begin: int, company: Company, rng: Random, speed: float = 1.0) -> None:
        self.key = key
        self.begin = begin
        self.minute = MINUTE / speed
        self.company = company
        self.rng = rng
        self.case = f"CASE-{stable_uuid(key, 'case')[:8].upper()}"
        self.revisions: list[StoryRevision] = []
        self.intel: list[dict[str, Any]] = []
        self._alerts = 0

    def at(self, minutes: float) -> int:
        """Epoch milliseconds, with some jitter below a minute so that times look as measured."""
        return self.begin + int((minutes + self.rng.random()) * self.minute)

    def alert(
        self,
        minutes: float,
        rule_id: str,
        message: str,
        *,
        user: User | None = None,
        host: Host | None = None,
        fields: Mapping[str, Any] | None = None,
        case: bool = True,
    ) -> AlertScript:
        """A new alert. ``fields`` are what its event saw (process_name, command_line, src_ip, …)."""
        self._alerts += 1
        alert_id = stable_uuid(self.key, self._alerts)
        return AlertScript(
            self,
            alert_id,
            self.at(minutes),
            RULES[rule_id],
            message=message,
            user=user,
            host=host,
            fields=fields or {},
            case=case,
        )

    def indicator(self, minutes: float, kind: str, value: str, threat: str, actor: str) -> str:
        """Threat intelligence that will be known about a value of this story; returns the value."""
        at = self.at(minutes)
        attributes = {
            "actor": actor,
            "confidence": 4,
            "createdAt": stamp(at),
            "description": f"{value} was seen as part of {threat} activity.",
            "references": [f"https://intel.example/reports/{stable_uuid(threat)[:8]}"],
            "score": 70 + self.rng.randrange(30),
            "threatName": threat,
            "type": kind,
            "updatedAt": stamp(at),
            "value": value,
        }
        self.intel.append({"attributes": attributes, "id": stable_uuid("intel", kind, value), "type": "intel"})
        return value


class AlertScript:
    """One alert on its way: every method adds a revision."""

    def __init__(
        self,
        story: Story,
        alert_id: str,
        created: int,
        rule: Rule,
        *,
        message: str,
        user: User | None,
        host: Host | None,
        fields: Mapping[str, Any],
        case: bool,
    ) -> None:
        self.id = alert_id
        self._story = story
        self._created = created
        self._last = created
        self._number = 0
        self._aggregated = created
        self._fields = _with_entities(fields, user, host)
        self._assets = (*(host_asset(one) for one in (host,) if one), *(user_asset(one) for one in (user,) if one))
        self._events: tuple[dict[str, Any], ...] = ()
        self._attributes = _attributes(story, rule, message, self._fields, len(self._assets), case=case)
        self._add_event(created)
        self._emit(created)

    def gather(self, minutes: float, count: int = 1, score: int | None = None) -> AlertScript:
        """More of the same was seen: the alert aggregates ``count`` events, and may become worse."""
        at = self._after(minutes)
        attributes = self._attributes
        attributes["alertAggregationCount"] += 1
        attributes["totalEventMatchCount"] += count
        if score is not None:
            attributes["score"] = score
        self._aggregated = at
        self._add_event(at)
        return self._emit(at)

    def assign(self, minutes: float, analyst: str | None = None) -> AlertScript:
        """Somebody takes it."""
        attributes = self._attributes
        attributes["assignee"] = analyst or self._story.rng.choice(self._story.company.analysts)
        attributes["status"] = "IN_PROGRESS"
        at = self._after(minutes)
        self._note(at, "Assignee", f"Taken by {attributes['assignee']}.")
        return self._emit(at)

    def note(self, minutes: float, text: str, contain: bool = False) -> AlertScript:  # noqa: FBT001, FBT002 (reads as a flag at the call)
        """The analyst writes something down, and may cut the assets off the network."""
        at = self._after(minutes)
        self._note(at, "General", text)
        return self._emit(at, contained=tuple(asset["id"] for asset in self._assets) if contain else ())

    def close(self, minutes: float, status: str, text: str) -> AlertScript:
        """ACK_COMPLETE, ACK_FP or SUPPRESS, with the reason."""
        at = self._after(minutes)
        self._attributes["status"] = status
        if status == "SUPPRESS":
            self._attributes.update(isSuppressed=True, alertMetadataSuppressed=True, suppressedTime=stamp(at))
        self._note(at, "Suppress" if status == "SUPPRESS" else "Acknowledgement", text)
        return self._emit(at)

    def _after(self, minutes: float) -> int:
        """The wished time, but never before the alert's last change."""
        return max(self._story.at(minutes), self._last + 1 + int(self._story.rng.random() * self._story.minute))

    def _note(self, at: int, source_type: str, text: str) -> None:
        data = self._attributes["supportingData"]
        author = self._attributes["assignee"] or "automation"
        note = {"author": author, "createdAt": stamp(at), "note": text, "sourceType": source_type}
        self._attributes["supportingData"] = {**data, "notes": [*data.get("notes", ()), note]}

    def _add_event(self, at: int) -> None:
        attributes = self._attributes
        event = {
            "artefactType": attributes["supportingData"]["artefactType"],
            "confidence": attributes["confidence"],
            "createdAt": stamp(at),
            "message": attributes["message"],
            "name": attributes["name"],
            "primarySecondaryFields": self._fields,
            "risk": attributes["risk"],
            "sanitized": False,
            "score": attributes["score"],
            "severity": attributes["severity"],
            "source": attributes["generatedBy"],
            "time": stamp(at),
            "updatedAt": stamp(at),
        }
        resource = {"attributes": event, "id": stable_uuid(self.id, "event", len(self._events)), "type": "event"}
        self._events = (*self._events, resource)

    def _emit(self, at: int, contained: tuple[str, ...] = ()) -> AlertScript:
        self._number += 1
        self._last = at
        self._story.revisions.append(
            StoryRevision(
                self.id,
                self._number,
                self._created,
                at,
                dict(self._attributes),
                self._aggregated,
                self._events,
                self._assets,
                contained,
            )
        )
        return self


_ARTEFACT_FIELDS = ("src_ip", "dst_ip", "domain", "url", "sha256", "file_path", "sender", "process_name")


def _with_entities(fields: Mapping[str, Any], user: User | None, host: Host | None) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if host is not None:
        known |= {"hostname": host.name, "host_ip": host.ip}
    if user is not None:
        known |= {"user": user.account, "email": user.email}
    return known | dict(fields)


def _attributes(
    story: Story, rule: Rule, message: str, fields: Mapping[str, Any], assets: int, *, case: bool
) -> dict[str, Any]:
    artefacts = [str(fields[name]) for name in _ARTEFACT_FIELDS if name in fields]
    data = {"artefactType": "process" if "process_name" in fields else "network", **fields}
    if case:
        data["caseId"] = story.case
    attributes: dict[str, Any] = {
        "alertAggregationCount": 1,
        "alertMetadataSuppressed": False,
        "artefacts": artefacts,
        "assetsCount": assets,
        "assignee": None,
        "attacks": [attack(technique, tactic) for technique, tactic in rule.attacks],
        "confidence": rule.confidence,
        "customerId": story.company.customer,
        "generatedBy": rule.product,
        "inPin": False,
        "inTimeline": case,
        "isCorrelated": case,
        "isIntelAvailable": bool(story.intel),
        "isSilent": False,
        "isSuppressed": False,
        "message": message,
        "name": rule.name,
        "recommendedActions": list(rule.actions),
        "risk": min(5, max(rule.severity, 1)),
        "ruleId": rule.id,
        "ruleOrigin": "vendor",
        "score": rule.score,
        "severity": rule.severity,
        "sources": [rule.product],
        "status": "NEW",
        "supportingData": data,
        "suppressedTime": None,
        "tenantId": story.company.tenant,
        "totalEventMatchCount": 1,
    }
    if case:
        attributes["genaiName"] = f"{rule.name} ({story.case})"
        attributes["genaiSummary"] = f"{message} Part of a chain of related alerts."
    return attributes
