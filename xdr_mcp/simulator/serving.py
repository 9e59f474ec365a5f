"""Runs the simulator on a real socket, until it is told to stop; nothing of it outlives that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from xdr_mcp.simulator.wire import SimulatorProtocol


class _Server(uvicorn.Server):
    """Leaves the signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Starlette,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    started: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until ``stop`` is set or the task is cancelled; both end cleanly, with stalled answers cut off.

    Args:
        app: what ``create_app`` made.
        host: address to listen on.
        port: 0 for any free one.
        started: is told the base URL (``http://127.0.0.1:49152/xdr-alert``) once requests are answered.
        stop: set it to end.

    Raises:
        OSError: the address is in use or not ours.
    """
    async with running(app, host=host, port=port) as url:
        if started is not None:
            started(url)
        await (stop or asyncio.Event()).wait()


@asynccontextmanager
async def running(app: Starlette, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve while the block runs; gives the base URL. Raises OSError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=256)
    # inherited by each connection; asyncio sets it only where the protocol was named when the socket was made
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        http=SimulatorProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.005)
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{listener.getsockname()[1]}/xdr-alert"
    finally:
        app.state.simulator.close()
        server.should_exit = True
        await asyncio.shield(task)
