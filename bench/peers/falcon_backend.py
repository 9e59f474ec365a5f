"""CrowdStrike's alert API in small, written from its public shapes: tokens, ids by FQL, entities by id, aggregates.

Of FQL it takes what the ten questions need: ``field:'value'``, ``field:['a','b']``, ``field:>='value'``, joined by ``+``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xdr_mcp.simulator.attack import TACTICS, TECHNIQUES
from xdr_mcp.simulator.company import stable_uuid
from xdr_mcp.simulator.revision import Revision, stamp

Alert = dict[str, Any]

_CID: Final = stable_uuid("cid").replace("-", "")
_SEVERITY: Final = (0, 10, 30, 50, 70, 90)
_NAMES: Final = ("Unknown", "Informational", "Low", "Medium", "High", "Critical")
_STATUSES: Final = {"NEW": "new", "IN_PROGRESS": "in_progress"}
_CONDITION = re.compile(r"([\w.]+):(>=|<=|>|<)?(\[[^\]]*\]|'[^']*'|\d+)")
_DAY: Final = len("2026-01-01")


class Falcon:
    """A tenant that has these alerts."""

    def __init__(self, revisions: Sequence[Revision]) -> None:
        alerts = (alert_of(revision) for revision in revisions)
        self._alerts = {alert["composite_id"]: alert for alert in alerts}
        self.app = Starlette(
            routes=[
                Route("/oauth2/token", self._token, methods=["POST"]),
                Route("/alerts/queries/alerts/v2", self._ids),
                Route("/alerts/entities/alerts/v2", self._entities, methods=["POST"]),
                Route("/alerts/aggregates/alerts/v2", self._aggregates, methods=["POST"]),
            ]
        )

    async def _token(self, _: Request) -> Response:
        return JSONResponse({"access_token": "simulated", "expires_in": 1799, "token_type": "bearer"}, 201)

    async def _ids(self, request: Request) -> Response:
        asked = request.query_params
        found = self._matching(asked.get("filter", ""))
        field, _, direction = re.sub(r"[|]", ".", asked.get("sort", "timestamp.desc")).rpartition(".")
        found.sort(key=lambda alert: _value(alert, field), reverse=direction == "desc")
        offset, limit = int(asked.get("offset", 0)), int(asked.get("limit", 100))
        ids = [alert["composite_id"] for alert in found[offset : offset + limit]]
        return _answer(ids, {"pagination": {"offset": offset, "limit": limit, "total": len(found)}})

    async def _entities(self, request: Request) -> Response:
        wanted = (await request.json())["composite_ids"]
        return _answer([alert for one in wanted if (alert := self._by_id(one))])

    def _by_id(self, told: str) -> Alert | None:
        """By its composite id, or by the last part of it: the questions know an alert by that."""
        return next((alert for one, alert in self._alerts.items() if one.endswith(told)), None)

    async def _aggregates(self, request: Request) -> Response:
        return _answer([self._aggregate(asked) for asked in await request.json()])

    def _aggregate(self, asked: dict[str, Any]) -> dict[str, Any]:
        values = [_value(alert, asked["field"]) for alert in self._matching(asked.get("filter", ""))]
        if asked["type"] == "date_histogram":
            counts = sorted(Counter(f"{value[:_DAY]}T00:00:00.000Z" for value in values).items())
            buckets = [{"key_as_string": key, "count": count} for key, count in counts]
        else:
            ranked = Counter(filter(None, values)).most_common()
            buckets = [{"label": key, "count": count} for key, count in ranked[: asked.get("size", 10)]]
        return {"name": asked.get("name", ""), "buckets": buckets}

    def _matching(self, text: str) -> list[Alert]:
        conditions = _CONDITION.findall(text)
        if "+".join(f"{field}:{operator}{value}" for field, operator, value in conditions) != text:
            raise ValueError(f"this backend does not understand the FQL {text!r}")
        return [alert for alert in self._alerts.values() if all(_holds(alert, *condition) for condition in conditions)]


def alert_of(revision: Revision) -> Alert:
    """An alert of the simulated company, as an endpoint detection of this vendor."""
    attributes = revision.record["attributes"]
    data = attributes["supportingData"]
    severity, status = attributes["severity"], attributes["status"]
    attack = next(iter(attributes["attacks"]), None)
    technique, tactic = (attack["techniqueId"], attack["tactic"].partition(" ")[0]) if attack else ("", "")
    device = stable_uuid("device", data.get("hostname")).replace("-", "")
    number = revision.alert_id.replace("-", "")
    process = data.get("process_name", "")
    return {
        "agent_id": device,
        "aggregate_id": f"aggind:{device}:{number[:12]}",
        "assigned_to_name": attributes["assignee"],
        "cid": _CID,
        "cmdline": data.get("command_line", ""),
        "composite_id": f"{_CID}:ind:{device}:{revision.alert_id}",
        "confidence": attributes["confidence"] * 20,
        "created_timestamp": stamp(revision.created),
        "crawled_timestamp": stamp(revision.created),
        "data_domains": ["Endpoint"],
        "description": attributes["message"],
        "device": {
            "agent_version": "7.20.19305.0",
            "cid": _CID,
            "device_id": device,
            "external_ip": "203.0.113.200",
            "hostname": data.get("hostname", ""),
            "local_ip": data.get("host_ip", ""),
            "machine_domain": "halden-marine.example",
            "os_version": "Windows 11",
            "platform_name": "Windows",
            "status": "normal",
        },
        "display_name": attributes["name"],
        "falcon_host_link": f"https://falcon.example/activity-v2/detections/{number}",
        "filename": process,
        "filepath": data.get("file_path", ""),
        "id": f"ind:{device}:{revision.alert_id}",
        "ioc_context": [{"ioc_type": "hash_sha256", "ioc_value": data["sha256"]}] if "sha256" in data else [],
        "is_synthetic_quarantine_disposition": False,
        "local_process_id": str(int(number[:6], 16)),
        "md5": number,
        "mitre_attack": [
            {
                "pattern_id": 10_000,
                "tactic": TACTICS[tactic],
                "tactic_id": tactic,
                "technique": TECHNIQUES[technique][0],
                "technique_id": technique,
            }
        ]
        if attack
        else [],
        "name": attributes["name"],
        "objective": "Falcon Detection Method",
        "parent_details": {"filename": data.get("parent_process", "explorer.exe"), "cmdline": "", "process_id": "0"},
        "pattern_disposition": 0,
        "pattern_disposition_description": "Detection, standard detection.",
        "pattern_id": 10_000,
        "platform": "Windows",
        "process_id": str(int(number[:10], 16)),
        "product": "epp",
        "scenario": "suspicious_activity",
        "severity": _SEVERITY[severity],
        "severity_name": _NAMES[severity],
        "sha256": data.get("sha256", ""),
        "show_in_ui": True,
        "source_products": ["Falcon Insight"],
        "status": _STATUSES.get(status, "closed"),
        "tactic": TACTICS.get(tactic, ""),
        "tactic_id": tactic,
        "tags": [],
        "technique": TECHNIQUES[technique][0] if technique else "",
        "technique_id": technique,
        "timestamp": stamp(revision.created),
        "type": "ldt",
        "updated_timestamp": stamp(revision.updated),
        "user_name": data.get("user", ""),
    }


def _holds(alert: Alert, field: str, operator: str, told: str) -> bool:
    value = _value(alert, field)
    if told.startswith("["):
        return value in re.findall(r"'([^']*)'", told)
    wanted: Any = int(told) if told.isdecimal() else told.strip("'")
    if not operator:
        return bool(value == wanted)
    compared = {">=": value >= wanted, "<=": value <= wanted, ">": value > wanted, "<": value < wanted}
    return bool(compared[operator])


def _value(alert: Alert, field: str) -> Any:
    value: Any = alert
    for part in field.split("."):
        value = value[part]
    return value


def _answer(resources: list[Any], meta: dict[str, Any] | None = None) -> Response:
    told = {"query_time": 0.01, "powered_by": "detectsapi", "trace_id": "0", **(meta or {})}
    return JSONResponse({"meta": told, "resources": resources, "errors": []})
