"""A server in a process of its own, for what only a process can show: ``process.py DATABASE stdio|http [stubborn]``."""

from __future__ import annotations

import sys
from functools import partial

import anyio

from xdr_mcp.cli.signals import run_service
from xdr_mcp.server import build_server
from xdr_mcp.server.stdio import serve_stdio
from xdr_mcp.server.web import HttpOptions, serve_http
from xdr_mcp.store import open_store


async def print_now_and_then() -> None:
    """What no code beside a stdio server should do, and some does."""
    while True:
        await anyio.sleep(0.01)
        print("stray output", flush=True)  # noqa: T201 (the point)


async def refuse_to_end() -> None:
    """What hangs when everything else is told to stop."""
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            sys.stderr.write("still here\n")
            await anyio.sleep_forever()


async def main(database: str, transport: str, *stubborn: str) -> None:
    async with open_store(database) as store:
        beside = [print_now_and_then, *([refuse_to_end] if stubborn else [])]
        if transport == "stdio":
            server = build_server(store, version="0.0-test", cursor_key=b"k" * 32, background=beside)
            await serve_stdio(server)
        else:
            server = build_server(store, version="0.0-test", cursor_key=b"k" * 32)
            await serve_http(server, HttpOptions(port=0), ready=partial(print, flush=True))


run_service(partial(main, *sys.argv[1:]))
sys.stderr.write("ended in order\n")
