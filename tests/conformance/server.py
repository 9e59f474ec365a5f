"""The server that users run, with the suite's fixtures laid over it, over HTTP in a process of its own. Prints its URL."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from conformance.overlay import lay_over

from xdr_mcp.cli.signals import run_service
from xdr_mcp.server import build_server
from xdr_mcp.server.web import HttpOptions, serve_http
from xdr_mcp.store import open_store


async def main(folder: str) -> None:
    async with open_store(Path(folder) / "xdr.db") as store:
        server = build_server(store, version="0.0-test", cursor_key=b"k" * 32)
        lay_over(server.mcp)
        await serve_http(server, HttpOptions(port=0), ready=partial(print, flush=True))


logging.basicConfig(level=logging.CRITICAL)  # the suite provokes errors; their tracebacks tell nothing
with TemporaryDirectory() as folder:
    run_service(partial(main, folder))
sys.stderr.write("ended in order\n")
