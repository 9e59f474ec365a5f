"""The vendor's endpoints under ``/api/v1``: alerts and what belongs to them, events, assets, intelligence, ATT&CK."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xdr_mcp.simulator import attack
from xdr_mcp.simulator.asked import Asked, Refused, page_of, read_question, select
from xdr_mcp.simulator.ledger import Entry, Ledger
from xdr_mcp.simulator.pages import Pages
from xdr_mcp.simulator.revision import Resource, canonical, stamp
from xdr_mcp.simulator.writing import wanted_attributes

Endpoint = Callable[[Request], Awaitable[Response]]


def json_answer(value: object, status: int = 200) -> Response:
    """JSON as the vendor sends it."""
    body = value if isinstance(value, bytes) else canonical(value)
    return Response(body, status, media_type="application/json")


class Endpoints:
    """Everything that a token opens."""

    def __init__(self, ledger: Ledger, pages: Pages, largest_page: int) -> None:
        self._ledger = ledger
        self._pages = pages
        self._largest_page = largest_page

    def routes(self, guarded: Callable[[Endpoint], Endpoint]) -> list[Route]:
        """The routes, each behind the guard."""
        alert = "/alerts/{alert_id}"
        get: dict[str, Endpoint] = {
            "/alerts": self.alerts,
            alert: self.alert,
            f"{alert}/events": self.alert_events,
            f"{alert}/events/stats": self.alert_event_stats,
            f"{alert}/assets": self.alert_assets,
            f"{alert}/assets/stats": self.alert_asset_stats,
            f"{alert}/intelligence": self.alert_intelligence,
            "/events": self.events,
            "/assets": self.assets,
            "/assets/{id}": self.asset,
            "/intel": self.intel,
            "/intel/{id}": self.intel_item,
            "/intelContext/case": self.case_context,
            "/mitreAttack": self.matrix,
            "/mitreAttack/versions": self.versions,
            "/mitreAttack/techniques/{id}": self.technique,
            "/mitreAttack/tactics/{id}": self.tactic,
        }
        return [
            *(Route(path, guarded(endpoint), methods=["GET"]) for path, endpoint in get.items()),
            Route(alert, guarded(self.update_alert), methods=["PATCH"]),
            Route(f"{alert}/events", guarded(self.update_timeline), methods=["PATCH"]),
            Route("/intelContext", guarded(self.intel_context), methods=["POST"]),
        ]

    async def alerts(self, request: Request) -> Response:
        """A page of alerts."""
        asked = read_question(request.query_params, "-createdAt", self._largest_page)
        self._stir(asked)
        entries, total = self._pages.find(asked)
        members = {"links": _links(request, asked, total), "meta": {"totalRecords": total}}
        return json_answer(self._pages.body(entries, asked.fields, members))

    async def alert(self, request: Request) -> Response:
        """One alert; ``data`` is an object, or a list of one where the vendor drifts."""
        entry = self._entry(request)
        record = self._pages.record(entry, _fields(request))
        if "single-list" in self._ledger.drift.names:
            record = b"[" + record + b"]"
        included = b",".join(self._pages.included([entry]))
        return json_answer(b'{"data":' + record + b',"included":[' + included + b"]}")

    async def update_alert(self, request: Request) -> Response:
        """Write status, assignee or a note; answers with the alert as it is then."""
        entry = self._entry(request)
        self._ledger.write(entry, wanted_attributes(await json_object(request), request.path_params["alert_id"]))
        return await self.alert(request)

    async def alert_events(self, request: Request) -> Response:
        """What an alert was made from."""
        return self._list(request, self._entry(request).head.events, "-time")

    async def update_timeline(self, request: Request) -> Response:
        """Take events into the timeline: it counts as a change of the alert."""
        entry = self._entry(request)
        wanted = await json_object(request)
        known = {event["id"] for event in entry.head.events}
        data = wanted.get("data")
        ids = [item.get("id") for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        if not ids or not known.issuperset(ids):
            raise Refused(422, "Unprocessable Entity", "data must list events of this alert")
        self._ledger.touch_one(entry)
        return self._list(request, entry.head.events, "-time")

    async def alert_event_stats(self, request: Request) -> Response:
        """Counts of an alert's events."""
        entry = self._entry(request)
        attributes = [event["attributes"] for event in entry.head.events]
        times = sorted(event["time"] for event in attributes)
        stats = {
            "bySeverity": _counts(str(event["severity"]) for event in attributes),
            "bySource": _counts(event["source"] for event in attributes),
            "firstSeen": times[0] if times else None,
            "lastSeen": times[-1] if times else None,
            "total": len(attributes),
        }
        return json_answer({"data": {"attributes": stats, "id": request.path_params["alert_id"], "type": "eventStats"}})

    async def alert_assets(self, request: Request) -> Response:
        """Machines and accounts that an alert concerns."""
        return self._list(request, [self._asset(asset) for asset in self._entry(request).head.assets], "-updatedAt")

    async def alert_asset_stats(self, request: Request) -> Response:
        """Counts of an alert's assets."""
        attributes = [self._asset(asset)["attributes"] for asset in self._entry(request).head.assets]
        stats = {
            "byStatus": _counts(asset["status"] for asset in attributes),
            "byType": _counts(asset["type"] for asset in attributes),
            "total": len(attributes),
        }
        return json_answer({"data": {"attributes": stats, "id": request.path_params["alert_id"], "type": "assetStats"}})

    async def alert_intelligence(self, request: Request) -> Response:
        """What is known about an alert's artefacts."""
        artefacts = set(self._entry(request).head.record["attributes"]["artefacts"])
        return self._list(
            request, [one for one in self._intel() if one["attributes"]["value"] in artefacts], "-createdAt"
        )

    async def events(self, request: Request) -> Response:
        """Events of all alerts."""
        return self._list(request, list(self._ledger.events.values()), "-time")

    async def assets(self, request: Request) -> Response:
        """Every machine and account."""
        return self._list(request, [self._asset(asset) for asset in self._ledger.assets.values()], "-updatedAt")

    async def asset(self, request: Request) -> Response:
        """One machine or account."""
        asset = self._ledger.assets.get(request.path_params["id"])
        return _single(request, asset and self._asset(asset), "asset")

    async def intel(self, request: Request) -> Response:
        """All threat intelligence known by now."""
        return self._list(request, self._intel(), "-createdAt")

    async def intel_item(self, request: Request) -> Response:
        """One piece of intelligence."""
        found = next((one for one in self._intel() if one["id"] == request.path_params["id"]), None)
        return _single(request, found, "intel")

    async def intel_context(self, request: Request) -> Response:
        """Intelligence that matches a text, with the alerts where it was seen."""
        wanted = await json_object(request)
        fields = wanted.get("fields") or ()
        names = frozenset(fields.split(",") if isinstance(fields, str) else map(str, fields))
        text = str(wanted.get("searchText", "")).casefold()
        found = [one for one in self._intel() if text in canonical(one).decode().casefold()]
        return json_answer(
            {"data": [select(self._context(one), names) for one in found], "meta": {"totalRecords": len(found)}}
        )

    async def case_context(self, request: Request) -> Response:
        """What belongs to a case."""
        case = request.query_params.get("caseId", "")
        records = [entry.head.record for entry in self._ledger.entries if entry.head.assets or entry.head.events]
        records = [one for one in records if case and one["attributes"]["supportingData"].get("caseId") == case]
        if not records:
            raise Refused(404, "Not Found", f"there is no case {case!r}")
        artefacts = {artefact for one in records for artefact in one["attributes"]["artefacts"]}
        attributes = {
            "alerts": [self._ledger.drift.public_id(one["id"]) for one in records],
            "caseId": case,
            "firstSeen": min(one["attributes"]["createdAt"] for one in records),
            "intel": [one["id"] for one in self._intel() if one["attributes"]["value"] in artefacts],
            "lastSeen": max(one["attributes"]["updatedAt"] for one in records),
        }
        context = {"attributes": attributes, "id": case, "type": "intelContext"}
        return json_answer({"data": select(context, _fields(request))})

    async def matrix(self, request: Request) -> Response:
        """The ATT&CK matrix, of the newest version unless another is asked for."""
        version = request.query_params.get("version", attack.VERSIONS[0])
        return _single(request, attack.matrix_resource(version) if version in attack.VERSIONS else None, "version")

    async def versions(self, request: Request) -> Response:
        """Versions of ATT&CK, newest first."""
        found = [{"attributes": {"version": one}, "id": one, "type": "mitreAttackVersion"} for one in attack.VERSIONS]
        return self._list(request, found, "-version")

    async def technique(self, request: Request) -> Response:
        """A technique or sub-technique."""
        wanted = request.path_params["id"]
        return _single(request, attack.technique_resource(wanted) if wanted in attack.TECHNIQUES else None, "technique")

    async def tactic(self, request: Request) -> Response:
        """A tactic with its techniques."""
        wanted = request.path_params["id"]
        return _single(request, attack.tactic_resource(wanted) if wanted in attack.TACTICS else None, "tactic")

    def _stir(self, asked: Asked) -> None:
        """Let the world move while pages are read, where the vices strike."""
        faults = self._ledger.faults
        if asked.offset and (vice := faults.strikes("shift")):
            self._ledger.touch(vice.amount)
        if vice := faults.strikes("burst"):
            self._ledger.estate.burst(vice.amount)
            self._ledger.refresh()

    def _entry(self, request: Request) -> Entry:
        alert_id = request.path_params["alert_id"]
        entry = self._ledger.find(alert_id)
        if entry is None:
            raise Refused(404, "Not Found", f"there is no alert {alert_id!r}")
        return entry

    def _list(self, request: Request, resources: Iterable[Resource], default_sort: str) -> Response:
        asked = read_question(request.query_params, default_sort, self._largest_page)
        page, total = page_of(list(resources), asked)
        links = _links(request, asked, total)
        return json_answer({"data": page, "links": links, "meta": {"totalRecords": total}})

    def _asset(self, asset: Resource) -> Resource:
        """An asset with what changes: its containment and when it was last seen in an alert."""
        seen = [entry.head.updated for entry in self._ledger.alerts_of(asset["id"])]
        changing = {
            "id": asset["id"],
            "status": "CONTAINED" if asset["id"] in self._ledger.contained else "NOT_CONTAINED",
            "updatedAt": stamp(max(seen, default=0)) if seen else None,
        }
        return {**asset, "attributes": {**asset["attributes"], **changing}}

    def _intel(self) -> list[Resource]:
        now = stamp(self._ledger.now())
        known = {one["id"]: one for one in self._ledger.estate.intel if one["attributes"]["createdAt"] <= now}
        return list(known.values())

    def _context(self, intel: Resource) -> Resource:
        value = intel["attributes"]["value"]
        alerts = [
            self._ledger.drift.public_id(entry.head.alert_id)
            for entry in self._ledger.entries
            if entry.head.events and value in entry.head.record["attributes"]["artefacts"]
        ]
        attributes = {**intel["attributes"], "alerts": alerts, "matches": len(alerts)}
        return {"attributes": attributes, "id": intel["id"], "type": "intelContext"}


def _fields(request: Request) -> frozenset[str]:
    return frozenset(filter(None, request.query_params.get("fields", "").split(",")))


def _single(request: Request, resource: Resource | None, what: str) -> Response:
    if resource is None:
        raise Refused(404, "Not Found", f"there is no such {what}")
    return json_answer({"data": select(resource, _fields(request))})


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values))


def _links(request: Request, asked: Asked, total: int) -> dict[str, str]:
    """Absolute links to this page and, when there is more, to the next."""
    links = {"self": str(request.url)}
    following = asked.offset + asked.limit
    if following < total:
        params = {**request.query_params, "page[limit]": asked.limit, "page[offset]": following}
        links["next"] = str(request.url.replace(query=urlencode(params)))
    return links


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises Refused (400)."""
    try:
        value = json.loads(await request.body())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "Bad Request", "the body must be a JSON object")
    return value
