"""A clock that the test owns, and clients of a simulated vendor, in process and on a socket."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.applications import Starlette

from xdr_mcp.simulator import DEFAULT_TOKEN


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 7, 28, 20, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client_of() -> Callable[[Starlette], httpx.AsyncClient]:
    """Makes a client that is let in, without a socket."""

    def client(app: Starlette) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://vendor.test/xdr-alert/api/v1",
            headers={"x-fireeye-api-key": DEFAULT_TOKEN},
        )

    return client
