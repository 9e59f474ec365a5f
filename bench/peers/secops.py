"""google-secops-mcp, Google's own server: what it can be asked, and by which calls the questions are answered.

Its list of alerts (``get_security_alerts``) has no ids; ``search_rule_alerts`` gives alerts whole, between two times. It
counts and filters nothing else, so most questions are answered by reading every alert.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from bench.peers.answering import Answering, Cannot
from bench.peers.questions import Subject
from evals.assistant import Assistant
from evals.clock import NOON, hours, stamp
from evals.estate import BEGAN, OUTBREAK_HASH

_MOST = 1000
_HIGH = {"HIGH", "CRITICAL"}


def _hours_back(since: datetime) -> int:
    """The server reckons back from the real time."""
    return int((datetime.now(UTC) - since) / hours(1)) + 1


PAGE = ("search_rule_alerts", {"start_time": stamp(BEGAN), "end_time": stamp(NOON), "max_alerts": 25})


async def _all(assistant: Assistant, since: datetime = BEGAN) -> list[dict[str, Any]]:
    times = {"start_time": stamp(since), "end_time": stamp(NOON + hours(1))}
    answer = await assistant.call("search_rule_alerts", **times, max_alerts=_MOST)
    found = [alert for rule in answer["result"]["ruleAlerts"] for alert in rule["alerts"]]
    return sorted(found, key=lambda alert: str(alert["createdTime"]), reverse=True)


def _id(alert: dict[str, Any]) -> str:
    return str(alert["id"]).removeprefix("de_")


def _severity(alert: dict[str, Any]) -> str:
    return str(alert["detection"][0]["severity"])


def _event(alert: dict[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = alert["collectionElements"][0]["references"][0]["event"]
    return event


async def _count(assistant: Assistant, _: Subject) -> Any:
    """The open ones are few enough to be listed as text, where the severity stands."""
    told = await assistant.call("get_security_alerts", hours_back=_hours_back(BEGAN), max_alerts=_MOST)
    return str(told["result"]).count("Severity: CRITICAL")


async def _newest(assistant: Assistant, _: Subject) -> Any:
    return [_id(alert) for alert in await _all(assistant) if _severity(alert) in _HIGH][:5]


async def _one(assistant: Assistant, about: Subject) -> Any:
    told = await assistant.call("get_security_alert_by_id", alert_id=f"de_{about.alert}")
    return _event(json.loads(told["result"])["alert"])["principal"]["process"]["commandLine"]


async def _group(assistant: Assistant, _: Subject) -> Any:
    return dict(Counter(_severity(alert).lower() for alert in await _all(assistant)))


async def _host(assistant: Assistant, about: Subject) -> Any:
    found = await _all(assistant)
    return {_id(alert) for alert in found if _event(alert)["principal"]["hostname"] == about.host}


async def _hash(assistant: Assistant, _: Subject) -> Any:
    events = [_event(alert) for alert in await _all(assistant)]
    return {
        event["principal"]["hostname"].lower() for event in events if event["target"]["file"]["sha256"] == OUTBREAK_HASH
    }


async def _days(assistant: Assistant, _: Subject) -> Any:
    return dict(Counter(alert["createdTime"][:10] for alert in await _all(assistant)))


async def _noise(assistant: Assistant, about: Subject) -> Any:
    found = await _all(assistant, about.now - hours(3))
    return Counter(alert["detection"][0]["ruleName"] for alert in found).most_common(1)[0]


ANSWERS: dict[str, Answering | Cannot] = {
    "count": _count,
    "newest": _newest,
    "one": _one,
    "group": _group,
    "host": _host,
    "hash": _hash,
    "days": _days,
    "changes": Cannot("its alerts do not say when they changed"),
    "as of": Cannot("tells what is, not what was"),
    "noise": _noise,
}
