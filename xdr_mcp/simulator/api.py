"""The vendor's side of the wire as one ASGI application: its API, its token endpoint, and a control endpoint for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from xdr_mcp.simulator.asked import Refused
from xdr_mcp.simulator.auth import Auth
from xdr_mcp.simulator.control import Control
from xdr_mcp.simulator.drift import Drift
from xdr_mcp.simulator.endpoints import Endpoint, Endpoints, json_answer
from xdr_mcp.simulator.faults import Faults
from xdr_mcp.simulator.pages import Pages
from xdr_mcp.simulator.scenario import Estate
from xdr_mcp.simulator.simulation import Simulator
from xdr_mcp.simulator.wire import CONTROL, Vices, error_answer

TOKEN_PATHS = ("/auth/realms/IAM/protocol/openid-connect/token", "/iam/v1.0/token", "/iam/v1.1/token")


def create_app(
    estate: Estate,
    faults: Faults | None = None,
    *,
    auth: Auth | None = None,
    drift: Drift | str = "",
    time_filter: Literal["supported", "rejected", "ignored"] = "supported",
    rejection: int = 400,
    largest_page: int = 1000,
    offset_cap: int | None = None,
) -> Starlette:
    """The simulated vendor.

    Args:
        estate: what happens.
        faults: the vices; none when left out.
        auth: who may ask; the token ``simulator-token`` when left out.
        drift: record shapes to show, as ``Drift`` or its specification (``all``, ``status-object,severity-word``).
        time_filter: what a filter on a time does: narrows, is answered with ``rejection``, or is overlooked.
        rejection: 400 or 422.
        largest_page: a larger ``page[limit]`` is cut to this without a word.
        offset_cap: page[offset] + page[limit] beyond this is answered 400.

    Returns:
        An ASGI application that serves the API at ``/xdr-alert/api/v1`` and ``/api/v1``, and the control endpoint at
        ``/_sim``; ``app.state.simulator`` is its handle.
    """
    faults = faults or Faults()
    auth = auth or Auth()
    shapes = Drift.parse(drift, seed=estate.seed) if isinstance(drift, str) else drift
    simulator = Simulator(estate, faults, auth, shapes)
    pages = Pages(simulator.ledger, time_filter, rejection, offset_cap)
    endpoints = Endpoints(simulator.ledger, pages, largest_page)

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            simulator.requests[request.url.path.partition("/api/v1/")[2].partition("/")[0]] += 1
            auth.check(request.headers, estate.now())
            simulator.ledger.refresh()
            return await endpoint(request)

        return answer

    async def token(request: Request) -> Response:
        simulator.requests["token"] += 1
        return json_answer(auth.issue(request.headers, await request.body(), estate.now()))

    api = Mount("/api/v1", routes=endpoints.routes(guarded))
    tokens = [Route(path, token, methods=["POST"]) for path in TOKEN_PATHS]
    control = Mount(CONTROL, routes=Control(simulator).routes())
    refused = _refused(plain="text-errors" in shapes.names)
    app = Starlette(
        routes=[Mount("/xdr-alert", routes=[api, *tokens]), api, *tokens, control],
        middleware=[Middleware(Vices, faults=faults, now=estate.now, closing=simulator.closing)],
        exception_handlers={Refused: refused, HTTPException: refused},
    )
    app.state.simulator = simulator
    return app


def _refused(*, plain: bool) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answers errors in the vendor's JSON or, where it drifts, in plain text."""

    async def answer(_: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = Refused(error.status_code, error.detail, error.detail)
        assert isinstance(error, Refused)
        if plain:
            return PlainTextResponse(f"{error.title}: {error.detail}", error.status)
        return json_answer(error_answer(error.status, error.title, error.detail).body, error.status)

    return answer
