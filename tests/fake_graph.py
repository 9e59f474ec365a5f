"""Microsoft Graph in small, for tests: a token endpoint and ``/v1.0/security/alerts_v2`` over a list that tests edit.

It pages as Graph does: newest first, ``$filter`` on lastUpdateDateTime with inclusive bounds, absolute ``@odata.nextLink``.
Whether a link carries ``$skip`` (which counts rows of the list as it is then) or ``$skiptoken`` (which remembers the list as
it was) is the test's choice. Use it in process (``httpx.ASGITransport(app=FakeGraph().app)``) or over a socket (``serving``).
"""

from __future__ import annotations

import json
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT_ID = "an-app-registration"
CLIENT_SECRET = "a-made-up-secret"

_CLAUSE = re.compile(r"lastUpdateDateTime (ge|le) (\S+)")


class FakeGraph:
    """One tenant. ``put`` creates or changes an alert; ``before_page`` runs before each page is cut."""

    def __init__(self, *, page_by: Literal["$skip", "$skiptoken"] = "$skip", largest_page: int = 100) -> None:
        self.page_by = page_by
        self.largest_page = largest_page
        self.requests: list[Request] = []
        self.tokens_issued = 0
        self.before_page: Callable[[], None] = lambda: None
        self.canned: deque[Response] = deque()
        """Answers to give to the next requests for alerts, instead of a page."""
        self.next_host: str | None = None
        """Where next links point; None for where the request came in."""
        self._alerts: dict[str, tuple[int, bytes]] = {}
        self._snapshots: list[list[bytes]] = []
        self._valid_token = ""
        self.app = Starlette(
            routes=[
                Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
                Route("/v1.0/security/alerts_v2", self._list),
                Route("/v1.0/security/alerts_v2/{id}", self._one, methods=["GET"]),
                Route("/v1.0/security/alerts_v2/{id}", self._patch, methods=["PATCH"]),
                Route("/v1.0/security/alerts_v2/{id}/comments", self._comment, methods=["POST"]),
            ]
        )
        self.written: list[Mapping[str, Any]] = []
        """What was written, in order: the body of each PATCH and POST that was taken."""
        self.may_write = True

    def put(self, alert: Mapping[str, Any]) -> None:
        """Create the alert, or replace the one with its ``id``."""
        updated = alert.get("lastUpdateDateTime") or alert.get("createdDateTime") or "2026-01-01T00:00:00Z"
        self.put_raw(str(alert.get("id")), json.dumps(alert).encode(), str(updated))

    def delete(self, key: str) -> None:
        """Remove an alert."""
        del self._alerts[key]

    def put_raw(self, key: str, record: bytes, updated: str) -> None:
        """A record as these bytes, be they JSON or not, listed as updated then."""
        self._alerts[key] = (_ticks(updated), record)

    def expire_tokens(self) -> None:
        """Every token handed out so far is refused from now on."""
        self._valid_token = ""

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        told = (request.path_params["tenant"], form.get("client_id"), form.get("client_secret"), form.get("grant_type"))
        if told != (TENANT, CLIENT_ID, CLIENT_SECRET, "client_credentials"):
            return JSONResponse({"error": "invalid_client", "error_description": "AADSTS7000215"}, status_code=401)
        if not str(form.get("scope")).endswith("/.default"):
            return JSONResponse({"error": "invalid_scope", "error_description": "AADSTS1002012"}, status_code=400)
        self.tokens_issued += 1
        self._valid_token = f"token-{self.tokens_issued}"
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": self._valid_token})

    async def _one(self, request: Request) -> Response:
        """One alert; the token is checked as for a list."""
        self.requests.append(request)
        if refused := self._refused(request):
            return refused
        found = self._alerts.get(request.path_params["id"])
        return Response(found[1], media_type="application/json") if found else _error(404, "NotFound", "No such alert")

    async def _patch(self, request: Request) -> Response:
        return await self._write(request, await request.json())

    async def _comment(self, request: Request) -> Response:
        """Add to the alert's comments."""
        body = await request.json()
        if body.get("@odata.type") != "microsoft.graph.security.alertComment":
            return _error(400, "BadRequest", "no alertComment")
        comment = {"comment": body["comment"], "createdByDisplayName": "app", "createdDateTime": _now()}
        return await self._write(request, {"comments": [comment]})

    async def _write(self, request: Request, change: dict[str, Any]) -> Response:
        self.requests.append(request)
        if refused := self._refused(request):
            return refused
        if not self.may_write:
            return _error(403, "Forbidden", "Missing application permission")
        self.written.append(await request.json())
        record = json.loads(self._alerts[request.path_params["id"]][1])
        comments = [*record.get("comments", ()), *change.pop("comments", ())]
        self.put({**record, **change, "comments": comments, "lastUpdateDateTime": _now()})
        if self.canned:
            return self.canned.popleft()
        return Response(self._alerts[request.path_params["id"]][1], media_type="application/json")

    def _refused(self, request: Request) -> Response | None:
        if self._valid_token and request.headers.get("authorization") == f"Bearer {self._valid_token}":
            return None
        return _error(401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")

    async def _list(self, request: Request) -> Response:
        self.requests.append(request)
        if refused := self._refused(request):
            return refused
        if self.canned:
            return self.canned.popleft()
        self.before_page()
        try:
            rows, place = self._rows(request)
            top = min(int(request.query_params.get("$top", 50)), self.largest_page)
        except (ValueError, IndexError):
            return _error(400, "BadRequest", "Invalid filter or paging clause")
        return Response(self._page(request, rows, place, top), media_type="application/json")

    def _rows(self, request: Request) -> tuple[list[bytes], int]:
        """The rows of the whole result, and the first row to give."""
        token = request.query_params.get("$skiptoken")
        if token is not None:
            snapshot, place = map(int, token.split("-"))
            return self._snapshots[snapshot], place
        return self._matching(request.query_params.get("$filter", "")), int(request.query_params.get("$skip", 0))

    def _matching(self, clauses: str) -> list[bytes]:
        if clauses and _CLAUSE.sub("", clauses).replace("and", "").strip():
            raise ValueError(clauses)
        bounds = [(operator, _ticks(moment)) for operator, moment in _CLAUSE.findall(clauses)]
        rows = [
            (updated, record)
            for updated, record in self._alerts.values()
            if all(updated >= bound if operator == "ge" else updated <= bound for operator, bound in bounds)
        ]
        return [record for _, record in sorted(rows, key=lambda row: row[0], reverse=True)]

    def _page(self, request: Request, rows: list[bytes], place: int, top: int) -> bytes:
        context = b'{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#security/alerts_v2","value":['
        page = context + b",".join(rows[place : place + top]) + b"]"
        if place + top < len(rows):
            page += b',"@odata.nextLink":' + json.dumps(self._next_link(request, rows, place + top)).encode()
        return page + b"}"

    def _next_link(self, request: Request, rows: list[bytes], place: int) -> str:
        url = request.url.remove_query_params(["$skip", "$skiptoken"])
        if self.next_host:
            url = url.replace(netloc=self.next_host)
        if self.page_by == "$skip":
            return str(url.include_query_params(**{"$skip": place}))
        if "$skiptoken" not in request.query_params:
            self._snapshots.append(rows)
        snapshot = request.query_params.get("$skiptoken", f"{len(self._snapshots) - 1}-0").split("-")[0]
        return str(url.include_query_params(**{"$skiptoken": f"{snapshot}-{place}"}))


def options(base_url: str, **others: Any) -> dict[str, Any]:
    """The settings under which ``MicrosoftSource`` reads a FakeGraph at ``base_url``."""
    credential = {"tenant_id": TENANT, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return {**credential, "base_url": base_url, "login_url": base_url, **others}


@asynccontextmanager
async def serving(graph: FakeGraph) -> AsyncIterator[str]:
    """The fake behind a real socket; yields its base URL."""
    server = uvicorn.Server(uvicorn.Config(graph.app, log_config=None, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:  # who connects before the server runs is queued
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "0Z")


def _ticks(moment: str) -> int:
    """Hundreds of nanoseconds: Graph keeps seven digits, and compares them."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10_000_000 + int(fraction[:7].ljust(7, "0"))
