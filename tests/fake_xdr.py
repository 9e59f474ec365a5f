"""The XDR Alert Management API in small, for tests: ``/xdr-alert/api/v1/alerts`` over a list of records that tests edit.

Where the simulator makes up a company, this one serves the records it is given, byte for byte. It filters by ``updatedAt``,
sorts, and pages by ``page[limit]`` and ``page[offset]``.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "a-made-up-token"


class FakeXdr:
    """One tenant. ``put`` creates or changes an alert; ``requests`` are those that were let in."""

    def __init__(self, *, largest_page: int = 100) -> None:
        self.largest_page = largest_page
        self.requests: list[Request] = []
        self._records: dict[str, Mapping[str, Any]] = {}
        self.written: list[Mapping[str, Any]] = []
        """The attributes of each PATCH that was taken, in order."""
        self.canned: deque[Response] = deque()
        """Answers to the next PATCHes, which are taken all the same."""
        self.before_answering: Callable[[], Awaitable[None]] = _at_once
        """Runs when a PATCH was taken, before it is answered."""
        self.app = Starlette(
            routes=[
                Route("/xdr-alert/api/v1/alerts", self._list),
                Route("/xdr-alert/api/v1/alerts/{id}", self._one, methods=["GET"]),
                Route("/xdr-alert/api/v1/alerts/{id}", self._write, methods=["PATCH"]),
            ]
        )

    def put(self, record: Mapping[str, Any]) -> None:
        """Create the alert, or replace the one with its ``id``."""
        self._records[record["id"]] = record

    async def _one(self, request: Request) -> Response:
        record = self._records.get(request.path_params["id"])
        return JSONResponse({"data": record}) if record else JSONResponse({"errors": []}, status_code=404)

    async def _write(self, request: Request) -> Response:
        """Take it as it comes: a note is added to those that are there."""
        record = self._records[request.path_params["id"]]
        wanted = dict((await request.json())["data"]["attributes"])
        self.written.append(dict(wanted))
        notes = [*record["attributes"].get("notes", ()), *filter(None, [wanted.pop("note", None)])]
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        attributes = {**record["attributes"], **wanted, "notes": notes, "updatedAt": moment}
        self.put({**record, "attributes": attributes})
        await self.before_answering()
        if self.canned:
            return self.canned.popleft()
        return await self._one(request)

    async def _list(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"errors": [{"status": "401", "title": "Unauthorized"}]}, status_code=401)
        self.requests.append(request)
        asked = request.query_params
        bounds = json.loads(asked.get("filter[updatedAt]", "{}"))
        rows = [record for record in self._records.values() if _within(bounds, _updated(record))]
        rows.sort(key=_updated, reverse=asked.get("sort", "").startswith("-"))
        start = int(asked.get("page[offset]", 0))
        page = rows[start : start + min(int(asked.get("page[limit]", 10)), self.largest_page)]
        return JSONResponse({"data": page, "meta": {"totalRecords": len(rows)}})


async def _at_once() -> None:
    """Nothing is waited for."""


@asynccontextmanager
async def serving(vendor: FakeXdr) -> AsyncIterator[str]:
    """The fake behind a real socket; yields its base URL."""
    server = uvicorn.Server(uvicorn.Config(vendor.app, log_config=None, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:  # who connects before the server runs is queued
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # else a body waits 40 ms for its header's receipt
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}/xdr-alert"
            finally:
                server.should_exit = True


def _updated(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["attributes"]["updatedAt"])


def _within(bounds: Mapping[str, str], moment: datetime) -> bool:
    times = {operator: datetime.fromisoformat(text) for operator, text in bounds.items()}
    return times.get("gte", moment) <= moment <= times.get("lte", moment)
