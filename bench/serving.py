"""What it costs to be an assistant's server: start-up, a tool call, a notification, standing idle.

Run it as ``python bench/serving.py --alerts 10000``. Each figure is set against the MCP SDK's own floor on the same machine in
the same run, the two taking turns: a no-op tool of the same server, a bare SDK server that does nothing. Servers are processes
of their own; calls are raw bytes on a kept connection or pipe, so that no client's cost is in them; notifications are
counted when the SDK's own client holds them. Needs Linux or macOS, and the extra ``test`` (psutil).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Protocol

import anyio
import anyio.to_thread
import psutil  # type: ignore[import-untyped]  # it has no stubs
from anyio.abc import TaskGroup
from mcp import Client

from xdr_mcp.alert import Alert, Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Page, Record, Store
from xdr_mcp.store import open_store

TOKEN = "simulator-token"  # noqa: S105 (opens a simulation only)
RECENT = "xdr://alerts/recent"
QUERY = "severity>=high and status:new since:-30d"
MODERN, LEGACY = "2026-07-28", "2025-11-25"
BLOCK = 20
"""Calls of one kind before the other kind's turn."""
MEBIBYTE = 1024 * 1024
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


# ---------------------------------------------------------------- a store to serve


def an_alert(number: int) -> Alert:
    created = datetime.now(UTC) - timedelta(seconds=number)
    return Alert(
        source="xdr",
        vendor_id=f"4f9a1c2e-0000-4000-8000-{number:012d}",
        title=f"{('Credential dumping', 'Beacon to a rare domain', 'Mass download')[number % 3]} ({number % 97})",
        created=created,
        updated=created,
        severity=list(Severity)[number % 6],
        status=list(Status)[number % 5],
        entities=(Entity(EntityKind.HOST, f"host-{number % 501}"), Entity(EntityKind.USER, f"user-{number % 307}")),
    )


async def save(store: Store, numbers: Sequence[int]) -> None:
    lease = await store.acquire("poll:xdr", "bench", timedelta(hours=1))
    assert lease
    records = tuple(Record(an_alert(number), b'{"bench": true}') for number in numbers)
    await store.save("xdr", Page(records, datetime.now(UTC)), lease)


async def fill(path: Path, alerts: int) -> None:
    async with open_store(path) as store:
        for start in range(0, alerts, 1_000):
            await save(store, range(start, min(start + 1_000, alerts)))


# ---------------------------------------------------------------- the servers measured, each in its own process


async def serve(database: str, transport: str) -> None:
    """Our server with a no-op tool beside its own. Told ``save`` on stdin over HTTP, it saves one alert and says when."""
    from xdr_mcp.server import build_server  # noqa: PLC0415 (the measuring process needs no server)
    from xdr_mcp.server.stdio import serve_stdio  # noqa: PLC0415
    from xdr_mcp.server.web import HttpOptions, serve_http  # noqa: PLC0415

    async with open_store(database) as store:
        beside = [] if transport == "stdio" else [partial(save_when_told, store)]
        server = build_server(store, version="bench", cursor_key=b"k" * 32, background=beside)
        server.mcp.tool(name="noop", description="Nothing", structured_output=False)(noop)
        if transport == "stdio":
            await serve_stdio(server)
        else:
            await serve_http(server, HttpOptions(port=0), ready=partial(print, flush=True))


async def save_when_told(store: Store) -> None:
    number = 10_000_000
    while await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        number += 1
        await save(store, [number])
        print(time.monotonic(), flush=True)


def noop() -> str:
    """Nothing."""
    return "ok"


def serve_bare() -> None:
    """The SDK's own server, that does nothing, over stdio."""
    from mcp.server import MCPServer  # noqa: PLC0415 (as above)

    bare = MCPServer("bare", version="bench")
    bare.tool()(noop)
    bare.run("stdio")


@contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process with pipes; killed at the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDR_")}
    with subprocess.Popen(  # noqa: S603 (this interpreter, and what is written here)
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=kept | variables,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def a_line(running: subprocess.Popen[str]) -> str:
    assert running.stdout
    return running.stdout.readline().strip()


# ---------------------------------------------------------------- raw callers


class Caller(Protocol):
    """Calls a tool and waits for the whole answer."""

    def call(self, tool: str, arguments: dict[str, Any]) -> str: ...


class Numbered:
    """Numbers requests, and words them for one era."""

    def __init__(self, era: str) -> None:
        self.era = era
        self._number = 0

    def request(self, method: str, **params: Any) -> str:
        self._number += 1
        meta = {"_meta": _META} if self.era == MODERN else {}
        return json.dumps({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params | meta})

    def initialize(self) -> str:
        client = {"name": "bench", "version": "0"}
        return self.request("initialize", protocolVersion=LEGACY, capabilities={}, clientInfo=client)


_INITIALIZED = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})


class OverPipe(Numbered):
    """A tool call over stdio."""

    def __init__(self, era: str, running: subprocess.Popen[str]) -> None:
        super().__init__(era)
        self._running = running
        if era == LEGACY:
            self._ask(self.initialize())
            self._write(_INITIALIZED)

    def call(self, tool: str, arguments: dict[str, Any]) -> str:
        return self._ask(self.request("tools/call", name=tool, arguments=arguments))

    def _ask(self, request: str) -> str:
        self._write(request)
        return a_line(self._running)

    def _write(self, text: str) -> None:
        assert self._running.stdin
        self._running.stdin.write(text + "\n")
        self._running.stdin.flush()


class OverHttp(Numbered):
    """A tool call over one kept connection."""

    def __init__(self, era: str, url: str) -> None:
        super().__init__(era)
        host, port = url.split("/")[2].split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._headers = f"Host: {host}:{port}\r\nAccept: application/json, text/event-stream\r\n"
        self._headers += "Content-Type: application/json\r\n"
        if era == LEGACY:
            head, _ = self._ask(self.initialize())
            self._headers += f"Mcp-Session-Id: {head['mcp-session-id']}\r\nMcp-Protocol-Version: {LEGACY}\r\n"
            self._ask(_INITIALIZED)
        else:
            self._headers += f"Mcp-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\n"

    def call(self, tool: str, arguments: dict[str, Any]) -> str:
        name = f"Mcp-Name: {tool}\r\n" if self.era == MODERN else ""
        _, body = self._ask(self.request("tools/call", name=tool, arguments=arguments), name)
        return body.decode()

    def _ask(self, body: str, more: str = "") -> tuple[dict[str, str], bytes]:
        sent = body.encode()
        head = f"POST /mcp HTTP/1.1\r\n{self._headers}{more}Content-Length: {len(sent)}\r\n\r\n"
        self._socket.sendall(head.encode() + sent)
        status = self._file.readline().decode()
        assert status.split()[1] in {"200", "202"}, status
        headers = dict(line.lower().split(": ", 1) for line in iter(self._line, ""))
        return headers, self._body(headers)

    def _line(self) -> str:
        return self._file.readline().decode().strip()

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self._file.read(int(headers["content-length"]))
        chunks = b""
        while size := int(self._line(), 16):
            chunks += self._file.read(size)
            self._line()
        self._line()
        return chunks


# ---------------------------------------------------------------- figures


@dataclass
class Timed:
    """Times of one kind of thing, and the processor time its server took."""

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def p50(self) -> float:
        return median(self.seconds) * 1_000

    @property
    def p99(self) -> float:
        return quantiles(self.seconds, n=100, method="inclusive")[98] * 1_000

    @property
    def cpu_each(self) -> float:
        return self.cpu / len(self.seconds) * 1_000


def cpu_of(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def time_block(caller: Caller, tool: str, arguments: dict[str, Any], pid: int, into: Timed) -> None:
    before = cpu_of(pid)
    for _ in range(BLOCK):
        began = time.perf_counter()
        answer = caller.call(tool, arguments)
        into.seconds.append(time.perf_counter() - began)
        assert '"isError":true' not in answer, answer[:500]
    into.cpu += cpu_of(pid) - before


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    row("---", *("--:" for _ in cells[1:]))


# ---------------------------------------------------------------- what is measured


def measure_calls(database: Path, rounds: int) -> None:
    head("a call of 25 rows against a no-op", "no-op p50 / p99, ms", "ours p50 / p99, ms", "ratio p50", "ratio CPU")
    for transport in ("http", "stdio"):
        for era in (MODERN, LEGACY):
            with process(__file__, "--serve", str(database), transport) as running:
                caller: Caller = OverPipe(era, running) if transport == "stdio" else OverHttp(era, a_line(running))
                floor, ours = Timed(), Timed()
                for turn in range(rounds + 1):
                    time_block(caller, "noop", {}, running.pid, floor)
                    time_block(caller, "filter_alerts", {"query": QUERY, "limit": 25}, running.pid, ours)
                    if not turn:  # the first turn warms both up
                        floor, ours = Timed(), Timed()
            row(
                f"{transport}, {era}",
                *(f"{each.p50:.2f} / {each.p99:.2f}" for each in (floor, ours)),
                f"{ours.p50 / floor.p50:.2f}",
                f"{ours.cpu_each / floor.cpu_each:.2f}",
            )


def measure_start(folder: Path, rounds: int) -> None:
    """From starting the process until ``initialize`` is answered."""
    settings = {"XDR_DATA_DIR": str(folder), "XDR_ALERTS_DIR": str(folder), "XDR_AUTH_TOKEN": "dev-dummy-token"}
    kinds: dict[str, Callable[[], Any]] = {
        "a bare SDK server": partial(process, __file__, "--bare"),
        "xdr-mcp serve": partial(process, "-m", "xdr_mcp", "serve", **settings, XDR_BASE_URL="http://127.0.0.1:9"),
    }
    figures = {name: Timed() for name in kinds}
    for turn in range(rounds + 1):
        for name, start in kinds.items():
            began = time.perf_counter()
            with start() as running:
                OverPipe(LEGACY, running)
                took, used = time.perf_counter() - began, cpu_of(running.pid)
            if turn:  # the first one compiles and warms the disk's cache
                figures[name].seconds.append(took)
                figures[name].cpu += used
    bare = figures["a bare SDK server"]
    head("start until `initialize` is answered", "p50, s", "CPU, s", "ratio p50", "ratio CPU")
    for name, each in figures.items():
        ratios = (f"{each.p50 / bare.p50:.2f}", f"{each.cpu_each / bare.cpu_each:.2f}")
        row(name, f"{each.p50 / 1_000:.2f}", f"{each.cpu_each / 1_000:.2f}", *ratios)


class Listeners:
    """Clients that watch one resource; they note when each holds a notification."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self._number = number
        self._listening = 0
        self.arrived: list[float] = []
        self._changed = anyio.Event()

    async def start(self, tasks: TaskGroup) -> None:
        for _ in range(self._number):
            tasks.start_soon(self._listen)
        await self._until(lambda: self._listening == self._number)

    async def all_told(self) -> list[float]:
        """When each of them was told, once all were."""
        await self._until(lambda: len(self.arrived) >= self._number)
        arrived, self.arrived = self.arrived, []
        return arrived

    async def _until(self, reached: Callable[[], bool]) -> None:
        with anyio.fail_after(60):
            while not reached():
                self._changed = anyio.Event()
                await self._changed.wait()

    async def _listen(self) -> None:
        async with Client(self._url) as client, client.listen(resource_subscriptions=[RECENT]) as stream:
            self._listening += 1
            self._changed.set()
            async for _ in stream:
                self.arrived.append(time.monotonic())
                self._changed.set()


async def measure_notifications(database: Path, rounds: int) -> None:
    head("saved until the client holds the notification, ms", "p50", "p99", "largest")
    for number in (1, 10, 100):
        with process(__file__, "--serve", str(database), "http") as running:
            listeners = Listeners(a_line(running), number)
            async with anyio.create_task_group() as tasks, open_store(database) as store:
                await listeners.start(tasks)
                for place in ("the same process", "another process"):
                    delays: list[float] = []
                    for turn in range(rounds):
                        await anyio.sleep(
                            0.6
                        )  # a notification of one URI within half a second waits for the window's end
                        saved = await saving(running, store, turn, here=place == "another process")
                        delays += [max(0.0, arrived - saved) for arrived in await listeners.all_told()]
                    told = Timed(delays)
                    row(
                        f"{place}, {number} subscribers",
                        f"{told.p50:.0f}",
                        f"{told.p99:.0f}",
                        f"{max(delays) * 1e3:.0f}",
                    )
                tasks.cancel_scope.cancel()


async def saving(running: subprocess.Popen[str], store: Store, turn: int, *, here: bool) -> float:
    """Have one alert saved; when that was, on the clock that all processes share."""
    if here:
        await save(store, [20_000_000 + turn + time.monotonic_ns() % 1_000_000])
        return time.monotonic()
    assert running.stdin
    running.stdin.write("save\n")
    running.stdin.flush()
    return float(await anyio.to_thread.run_sync(a_line, running))


async def measure_idle(folder: Path, seconds: float) -> None:
    """``xdr-mcp serve --http`` between two polls of a quiet simulated vendor, with a hundred subscribers."""
    with ExitStack() as stack:
        quiet = ("--no-stories", "--rate", "0")
        vendor = stack.enter_context(
            process("-m", "xdr_mcp", "simulate", "--port", "0", "--token", TOKEN, *quiet, PYTHONUNBUFFERED="1")
        )
        url = next(word for line in iter(partial(a_line, vendor), "") for word in line.split() if "http://" in word)
        port = free_port()
        settings = {
            "XDR_BASE_URL": url.strip("'\""),
            "XDR_AUTH_TOKEN": TOKEN,
            "XDR_DATA_DIR": str(folder),
            "XDR_ALERTS_DIR": str(folder / "alerts"),
            "XDR_HTTP_PORT": str(port),
        }
        running = stack.enter_context(process("-m", "xdr_mcp", "serve", "--http", **settings))
        listeners = Listeners(f"http://127.0.0.1:{port}/mcp", 100)
        async with anyio.create_task_group() as tasks:
            await answering(port)
            await listeners.start(tasks)
            await anyio.sleep(5)  # the first poll is over
            before = cpu_of(running.pid)
            await anyio.sleep(seconds)
            used = cpu_of(running.pid) - before
            resident = psutil.Process(running.pid).memory_info().rss
            tasks.cancel_scope.cancel()
    head("poller and server in one process, 100 subscribers", "")
    row(f"processor between polls, of one core, over {seconds:.0f} s", f"{used / seconds:.2%}")
    row("resident memory, MB", f"{resident / MEBIBYTE:.0f}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def answering(port: int) -> None:
    with anyio.fail_after(30):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.1)
            else:
                await stream.aclose()
                return


async def measure(alerts: int, rounds: int, parts: Sequence[str], folder: Path) -> None:
    print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; ",
        end="",
    )
    print(f"{alerts:,} alerts stored")
    database = folder / "xdr-mcp.db"
    await fill(database, alerts)
    if "start" in parts:
        measure_start(folder, max(3, rounds // 2))
    if "calls" in parts:
        measure_calls(database, rounds)
    if "told" in parts:
        await measure_notifications(database, rounds)
    if "idle" in parts:
        await measure_idle(folder, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=10_000, help="how many are stored")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each kind")
    parser.add_argument("--parts", default="start,calls,told,idle", help="what to measure, by comma")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        serve_bare()
    elif asked.serve:
        anyio.run(serve, *asked.serve)
    else:
        with tempfile.TemporaryDirectory(prefix="xdr-mcp-bench-") as folder:
            anyio.run(measure, asked.alerts, asked.rounds, asked.parts.split(","), Path(folder))


if __name__ == "__main__":
    main()
