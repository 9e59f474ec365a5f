"""The vendors of the source contract: for each source type, its API in small at the HTTP edge.

To put a new source under the contract, write its ``Vendor`` here and add it to ``VENDORS``.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import fake_graph
import httpx
import respx
from fake_graph import FakeGraph
from remembered import Remembered
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from xdr_mcp.interfaces import Source
from xdr_mcp.sources import source_types

HERE, ELSEWHERE = "vendor.example", "elsewhere.example"
BASE_URL = f"https://{HERE}"


class Vendor(ABC):
    """One tenant whose alerts and answers the tests choose. It hands out bearer tokens and pages in threes."""

    type: ClassVar[str]
    page_size = 3
    secret: ClassVar[str] = "a-made-up-secret"
    app: Starlette
    canned: deque[Response]
    """Answers to the next requests for alerts, instead of a page."""
    tokens_issued: int

    def __init__(self) -> None:
        self.memory = Remembered()
        self.before_page: Callable[[], None] = lambda: None
        self.requests_elsewhere: list[httpx.Request] = []

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The source's settings: this vendor's address, a credential that is renewed, pages of ``page_size``."""

    @abstractmethod
    def put(self, vendor_id: str, updated: datetime, title: str = "an alert") -> bytes:
        """Create or replace an alert; returns the record's bytes as they will be sent."""

    @abstractmethod
    def delete(self, vendor_id: str) -> None:
        """Remove an alert, so that no list shows it any more."""

    @abstractmethod
    def put_bytes(self, record: bytes, updated: datetime) -> None:
        """List these bytes as a record that was updated then."""

    @abstractmethod
    def with_poison(self, poison: bytes) -> bytes:
        """A record with ``poison`` as one of its values."""

    @abstractmethod
    def expire_tokens(self) -> None:
        """Refuse every token handed out so far."""

    @abstractmethod
    def lead_elsewhere(self) -> None:
        """From now on, send whoever reads on to another host, in the way this vendor would (next link, redirect)."""

    @asynccontextmanager
    async def source(self) -> AsyncIterator[Source]:
        """The source under test, connected to this vendor."""
        source_type = source_types()[self.type]
        with self._at_the_edge():
            async with source_type.open("acme", source_type.Options(**self.options()), self.memory) as source:
                yield source

    @contextmanager
    def _at_the_edge(self) -> Iterator[None]:
        here = httpx.ASGITransport(app=self.app)

        def note(request: httpx.Request) -> httpx.Response:
            self.requests_elsewhere.append(request)
            return httpx.Response(200, json={})

        with respx.mock(assert_all_called=False) as router:
            router.route(host=HERE).mock(side_effect=here.handle_async_request)
            router.route(host=ELSEWHERE).mock(side_effect=note)
            yield


class GraphVendor(Vendor):
    type = "microsoft"
    secret = fake_graph.CLIENT_SECRET

    def __init__(self) -> None:
        super().__init__()
        self.graph = FakeGraph()
        self.graph.before_page = lambda: self.before_page()  # noqa: PLW0108 (a test sets it later)
        self.app, self.canned = self.graph.app, self.graph.canned

    @property
    def tokens_issued(self) -> int:  # type: ignore[override]
        return self.graph.tokens_issued

    def options(self) -> dict[str, Any]:
        return fake_graph.options(BASE_URL, page_size=self.page_size)

    def put(self, vendor_id: str, updated: datetime, title: str = "an alert") -> bytes:
        record = {
            "id": vendor_id,
            "title": title,
            "createdDateTime": _iso(updated),
            "lastUpdateDateTime": _iso(updated),
        }
        self.graph.put(record)
        return json.dumps(record).encode()

    def delete(self, vendor_id: str) -> None:
        self.graph.delete(vendor_id)

    def put_bytes(self, record: bytes, updated: datetime) -> None:
        self.graph.put_raw(repr(record), record, _iso(updated))

    def with_poison(self, poison: bytes) -> bytes:
        return b'{"id":"poison","lastUpdateDateTime":"2026-05-01T00:00:00Z","title":' + poison + b"}"

    def expire_tokens(self) -> None:
        self.graph.expire_tokens()

    def lead_elsewhere(self) -> None:
        self.graph.next_host = ELSEWHERE


class XdrVendor(Vendor):
    """JSON:API with offsets, newest first, a filter on updatedAt. It has no next links: only a redirect leads elsewhere."""

    type = "xdr"

    def __init__(self) -> None:
        super().__init__()
        self.canned = deque()
        self.tokens_issued = 0
        self._alerts: dict[str, tuple[datetime, bytes]] = {}
        self._valid_token = ""
        self._led_elsewhere = False
        self.app = Starlette(
            routes=[Route("/token", self._token, methods=["POST"]), Route("/api/v1/alerts", self._list)]
        )

    def options(self) -> dict[str, Any]:
        credential = {"token_url": f"{BASE_URL}/token", "client_id": "app", "client_secret": self.secret}
        return {**credential, "base_url": BASE_URL, "max_alerts_per_poll": self.page_size}

    def put(self, vendor_id: str, updated: datetime, title: str = "an alert") -> bytes:
        attributes = {"name": title, "createdAt": _iso(updated), "updatedAt": _iso(updated)}
        record = json.dumps({"id": vendor_id, "type": "alert", "attributes": attributes}).encode()
        self._alerts[vendor_id] = (updated, record)
        return record

    def delete(self, vendor_id: str) -> None:
        del self._alerts[vendor_id]

    def put_bytes(self, record: bytes, updated: datetime) -> None:
        self._alerts[repr(record)] = (updated, record)

    def with_poison(self, poison: bytes) -> bytes:
        return b'{"id":"poison","attributes":{"updatedAt":"2026-05-01T00:00:00Z","name":' + poison + b"}}"

    def expire_tokens(self) -> None:
        self._valid_token = ""

    def lead_elsewhere(self) -> None:
        self._led_elsewhere = True

    async def _token(self, request: Request) -> Response:
        if "authorization" not in request.headers:
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        self.tokens_issued += 1
        self._valid_token = f"token-{self.tokens_issued}"
        return JSONResponse({"access_token": self._valid_token, "expires_in": 600})

    async def _list(self, request: Request) -> Response:
        if not self._valid_token or request.headers.get("authorization") != f"Bearer {self._valid_token}":
            return JSONResponse({"errors": [{"title": "token expired"}]}, status_code=401)
        if self.canned:
            return self.canned.popleft()
        if self._led_elsewhere:
            return RedirectResponse(f"https://{ELSEWHERE}/api/v1/alerts")
        self.before_page()
        rows = self._matching(request.query_params)
        place, limit = (int(request.query_params.get(f"page[{name}]", 10)) for name in ("offset", "limit"))
        data = b",".join(rows[place : place + limit])
        return Response(b'{"data":[%b],"meta":{"totalRecords":%d}}' % (data, len(rows)), media_type="application/json")

    def _matching(self, asked: Mapping[str, str]) -> list[bytes]:
        bounds = json.loads(asked.get("filter[updatedAt]", "{}"))
        first = datetime.fromisoformat(bounds.get("gte", "0001-01-01T00:00:00Z"))
        last = datetime.fromisoformat(bounds.get("lte", "9999-12-31T00:00:00Z"))
        rows = [row for row in self._alerts.values() if first <= row[0] <= last]
        rows.sort(key=lambda row: row[0], reverse=asked.get("sort", "").startswith("-"))
        return [record for _, record in rows]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


VENDORS: dict[str, type[Vendor]] = {vendor.type: vendor for vendor in (GraphVendor, XdrVendor)}
