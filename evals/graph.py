"""A Microsoft Defender XDR tenant in small: a token endpoint and ``alerts_v2`` over alerts that follow from a seed.

The tenant belongs to the same company as the first simulated XDR, so that people are met in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any, Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from evals import hostile
from evals.clock import hours
from xdr_mcp.simulator.company import Company, User, stable_uuid

TENANT: Final = "9b1d7c52-61a0-4c59-8a5e-0d8f3f0c7e11"
CLIENT_ID: Final = "evaluation"
CLIENT_SECRET: Final = "made-up-secret"  # noqa: S105 (opens a simulation only)
_ANALYSTS: Final = ("n.haugen@halden-marine.example", "p.duarte@halden-marine.example")
_ALERTS: Final = 44
_EVERY: Final = hours(2)
_SPOILT: Final = {
    5: {"title": hostile.TITLE},
    11: {"threatDisplayName": hostile.THREAT},
    17: {"title": f"Unwanted software was blocked: {hostile.INVISIBLE}"},
}
"""What attackers write where they can: a file's name in the title, a threat's name, a name that cannot be seen."""
_CLAUSE = re.compile(r"lastUpdateDateTime (ge|le) ([0-9T:-]+)")


class Detection(NamedTuple):
    """A kind of alert that the tenant raises."""

    title: str
    severity: str
    category: str
    technique: str
    service: str


_DETECTIONS: Final = (
    Detection("Unfamiliar sign-in properties", "medium", "InitialAccess", "T1078.004", "azureAdIdentityProtection"),
    Detection("Suspicious inbox manipulation rule", "high", "DefenseEvasion", "T1564.008", "microsoftDefenderForCloudApps"),
    Detection("Mass download by a single user", "medium", "Exfiltration", "T1567.002", "microsoftDefenderForCloudApps"),
    Detection("Suspicious PowerShell command line", "high", "Execution", "T1059.001", "microsoftDefenderForEndpoint"),
    Detection("Email messages removed after delivery", "informational", "InitialAccess", "T1566.002", "microsoftDefenderForOffice365"),
    Detection("Unwanted software was blocked", "low", "Execution", "T1204.002", "microsoftDefenderForEndpoint"),
)  # fmt: skip


class Graph:
    """One tenant; ``versions`` is what is true, ``app`` what is served. ``locked`` refuses the credential."""

    def __init__(self, company: Company, began: datetime, clock: Callable[[], datetime]) -> None:
        self.locked = False
        self._clock = clock
        rng = Random(f"graph/{TENANT}")  # noqa: S311 (repeatable, not secret)
        self._told = [
            version
            for number in range(_ALERTS)
            for version in _versions(number, began + _EVERY * number, company.users, rng)
        ]
        self.spoilt = [_id(number) for number in _SPOILT]
        self.app = Starlette(
            routes=[
                Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
                Route("/v1.0/security/alerts_v2", self._list),
            ]
        )

    def versions(self) -> list[dict[str, Any]]:
        """The newest version of each alert by now."""
        now = _told_time(self._clock())
        return list({one["id"]: one for one in self._told if one["lastUpdateDateTime"] <= now}.values())

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        if self.locked or (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            answer = {"error": "invalid_client", "error_description": "AADSTS7000222: the client secret has expired."}
            return JSONResponse(answer, 401)
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": "simulated"})

    async def _list(self, request: Request) -> Response:
        headers = {"Date": format_datetime(self._clock(), usegmt=True)}
        if self.locked or request.headers.get("authorization") != "Bearer simulated":
            error = {"code": "InvalidAuthenticationToken", "message": "The client secret has expired."}
            return JSONResponse({"error": error}, 401, headers)
        bounds = dict(_CLAUSE.findall(request.query_params.get("$filter", "")))
        found = [
            one
            for one in self.versions()
            if bounds.get("ge", "") <= one["lastUpdateDateTime"][:19] <= bounds.get("le", "9999")
        ]
        found.sort(key=lambda one: str(one["lastUpdateDateTime"]), reverse=True)
        return JSONResponse({"value": found}, headers=headers)


def _versions(number: int, created: datetime, users: tuple[User, ...], rng: Random) -> Iterator[dict[str, Any]]:
    """One alert from its beginning on: taken, resolved, and one in eleven opened again."""
    detection = _DETECTIONS[number % len(_DETECTIONS)]
    record = _record(number, created, detection, rng.choice(users), rng)
    yield record
    if rng.random() < 1 / 3:
        return
    at = created + timedelta(minutes=rng.randrange(20, 200))
    taken = {"status": "inProgress", "assignedTo": rng.choice(_ANALYSTS), "lastUpdateDateTime": _told_time(at)}
    yield record | taken
    at += timedelta(minutes=rng.randrange(60, 600))
    verdict = rng.choice(("truePositive", "falsePositive", "informationalExpectedActivity"))
    resolved = {"status": "resolved", "classification": verdict, "lastUpdateDateTime": _told_time(at)}
    yield record | taken | resolved
    if number % 11 == 10:  # noqa: PLR2004 (as often as that)
        at += hours(14)
        yield record | taken | {"lastUpdateDateTime": _told_time(at)}


def _record(number: int, created: datetime, detection: Detection, user: User, rng: Random) -> dict[str, Any]:
    device = {
        "@odata.type": "#microsoft.graph.security.deviceEvidence",
        "deviceDnsName": f"{user.host.name.lower()}.halden-marine.example",
        "lastIpAddress": user.host.ip,
    }
    account = {"accountName": user.account, "domainName": "HALDEN", "userPrincipalName": user.email}
    evidence: list[dict[str, Any]] = [
        {"@odata.type": "#microsoft.graph.security.userEvidence", "userAccount": account},
        {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": f"198.51.100.{rng.randrange(2, 254)}"},
    ]
    if detection.service == "microsoftDefenderForEndpoint":
        evidence.append(device)
    record: dict[str, Any] = {
        "id": _id(number),
        "title": detection.title,
        "description": f"{detection.title}: {user.name}.",
        "severity": detection.severity,
        "status": "new",
        "classification": "unknown",
        "category": detection.category,
        "mitreTechniques": [detection.technique],
        "serviceSource": detection.service,
        "tenantId": TENANT,
        "assignedTo": None,
        "createdDateTime": _told_time(created),
        "lastUpdateDateTime": _told_time(created),
        "evidence": evidence,
    }
    return record | _SPOILT.get(number, {})


def _id(number: int) -> str:
    return f"da{stable_uuid(TENANT, number).replace('-', '')}"


def _told_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.0000000Z"
