"""The server over stdin and stdout, as assistants launch it.

stdout belongs to the protocol alone: while serving, file descriptor 1 points at stderr, so a stray print cannot break it.
stdin is read by a thread that nothing waits for: a read cannot be interrupted, and one Ctrl-C has to do.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from typing import cast

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server.stdio import stdio_server

from xdr_mcp.server.build import XdrServer


async def serve_stdio(server: XdrServer) -> None:
    """Serve one client until it closes stdin, or until cancelled."""
    low = server.mcp._lowlevel_server  # noqa: SLF001 (run_stdio_async() takes no stdin of ours)
    stdin = cast("anyio.AsyncFile[str]", _lines(os.dup(0)))
    async with server.running(), stdio_server(stdin=stdin) as (incoming, outgoing):
        await low.run(incoming, outgoing, low.create_initialization_options())


async def _lines(descriptor: int) -> AsyncGenerator[str, None]:
    """The lines that arrive at a file descriptor, until it ends. May be left at any time."""
    lines, received = anyio.create_memory_object_stream[str](16)
    reader = threading.Thread(target=_read, args=(descriptor, asyncio.get_running_loop(), lines), daemon=True)
    reader.start()
    async with received:
        async for line in received:
            yield line


def _read(descriptor: int, loop: asyncio.AbstractEventLoop, lines: MemoryObjectSendStream[str]) -> None:
    """Hand each line to the loop and wait until it is taken; end quietly when the loop has ended or nobody reads."""
    try:
        with open(descriptor, "rb") as stdin:
            for line in stdin:
                asyncio.run_coroutine_threadsafe(lines.send(line.decode(errors="replace")), loop).result()
        loop.call_soon_threadsafe(lines.close)
    except (RuntimeError, anyio.BrokenResourceError, anyio.ClosedResourceError, asyncio.CancelledError):
        return
