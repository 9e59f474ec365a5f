"""A TCP proxy between a client and a server that spoils what the server answers: late, in slices, cut, reset, silent.

The first connection meets the first of ``faults``, the next the second; when none is left, bytes pass as they come. What a
fault lets through is counted in bytes of the connection's answers, which may be several.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class End(Enum):
    """How a connection ends that was cut."""

    CLOSE = "closed in order"
    RESET = "reset"
    SILENCE = "open, and silent"


class Fault(Struct, frozen=True, kw_only=True):
    """What happens to one connection. Durations are in seconds."""

    late: float = 0.0
    """How long the first byte is held back."""
    after: int | None = None
    """Bytes that pass before the connection is cut; None for all."""
    end: End = End.CLOSE
    slices: int | None = None
    """Bytes that pass at a time, ``pause`` apart."""
    pause: float = 0.0
    instead: tuple[bytes, bytes] = (b"", b"")
    """What is replaced in each piece that the server sends, and by what."""
    requests: int | None = None
    """Requests that reach the server; what follows is swallowed, as by a router that forgot the connection."""


class FaultyProxy:
    """What goes through is in ``answers``, one entry for each connection."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path
        self._connections: set[asyncio.Task[None]] = set()
        self.faults: list[Fault] = []
        self.struck = 0
        """Connections that met a fault."""
        self.answers: list[bytearray] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultyProxy]:
        """Listen while the block runs."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self._path}"
        try:
            yield self
        finally:
            server.close()
            await self.hang_up()
            await server.wait_closed()

    async def hang_up(self) -> None:
        """End every connection there is."""
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = Fault()
        if self.faults:
            fault = self.faults.pop(0)
            self.struck += 1
        passed = bytearray()
        self.answers.append(passed)
        try:
            server = await asyncio.open_connection(self._host, self._port)
            try:
                await _between((reader, writer), server, fault, passed)
            finally:
                await _closed(server[1])
        finally:
            if fault.end is End.RESET:
                _reset_when_closed(writer)
            await _closed(writer)


async def _between(client: Streams, server: Streams, fault: Fault, passed: bytearray) -> None:
    up = asyncio.create_task(_forward(client[0], server[1], fault.requests))
    try:
        with suppress(ConnectionError):
            await _answer(server[0], client[1], fault, passed)
            if fault.after is not None and len(passed) >= fault.after and fault.end is End.SILENCE:
                await up  # until the client has had enough
    finally:
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)


def _reset_when_closed(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # the client was faster, and its connection is gone
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _closed(stream: asyncio.StreamWriter) -> None:
    stream.close()
    with suppress(ConnectionError):
        await stream.wait_closed()


async def _forward(reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, requests: int | None) -> None:
    """Pass what the client asks."""
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            if requests is not None:
                requests -= data.count(b"\r\n\r\n")
                if requests < 0:
                    continue
            upstream.write(data)
            await upstream.drain()


async def _answer(
    upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, passed: bytearray
) -> None:
    """Pass what the server answers, as far as the fault lets it."""
    while fault.after is None or len(passed) < fault.after:
        most = fault.slices or 65_536
        data = await upstream.read(most if fault.after is None else min(most, fault.after - len(passed)))
        if not data:
            return
        await asyncio.sleep(fault.pause if passed else fault.late)
        data = data.replace(*fault.instead) if fault.instead[0] else data
        passed += data
        writer.write(data)
        await writer.drain()
