"""Spoils answers on their way out, down to the bytes on the socket.

What ASGI and HTTP libraries refuse to send (a wrong Content-Length, a chunk cut short, a connection dropped unanswered) is
written past them: the server below hands each connection to the application as an ASGI extension. Without it (an
application called in process) those vices send what can be sent.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from functools import lru_cache
from itertools import cycle
from typing import TYPE_CHECKING, Final, TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

from xdr_mcp.simulator.faults import RETRY_AFTER_FORMS, VICES, Faults, Vice

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXTENSION: Final = "xdr_mcp.simulator.connection"
CONTROL: Final = "/_sim"
"""Paths below it are the tests' own and never spoilt."""
_BLOCK: Final = 1024 * 1024
_SLICES: Final = 20

Headers: TypeAlias = list[tuple[bytes, bytes]]


class SimulatorProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with the connection itself in the scope of every request."""

    def connection_made(  # type: ignore[override] # asyncio itself says BaseTransport and means Transport
        self, transport: asyncio.Transport
    ) -> None:
        """Remember the connection."""
        super().connection_made(transport)
        served = self.app

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[EXTENSION] = transport
            await served(scope, receive, send)

        self.app = with_connection


@dataclass(slots=True)
class Answer:
    """A whole answer, before it is spoilt."""

    status: int
    headers: Headers
    body: bytes

    def with_header(self, name: bytes, value: bytes) -> Answer:
        """The answer with one header added or replaced."""
        return Answer(self.status, [*(one for one in self.headers if one[0] != name), (name, value)], self.body)


def error_answer(status: int, title: str, detail: str) -> Answer:
    """An error in the vendor's JSON."""
    errors = [{"code": title.upper().replace(" ", "_"), "detail": detail, "status": str(status), "title": title}]
    return Answer(status, [(b"content-type", b"application/json")], json.dumps({"errors": errors}).encode())


class Exchange:
    """One request and the ways to answer it badly."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, date: bytes) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._date = date
        self.transport: asyncio.Transport | None = scope.get("extensions", {}).get(EXTENSION)

    async def honest(self) -> Answer:
        """What the application answers, kept back."""
        answer = Answer(500, [], b"")
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                parts.append(message.get("body", b""))

        await self._app(self._scope, self._receive, keep)
        answer.body = b"".join(parts)
        return answer.with_header(b"date", self._date)

    async def start(self, answer: Answer) -> None:
        """Send the head of an answer."""
        length = str(len(answer.body)).encode()
        answer = answer.with_header(b"content-length", length).with_header(b"date", self._date)
        await self._send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})

    async def part(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, answer: Answer) -> None:
        """Send an answer as HTTP wants it."""
        await self.start(answer)
        await self.part(answer.body, more=False)

    async def drop(self, last_words: bytes = b"", *, fallback: Answer) -> None:
        """Write raw bytes and end the connection; without one, answer ``fallback``."""
        if self.transport is None:
            await self.answer(fallback)
            return
        self.transport.write(last_words)
        self.transport.close()
        await self.gone()

    async def gone(self) -> None:
        """Wait until the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def raw_head(answer: Answer, *headers: tuple[bytes, bytes]) -> bytes:
    """The head of an answer as bytes, its Content-Length left to the given headers."""
    kept = [one for one in answer.headers if one[0] != b"content-length"]
    lines = [b"HTTP/1.1 %d OK" % answer.status, *(name + b": " + value for name, value in (*kept, *headers))]
    return b"\r\n".join(lines) + b"\r\n"


class Vices:
    """ASGI middleware that spoils answers as the faults say."""

    def __init__(self, app: ASGIApp, faults: Faults, now: Callable[[], datetime], closing: asyncio.Event) -> None:
        self._app = app
        self._faults = faults
        self._now = now
        self._closing = closing
        self._outage_ends = 0.0
        self._forms = cycle(RETRY_AFTER_FORMS)
        self._failures = cycle((500, 502, 503, 504))
        self._ways: dict[str, Callable[[Exchange, Vice], Awaitable[None]]] = {
            "outage": self._outage,
            "401": self._unauthorized,
            "429": self._any_429,
            **dict.fromkeys(RETRY_AFTER_FORMS, self._too_many),
            "5xx": self._server_error,
            "slow": self._slow,
            "trickle": self._trickle,
            "stall": self._stall,
            "reset": self._reset,
            "truncated-json": self._truncated_json,
            "truncated-gzip": self._truncated_gzip,
            "content-length": self._content_length,
            "cut-chunk": self._cut_chunk,
            "html": self._html,
            "gzip-bomb": self._gzip_bomb,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, honestly or not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        date = format_datetime(self._now(), usegmt=True).encode()

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", date)]
            await send(message)

        if scope["path"].startswith(CONTROL):
            await self._app(scope, receive, dated)
            return
        exchange = Exchange(self._app, scope, receive, send, date)
        if asyncio.get_running_loop().time() < self._outage_ends and self._faults.vices:
            await self._down(exchange)
        elif vice := self._faults.for_answer():
            await self._ways[vice.name](exchange, vice)
        else:
            await self._app(scope, receive, dated)

    async def _outage(self, exchange: Exchange, vice: Vice) -> None:
        self._outage_ends = asyncio.get_running_loop().time() + vice.seconds
        await self._down(exchange)

    async def _down(self, exchange: Exchange) -> None:
        unavailable = error_answer(503, "Service Unavailable", "The service is down.")
        if self._faults.random.random() < 1 / 2:
            await exchange.answer(unavailable)
        else:
            await exchange.drop(fallback=unavailable)

    async def _unauthorized(self, exchange: Exchange, _: Vice) -> None:
        await exchange.answer(error_answer(401, "Unauthorized", "The token is invalid or has expired."))

    async def _any_429(self, exchange: Exchange, _: Vice) -> None:
        await self._too_many(exchange, VICES[next(self._forms)])

    async def _too_many(self, exchange: Exchange, vice: Vice) -> None:
        answer = error_answer(429, "Too Many Requests", "The rate limit is exceeded.")
        value = self._retry_after(vice)
        await exchange.answer(answer if value is None else answer.with_header(b"retry-after", value.encode()))

    def _retry_after(self, vice: Vice) -> str | None:
        later = self._now() + timedelta(seconds=vice.seconds)
        return {
            "429-seconds": f"{vice.seconds:.0f}",
            "429-date": format_datetime(later, usegmt=True),
            "429-epoch": f"{later.timestamp():.0f}",
            "429-negative": "-30",
            "429-huge": "99999999999",
            "429-garbage": "soon, I promise",
        }.get(vice.name)

    async def _server_error(self, exchange: Exchange, _: Vice) -> None:
        status = next(self._failures)
        texts = {502: b"<html><body><h1>502 Bad Gateway</h1></body></html>", 503: b"upstream overloaded", 504: b""}
        if status in texts:
            await exchange.answer(Answer(status, [(b"content-type", b"text/html")], texts[status]))
        else:
            await exchange.answer(error_answer(status, "Internal Server Error", "Something went wrong."))

    async def _slow(self, exchange: Exchange, vice: Vice) -> None:
        answer = await exchange.honest()
        await self._pause(vice.seconds)
        await exchange.answer(answer)

    async def _trickle(self, exchange: Exchange, vice: Vice) -> None:
        answer = await exchange.honest()
        await exchange.start(answer)
        size = max(1, len(answer.body) // _SLICES)
        for place in range(0, len(answer.body), size):
            await exchange.part(answer.body[place : place + size], more=True)
            await self._pause(vice.seconds / _SLICES)
        await exchange.part(b"", more=False)

    async def _stall(self, exchange: Exchange, vice: Vice) -> None:
        answer = await exchange.honest()
        await exchange.start(answer)
        await exchange.part(answer.body[: len(answer.body) // 2], more=True)
        leaving = asyncio.ensure_future(exchange.gone())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((leaving, closing), timeout=vice.seconds, return_when=asyncio.FIRST_COMPLETED)
            if exchange.transport is None:
                await exchange.part(b"", more=False)
            else:
                exchange.transport.abort()
                await leaving
        finally:
            leaving.cancel()
            closing.cancel()

    async def _reset(self, exchange: Exchange, _: Vice) -> None:
        await exchange.drop(fallback=error_answer(503, "Service Unavailable", "The connection was lost."))

    async def _truncated_json(self, exchange: Exchange, _: Vice) -> None:
        answer = await exchange.honest()
        answer.body = answer.body[: self._somewhere(answer.body)]
        await exchange.answer(answer)

    async def _truncated_gzip(self, exchange: Exchange, _: Vice) -> None:
        answer = (await exchange.honest()).with_header(b"content-encoding", b"gzip")
        squeezed = gzip.compress(answer.body, 1)
        answer.body = squeezed[: self._somewhere(squeezed)]
        await exchange.answer(answer)

    async def _content_length(self, exchange: Exchange, _: Vice) -> None:
        answer = await exchange.honest()
        cut = Answer(answer.status, answer.headers, answer.body[: self._somewhere(answer.body)])
        less = self._faults.random.random() < 1 / 2
        claimed = len(cut.body) if less else len(answer.body) + 1000
        head = raw_head(answer, (b"content-length", b"%d" % claimed), (b"connection", b"close"))
        await exchange.drop(head + b"\r\n" + answer.body, fallback=cut)

    async def _cut_chunk(self, exchange: Exchange, _: Vice) -> None:
        answer = await exchange.honest()
        cut = Answer(answer.status, answer.headers, answer.body[: self._somewhere(answer.body)])
        head = raw_head(answer, (b"transfer-encoding", b"chunked"), (b"connection", b"close"))
        await exchange.drop(head + b"\r\n%x\r\n" % len(answer.body) + cut.body, fallback=cut)

    async def _html(self, exchange: Exchange, _: Vice) -> None:
        page = b"<!doctype html><html><head><title>Sign in</title></head><body><form action='/login'>Sign in</form></body></html>"
        await exchange.answer(Answer(200, [(b"content-type", b"text/html; charset=utf-8")], page))

    async def _gzip_bomb(self, exchange: Exchange, vice: Vice) -> None:
        body = await asyncio.to_thread(gzip_bomb, vice.amount)
        headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
        await exchange.answer(Answer(200, headers, body))

    def _somewhere(self, body: bytes) -> int:
        """A place inside the body, at least one byte before its end."""
        return self._faults.random.randrange(len(body) // 2, len(body)) if len(body) > 1 else 0

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless the server closes."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return


@lru_cache(maxsize=2)
def gzip_bomb(megabytes: int) -> bytes:
    """A gzip body of about a thousandth of the size it inflates to: the beginning of a page, then blanks without end.

    Deflate blocks after a full flush do not refer to what came before, so one block of blanks is repeated as bytes.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    beginning = packer.compress(b'{"data":[') + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    return beginning + block * megabytes
