"""How fast the simulator serves alerts, against a server of the same kind that sends the same bytes from memory.

Run it as ``python bench/simulator.py --alerts 100000 --page 1000``. Both servers run in one process of their own each, the
client reads raw bytes, and the two take turns, so that the ratio holds on a noisy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode, urlsplit

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from xdr_mcp.simulator import DEFAULT_TOKEN, Estate, create_app, running

if TYPE_CHECKING:
    from starlette.requests import Request


class Reader:
    """A keep-alive connection that reads bodies and looks at nothing."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    async def __aenter__(self) -> Self:
        self._in, self._out = await asyncio.open_connection(self._url.hostname, self._url.port, limit=1 << 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._out.close()
        await self._out.wait_closed()

    async def get(self, path: str) -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nAuthorization: Bearer {DEFAULT_TOKEN}\r\n\r\n"
        self._out.write(head.encode())
        answer = await self._in.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return await self._in.readexactly(length)


async def _serve(app: Starlette, pipe: Connection) -> None:
    async with running(app) as url:
        pipe.send(url)
        await asyncio.to_thread(pipe.poll, None)


def _simulate(alerts: int, pipe: Connection) -> None:
    estate = Estate(1, rate=0, stories=False)
    estate.bulk(alerts)
    asyncio.run(_serve(create_app(estate), pipe))


def _repeat(pipe: Connection) -> None:
    pages: list[bytes] = pipe.recv()

    async def answer(request: Request) -> Response:
        return Response(pages[int(request.query_params["n"]) % len(pages)], media_type="application/json")

    app = Starlette(routes=[Route("/xdr-alert/page", answer)])
    app.state.simulator = argparse.Namespace(close=lambda: None)
    asyncio.run(_serve(app, pipe))


@contextmanager
def _process(target: object, *args: object) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*args, theirs))  # type: ignore[arg-type]
    process.start()
    try:
        yield ours
    finally:
        ours.send(None)
        process.join(10)


async def _timed(url: str, paths: list[str]) -> tuple[float, int]:
    async with Reader(url) as reader:
        began = time.perf_counter()
        size = 0
        for path in paths:
            size += len(await reader.get(path))
        return time.perf_counter() - began, size


async def _measure(alerts: int, page: int, rounds: int, simulated: Connection, repeated: Connection) -> None:
    url = await asyncio.to_thread(simulated.recv)
    base = urlsplit(url).path
    lists = [
        f"{base}/api/v1/alerts?" + urlencode({"page[limit]": page, "page[offset]": offset, "sort": "-updatedAt"})
        for offset in range(0, alerts, page)
    ]
    async with Reader(url) as reader:
        pages = [await reader.get(path) for path in lists[:8]]
    repeated.send(pages)
    static = await asyncio.to_thread(repeated.recv)
    copies = [f"{base}/page?n={number}" for number in range(len(lists))]
    print(f"{alerts:,} alerts in pages of {page:,}; alerts/s")
    for _ in range(rounds):
        ours, size = await _timed(url, lists)
        floor, _ = await _timed(static, copies)
        print(
            f"simulator {alerts / ours:>9,.0f}   static bytes {alerts / floor:>9,.0f}   "
            f"ratio of times {ours / floor:.1f}   {size / 1e6:,.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--page", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with _process(_simulate, asked.alerts) as simulated, _process(_repeat) as repeated:
        asyncio.run(_measure(asked.alerts, asked.page, asked.rounds, simulated, repeated))


if __name__ == "__main__":
    main()
