"""The server over HTTP: ``/mcp`` (Streamable HTTP, both eras) and ``/healthz``.

Alerts are nobody else's business, so what is safe is the default and the rest has to be said: a web page that resolves its
own name to this machine is refused by Host and Origin on every route, and an address that others can reach needs a token.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from msgspec import Struct
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdr_mcp.errors import SettingsError
from xdr_mcp.server.build import XdrServer

logger = logging.getLogger(__name__)

MCP_PATH = "/mcp"
HEALTH_PATH = "/healthz"

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_SESSION_IDLE = 600.0
_GRACE = 1
_WRITE_LIMIT = 30.0


class HttpOptions(Struct, frozen=True, kw_only=True):
    """Where to listen, and who may ask."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes any free one."""
    allowed_hosts: tuple[str, ...] = ()
    """Values of ``Host`` besides the loopback ones; ``name:*`` for any port. Required where others can reach the address."""
    allowed_origins: tuple[str, ...] = ()
    """Values of ``Origin`` besides the loopback ones."""
    token: str = ""
    """What ``Authorization: Bearer`` has to carry; empty asks for none."""
    unauthenticated: bool = False
    """Said on purpose: others can reach the address, and something in front of it asks who they are."""
    stale_after: timedelta = timedelta(minutes=15)
    """A source not read for so long makes ``/healthz`` answer 503."""

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def checked(self) -> HttpOptions:
        """These options.

        Raises:
            SettingsError: others could reach the server and nothing keeps them out.
        """
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise SettingsError("The HTTP token must be printable ASCII: it travels in a header")
        if self.loopback:
            return self
        if not self.allowed_hosts:
            raise SettingsError(
                f"Listening on {self.host} lets other machines in: name the hosts it may be called by "
                "(allowed hosts, such as alerts.example.com:*), or listen on 127.0.0.1"
            )
        if not (self.token or self.unauthenticated):
            raise SettingsError(
                f"Listening on {self.host} lets other machines read every alert: set an HTTP token, "
                "or say that a proxy in front asks who they are (unauthenticated)"
            )
        return self

    def security(self) -> TransportSecuritySettings:
        """Host and Origin values to let in."""
        own_hosts = [f"{host}{port}" for host in _LOOPBACK_HOSTS for port in ("", ":*")]
        own_origins = [f"http://{host}" for host in own_hosts]
        return TransportSecuritySettings(
            allowed_hosts=[*(own_hosts if self.loopback else ()), *self.allowed_hosts],
            allowed_origins=[*(own_origins if self.loopback else ()), *self.allowed_origins],
        )


class WebApp:
    """The server as one ASGI application; it starts and stops what runs beside it with its lifespan.

    Raises:
        SettingsError: the options are not safe together.
    """

    def __init__(self, server: XdrServer, options: HttpOptions) -> None:
        self._server = server
        self._options = options
        security = options.checked().security()
        server.mcp.custom_route(HEALTH_PATH, methods=["GET"])(self._health)
        mcp = server.mcp.streamable_http_app(
            streamable_http_path=MCP_PATH, session_idle_timeout=_SESSION_IDLE, transport_security=security
        )
        self._answers = EndingAnswers(mcp)
        self._app: ASGIApp = Guard(self._answers, security, options.token)
        if options.allowed_origins:
            self._app = CORSMiddleware(
                self._app,
                allow_origins=options.allowed_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=["Mcp-Session-Id"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        await self._app(scope, receive, send)

    def end_streams(self) -> None:
        """End what would stay open for ever: the streams of both eras."""
        self._server.end_streams()
        self._answers.end_standing()

    async def _health(self, _request: Request) -> Response:
        health = await self._server.health(self._options.stale_after)
        return JSONResponse(health, status_code=200 if health["status"] == "ok" else 503)


class Guard:
    """Lets in who calls by an allowed name, from an allowed page, with the token."""

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings, token: str) -> None:
        self._app = app
        self._security = TransportSecurityMiddleware(security)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421, 403 or 401, or pass on."""
        if scope["type"] == "http":
            request = Request(scope)
            refusal = await self._security.validate_request(request) or self._unauthorized(request)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _unauthorized(self, request: Request) -> Response | None:
        if not self._token or request.url.path == HEALTH_PATH:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        return PlainTextResponse("A valid token is needed", 401, {"WWW-Authenticate": 'Bearer realm="xdr-mcp"'})


class EndingAnswers:
    """Sees to it that answers end: of a client that takes nothing for half a minute, and the standing ones at the stop.

    A standing answer is one to GET: the older era's stream, which the SDK ends for nobody.
    """

    def __init__(self, app: ASGIApp, write_limit: float = _WRITE_LIMIT) -> None:
        self._app = app
        self._write_limit = write_limit
        self._standing: set[anyio.CancelScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with a time limit on each write."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = anyio.CancelScope()
        begun = stalled = ended = False

        async def send_in_time(message: Message) -> None:
            nonlocal begun, stalled, ended
            with anyio.move_on_after(self._write_limit) as write:
                await send(message)
            if write.cancelled_caught:
                logger.warning("A client took nothing for %.0f s: its connection is closed", self._write_limit)
                stalled = True
                answer.cancel()
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        if scope["method"] == "GET":
            self._standing.add(answer)
        try:
            with answer:
                await self._app(scope, receive, send_in_time)
        finally:
            self._standing.discard(answer)
        if begun and not ended and not stalled:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def end_standing(self) -> None:
        """End every standing answer."""
        for answer in tuple(self._standing):
            answer.cancel()


class _Uvicorn(uvicorn.Server):
    """Ends listen streams before it waits for connections, and leaves signals to whoever serves."""

    def __init__(self, config: uvicorn.Config, *, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started
        self._on_stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stopping()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    server: XdrServer, options: HttpOptions, *, ready: Callable[[str], None] = lambda _url: None
) -> None:
    """Serve until cancelled; ``ready`` is told the URL once it answers.

    At the end, open streams are ended in order, and running calls get a second to finish.

    Raises:
        SettingsError: the options are not safe together, or the address cannot be had.
    """
    app = WebApp(server, options)
    with _listen_on(options.host, options.port) as listener:
        url = _url(options.host, listener)
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="on", log_config=None, log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )  # fmt: skip
        web = _Uvicorn(config, started=lambda: ready(url), stopping=app.end_streams)

        async def stop_in_order() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                web.should_exit = True

        async with server.running(), anyio.create_task_group() as tasks:
            tasks.start_soon(stop_in_order)
            with anyio.CancelScope(shield=True):
                await web.serve([listener])
            tasks.cancel_scope.cancel()


def _listen_on(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}. Choose another"
        ) from error
    # inherited by each connection; asyncio sets it only where the protocol was named when the socket was made,
    # and without it the second answer of a kept connection waits 40 ms for the client's acknowledgement
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}{MCP_PATH}"
