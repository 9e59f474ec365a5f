"""Google SecOps' alert endpoints in small, written from their public shapes: the alerts view, one alert, alerts by rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xdr_mcp.simulator.revision import Revision, stamp

Alert = dict[str, Any]

_SEVERITIES: Final = ("NONE", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
_INSTANCE: Final = "/v1alpha/projects/{project}/locations/{location}/instances/{instance}"
_MOST: Final = 1000


class SecOps:
    """An instance that has these alerts."""

    def __init__(self, revisions: Sequence[Revision]) -> None:
        alerts = (alert_of(revision) for revision in revisions)
        self._alerts = sorted(alerts, key=lambda alert: str(alert["createdTime"]), reverse=True)
        self.app = Starlette(
            routes=[
                Route(f"{_INSTANCE}/legacy:legacyFetchAlertsView", self._view),
                Route(f"{_INSTANCE}/legacy:legacyGetAlert", self._one),
                Route(f"{_INSTANCE}/legacy:legacySearchRulesAlerts", self._by_rule),
            ]
        )

    async def _view(self, request: Request) -> Response:
        asked = request.query_params
        found = self._between(asked["timeRange.startTime"], asked["timeRange.endTime"])
        if 'status != "CLOSED"' in asked.get("snapshotQuery", ""):
            found = [alert for alert in found if alert["feedbackSummary"]["status"] != "CLOSED"]
        most = int(asked.get("alertListOptions.maxReturnedAlerts", _MOST))
        return JSONResponse([{"progress": 1, "complete": True, "alerts": {"alerts": found[:most]}}])

    async def _one(self, request: Request) -> Response:
        found = [alert for alert in self._alerts if alert["id"] == request.query_params["alertId"]]
        if not found:
            return JSONResponse({"error": {"code": 404, "status": "NOT_FOUND"}}, 404)
        return JSONResponse({"alert": found[0]})

    async def _by_rule(self, request: Request) -> Response:
        asked = request.query_params
        found = self._between(asked["timeRange.start_time"], asked["timeRange.end_time"])
        most = int(asked["maxNumAlertsToReturn"])
        rules: dict[str, list[Alert]] = {}
        for alert in found[:most]:
            rules.setdefault(alert["detection"][0]["ruleId"], []).append(alert)
        told = [
            {
                "ruleMetadata": {"properties": {"ruleId": rule, "name": alerts[0]["detection"][0]["ruleName"]}},
                "alerts": [{**alert, "detectionTimestamp": alert["createdTime"]} for alert in alerts],
            }
            for rule, alerts in rules.items()
        ]
        return JSONResponse({"ruleAlerts": told, "tooManyAlerts": len(found) > most})

    def _between(self, start: str, end: str) -> list[Alert]:
        bounds = datetime.fromisoformat(start), datetime.fromisoformat(end)
        return [alert for alert in self._alerts if bounds[0] <= _moment(alert["createdTime"]) < bounds[1]]


def alert_of(revision: Revision) -> Alert:
    """An alert of the simulated company, as a detection with one event."""
    attributes = revision.record["attributes"]
    data = attributes["supportingData"]
    status = {"NEW": "NEW", "IN_PROGRESS": "OPEN"}.get(attributes["status"], "CLOSED")
    severity = _SEVERITIES[attributes["severity"]]
    created = stamp(revision.created)
    event = {
        "metadata": {"eventTimestamp": created, "eventType": "GENERIC_EVENT", "productName": attributes["generatedBy"]},
        "principal": {
            "hostname": data.get("hostname"),
            "ip": [data["host_ip"]] if "host_ip" in data else [],
            "user": {"userid": data.get("user")},
            "process": {"commandLine": data.get("command_line"), "file": {"fullPath": data.get("process_name")}},
        },
        "target": {"file": {"sha256": data.get("sha256"), "fullPath": data.get("file_path")}},
        "securityResult": [{"summary": attributes["name"], "description": attributes["message"]}],
    }
    return {
        "id": f"de_{revision.alert_id}",
        "type": "RULE_DETECTION",
        "createdTime": created,
        "detectionTime": created,
        "timeWindow": {"startTime": created, "endTime": created},
        "detection": [
            {
                "ruleId": f"ru_{attributes['ruleId']}",
                "ruleName": attributes["name"],
                "ruleVersion": f"ru_{attributes['ruleId']}@v_1",
                "severity": severity,
                "alertState": "ALERTING",
                "ruleType": "SINGLE_EVENT",
                "riskScore": attributes["score"],
            }
        ],
        "collectionElements": [{"label": "event", "references": [{"event": event}]}],
        "feedbackSummary": {
            "status": status,
            "severityDisplay": severity,
            "verdict": "FALSE_POSITIVE" if attributes["status"] == "ACK_FP" else "VERDICT_UNSPECIFIED",
        },
    }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
