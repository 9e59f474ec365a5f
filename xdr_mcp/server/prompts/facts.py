"""The facts of a prompt, as they are at this moment: sections of JSON, the most important first.

Numbers are counted over the whole store, never over a page. Every text of an alert is contained and capped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from xdr_mcp.alert import Alert, Change, Entity, Severity
from xdr_mcp.errors import QueryError
from xdr_mcp.interfaces import Group
from xdr_mcp.query import Pattern, Query, fold, instant, keyword, literal, parse
from xdr_mcp.server.answers.desk import Desk
from xdr_mcp.server.answers.faces import face_of
from xdr_mcp.server.answers.related import related_alerts
from xdr_mcp.server.answers.storms import Folding, Storm
from xdr_mcp.server.answers.telling import COMPACT, told_row, told_time, whole
from xdr_mcp.untrusted import contained, contained_json

Sections: TypeAlias = dict[str, Any]

RECENTLY = "-7d"
LATELY = "-30d"
_TEXT = 600
_NAME = 160
_SAYABLE = 300
"""Characters of a value that is asked for in a query."""
_REVISIONS = 6
_RELATED = 5
_ROWS = 25
_READ = 300
"""Alerts that are read to find so many rows: a storm is one."""
_LARGEST = 6
"""Groups that are told of one kind."""
_ALERT = (
    *("id", "severity", "status", "verdict", "title", "created", "updated", "rule_name", "attacks", "entities"),
    *("description", "risk_score", "confidence", "count", "assignee", "first_seen", "last_seen", "product", "category"),
    *("labels", "recommended_actions", "rule_id", "vendor", "source", "tenant"),
)
"""An alert's fields, the most telling first. The link to the vendor's console is for people, who have it in the alert."""
_DETECTION = (
    *("id", "severity", "verdict", "title", "rule_name", "rule_id", "product", "vendor", "category", "attacks"),
    *("description", "entities", "count", "first_seen", "last_seen", "risk_score", "confidence", "labels"),
)


async def of_alert(desk: Desk, alert_id: str) -> Sections:
    """The alert, what is usual around it, what is related to it, its history.

    Raises:
        UnknownAlert: with the ids that come closest.
    """
    alert = (await desk.alert(alert_id)).alert
    history = _history(await desk.store.revisions(alert.id, _REVISIONS))
    related = (await related_alerts(desk, alert_id, limit=_RELATED)).data
    return {
        **await _coverage(desk),
        "alert": _told(alert, _ALERT),
        "its_entities_in_7_days": [
            await _around(desk, entity) for entity in face_of(alert).principals if len(entity.value) <= _SAYABLE
        ],
        "its_rule_in_30_days": await _rule(desk, alert, "verdict", "status"),
        "related": related["total"],
        "related_the_strongest_first": [_short(row) for row in related["alerts"]],
        **({"its_history": history} if history else {}),
    }


async def of_detection(desk: Desk, alert_id: str) -> Sections:
    """What the alert says of its detection, and how its rule and its technique fared.

    Raises:
        UnknownAlert: with the ids that come closest.
    """
    alert = (await desk.alert(alert_id)).alert
    sections = await _coverage(desk) | {
        "alert": _told(alert, _DETECTION),
        "its_rule_in_30_days": await _rule(desk, alert, "verdict", "status", "host", "user"),
    }
    if alert.techniques and len(alert.techniques[0]) <= _SAYABLE:
        technique = _query(desk, f"technique:{literal(alert.techniques[0])} since:{LATELY}")
        sections["rules_with_its_first_technique_in_30_days"] = await _groups(desk, technique, "rule")
    return sections


async def of_shift(desk: Desk, since: str, severity: Severity) -> Sections:
    """What came, what is open, and what stands out, since a time.

    Raises:
        QueryError: ``since`` is no time.
    """
    now = desk.clock()
    begin = instant(since, now=now)
    came = f"created>={begin.isoformat()}"
    is_open = f"status:open severity>={severity.value}"
    worst = await _newest(desk, _query(desk, "status:open severity:critical"))
    if severity is not Severity.CRITICAL:
        worst += await _newest(desk, _query(desk, f"{is_open} severity<critical"))
    return {
        **await _coverage(desk, _query(desk, came)),
        "period": {"since": told_time(begin), "until": told_time(now)},
        "new": await _counts(desk, _query(desk, came), "severity", "status"),
        "open_now": await _counts(desk, _query(desk, "status:open"), "severity", "status"),
        "open_from_before": await desk.store.count(_query(desk, f"status:open created<{begin.isoformat()}")),
        "closed_and_changed_in_period": await desk.store.count(
            _query(desk, f"status:closed updated>={begin.isoformat()}")
        ),
        "severity": severity.value,
        "open_of_this_severity_or_worse": await desk.store.count(_query(desk, is_open)),
        "of_these_without_assignee": await desk.store.count(_query(desk, f'{is_open} assignee:""')),
        "the_worst_first": _rows(worst[:_ROWS]),
        "new_by_rule": await _groups(desk, _query(desk, came), "rule"),
        "new_by_host": await _groups(desk, _query(desk, came), "host"),
    }


async def of_entity(desk: Desk, kind: str, entity: str, since: str) -> Sections:
    """How often the entity was seen, with what else, and its newest alerts; what is spelled alike where it was not seen.

    Raises:
        QueryError: ``kind`` is no kind, or ``since`` no time.
    """
    field = keyword(kind or "entity")
    pieces = [literal(piece) if piece else "" for piece in entity.split("*")]
    text = f"{field}:{'*'.join(pieces)} since:{literal(since)}"
    query = _query(desk, text)
    sections = {"query": contained(text, _TEXT)} | await _coverage(desk, query)
    sections |= await _counts(desk, query, "severity", "status")
    if not sections["alerts"]:
        alike = await desk.store.values(field, entity.strip()[:3], _LARGEST)
        return sections | {"spelled_alike": contained_json(alike, _NAME)}
    itself = Pattern(tuple(map(fold, entity.split("*"))))
    seen_with = await _groups(desk, query, "entity", 2 * _LARGEST)
    return sections | {
        "by_rule": await _groups(desk, query, "rule"),
        "by_technique": await _groups(desk, query, "technique"),
        "seen_with": [group for group in seen_with if not itself.matches(fold(group[0]))],
        "newest": _rows(await _newest(desk, query)),
        "by_day": await _groups(desk, query, "created:day", 2 * _LARGEST),
    }


async def of_incident(desk: Desk, text: str) -> Sections:
    """The alerts that a query finds: how many, of what kind, and in which order they came.

    Raises:
        QueryError: the query cannot be understood, or finds nothing.
    """
    query = _query(desk, text)
    counts = await _counts(desk, query, "severity", "status", "verdict")
    if not counts["alerts"]:
        raise QueryError(text, 0, len(text), "No alert matches, so there is nothing to report", "host:web* since:-7d")
    newest = await _newest(desk, query)
    return {
        "query": contained(text, _TEXT),
        **await _coverage(desk, query),
        **counts,
        "by_host": await _groups(desk, query, "host"),
        "by_user": await _groups(desk, query, "user"),
        "by_technique": await _groups(desk, query, "technique"),
        "by_rule": await _groups(desk, query, "rule"),
        "newest_in_order_of_time": _rows(sorted(newest, key=lambda storm: storm.first)),
    }


# ---------------------------------------------------------------- what they are made of


def _query(desk: Desk, text: str) -> Query:
    return parse(text, now=desk.clock())


async def _newest(desk: Desk, query: Query) -> list[Storm]:
    """The newest alerts that match, near-duplicates folded."""
    folding = Folding(_ROWS)
    folding.take((await desk.store.find(query, _READ)).alerts)
    return list(folding.storms)


async def _coverage(desk: Desk, query: Query | None = None) -> Sections:
    return (await desk.reach(query)).told()


async def _around(desk: Desk, entity: Entity) -> dict[str, Any]:
    """How often an entity of the alert was seen."""
    text = f"{entity.kind}:{literal(entity.value)} since:{RECENTLY}"
    return {"query": contained_json(text, _NAME)} | await _counts(desk, _query(desk, text), "severity", "status")


async def _rule(desk: Desk, alert: Alert, *by: str) -> Sections:
    """How the alert's rule fared."""
    rule = alert.rule_name or alert.rule_id
    if not 0 < len(rule) <= _SAYABLE:
        return {}
    return await _counts(desk, _query(desk, f"rule:{literal(rule)} since:{LATELY}"), *by)


async def _counts(desk: Desk, query: Query, *by: str) -> dict[str, Any]:
    """How many alerts match, in all and by each of these."""
    counts: dict[str, Any] = {"alerts": 0}
    for name in by:
        grouped = await desk.store.count_by(query, [name], _LARGEST)
        counts["alerts"] = grouped.total
        counts[f"by_{name}"] = _told_groups(grouped.groups)
    return counts


async def _groups(desk: Desk, query: Query, by: str, limit: int = _LARGEST) -> list[list[Any]]:
    return _told_groups((await desk.store.count_by(query, [by], limit)).groups)


def _told_groups(groups: Sequence[Group]) -> list[list[Any]]:
    """``["web-01", 3]`` for each; alerts that have no value are left out."""
    told = ((group.values[0], group.count) for group in groups)
    return [[contained(value, _NAME), count] for value, count in told if value is not None]


def _told(alert: Alert, fields: Sequence[str]) -> dict[str, Any]:
    told = whole(alert)
    capped: dict[str, Any] = contained_json({name: told[name] for name in fields if name in told}, _TEXT)
    return capped | {"id": told["id"]}


def _rows(storms: Sequence[Storm]) -> list[dict[str, Any]]:
    """A row each, with who works on it."""
    rows = []
    for storm in storms:
        row = told_row(storm, COMPACT) | contained_json({"assignee": storm.alert.assignee}, _NAME)
        rows.append(_short({name: value for name, value in row.items() if value}))
    return rows


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Of a storm, how many alerts it is and not which."""
    return {name: value for name, value in row.items() if name not in {"ids", "query"}}


def _history(revisions: Sequence[Change]) -> list[dict[str, Any]]:
    """Who had it in which state, newest first, where it ever changed."""
    if len(revisions) == 1:
        return []
    return [
        {
            "saved": told_time(change.saved),
            "change": change.kind.value,
            "severity": change.alert.severity.value,
            "status": change.alert.status.value,
            "verdict": change.alert.verdict.value,
            "assignee": contained_json(change.alert.assignee, _NAME),
        }
        for change in revisions
    ]
