"""What it costs to be an assistant's server: start-up, a tool call, a notification, standing idle.

Run it as ``python bench/serving.py --alerts 10000``. Each figure is set against the MCP SDK's own floor on the same machine in
the same run, the two taking turns: a no-op tool of the same server, a bare SDK server that does nothing. Servers are processes
of their own, and what calls them and listens to them only handles bytes, so that no client's cost is in the figures: calls on
a kept connection or pipe, and for notifications one socket each, whose bytes are looked at when they arrive. Needs Linux
or macOS, and the extra ``test`` (psutil).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Protocol

import anyio
import anyio.to_thread
import psutil  # type: ignore[import-untyped]  # it has no stubs

from bench.reach import Reach
from xdr_mcp.alert import Alert, Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Page, Record, Store
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.bell import LOOK_EVERY

TOKEN = "simulator-token"  # noqa: S105 (opens a simulation only)
RECENT = "xdr://alerts/recent"
QUERY = "severity>=high and status:new since:-30d"
PAGES = "severity>=unknown since:-30d"
"""Finds all alerts: page after page of it has 25 that were not told before."""
MODERN, LEGACY = "2026-07-28", "2025-11-25"
_QUIET = 0.7
"""Seconds between two changes: a notification of one URI within half a second waits for the window's end."""
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
    from xdr_mcp.opening import suit_python  # noqa: PLC0415 (the measuring process needs no server)
    from xdr_mcp.server import build_server  # noqa: PLC0415
    from xdr_mcp.server.stdio import serve_stdio  # noqa: PLC0415
    from xdr_mcp.server.web import HttpOptions, serve_http  # noqa: PLC0415

    suit_python()
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


async def noop() -> str:
    """Nothing, on the event loop as our tools are: one that is not a coroutine function would be called in a thread."""
    return "ok"


BARE = """
from mcp.server import MCPServer

def noop() -> str:
    "Nothing."
    return "ok"

bare = MCPServer("bare", version="bench")
bare.tool()(noop)
bare.run("stdio")
"""
"""The SDK's own server, that does nothing, over stdio: a program of its own, for this one loads a good part of ours."""


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

    def listen(self) -> socket.socket:
        """The connection, on which the server will tell of changes of the newest alerts."""
        if self.era == MODERN:
            watched = {"resourceSubscriptions": [RECENT]}
            self._headers = self._headers.replace("tools/call", "subscriptions/listen")
            self._send(self.request("subscriptions/listen", notifications=watched))
            expected = b"acknowledged"
        else:
            self._ask(self.request("resources/subscribe", uri=RECENT))
            self._send("", "GET")
            expected = b"\r\n\r\n"
        answer = b""
        while expected not in answer:
            answer += self._socket.recv(65_536)
        return self._socket

    def _send(self, body: str, method: str = "POST", more: str = "") -> None:
        sent = body.encode()
        head = f"{method} /mcp HTTP/1.1\r\n{self._headers}{more}Content-Length: {len(sent)}\r\n\r\n"
        self._socket.sendall(head.encode() + sent)

    def _ask(self, body: str, more: str = "") -> tuple[dict[str, str], bytes]:
        self._send(body, more=more)
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
    """Ask so often; with ``cursor`` among the arguments, for the page behind the last one each time."""
    before = cpu_of(pid)
    for _ in range(BLOCK):
        began = time.perf_counter()
        answer = caller.call(tool, arguments)
        into.seconds.append(time.perf_counter() - began)
        assert '"isError":true' not in answer, answer[:500]
        if "cursor" in arguments:
            following = re.search(r'"next_cursor":"([^"]+)"', answer)
            arguments["cursor"] = following[1] if following else None
    into.cpu += cpu_of(pid) - before


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    row("---", *("--:" for _ in cells[1:]))


# ---------------------------------------------------------------- what is measured


def measure_calls(database: Path, rounds: int, reach: Reach) -> None:
    head("a call of 25 rows against a no-op", "no-op p50 / p99, ms", "ours p50 / p99, ms", "ratio p50", "ratio CPU")
    newest: dict[str, Any] = {"query": QUERY, "limit": 25}
    paging: dict[str, Any] = {"query": PAGES, "limit": 25, "cursor": None}
    asked = {"the newest, again and again": newest, "page after page": paging}
    for transport, era, what in product(("http", "stdio"), (MODERN, LEGACY), asked):
        arguments = dict(asked[what])
        with process(__file__, "--serve", str(database), transport) as running:
            caller: Caller = OverPipe(era, running) if transport == "stdio" else OverHttp(era, a_line(running))
            floor, ours = Timed(), Timed()
            for turn in range(rounds + 1):
                time_block(caller, "noop", {}, running.pid, floor)
                time_block(caller, "filter_alerts", arguments, running.pid, ours)
                if not turn:  # the first turn warms both up
                    floor, ours = Timed(), Timed()
        row(
            f"{transport}, {era}: {what}",
            *(f"{each.p50:.2f} / {each.p99:.2f}" for each in (floor, ours)),
            f"{ours.p50 / floor.p50:.2f}",
            f"{ours.cpu_each / floor.cpu_each:.2f}",
        )
        if transport == "http":
            reach.at_most(f"a call against a no-op, {era}: {what}", 1.6, ours.p50 / floor.p50, " times")


def measure_start(folder: Path, rounds: int, reach: Reach) -> None:
    """From starting the process until ``initialize`` is answered."""
    alone = folder / "bare.py"
    alone.write_text(BARE)
    settings = {"XDR_DATA_DIR": str(folder), "XDR_ALERTS_DIR": str(folder), "XDR_AUTH_TOKEN": "dev-dummy-token"}
    kinds: dict[str, Callable[[], Any]] = {
        "a bare SDK server": partial(process, str(alone)),
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
    reach.at_most("start until `initialize` is answered", 1.2, figures["xdr-mcp serve"].p50 / bare.p50, " times")


class Listeners:
    """Sockets on which one resource is watched; a thread notes when bytes of a notification arrive on each."""

    def __init__(self, url: str, era: str, number: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._arrived: list[float] = []
        self._changed = threading.Condition()
        for _ in range(number):
            self._selector.register(OverHttp(era, url).listen(), selectors.EVENT_READ)
        threading.Thread(target=self._read, daemon=True).start()

    def told(self, number: int) -> list[float]:
        """When each of so many was told, once all were."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._arrived) >= number, 60), "nothing was told"
            arrived, self._arrived = self._arrived, []
            return arrived

    def _read(self) -> None:
        while True:
            for key, _ in self._selector.select():
                at = time.monotonic()
                told = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # a socket
                if not told:
                    self._selector.unregister(key.fileobj)
                elif b"notifications/resources/updated" in told:
                    with self._changed:
                        self._arrived.append(at)
                        self._changed.notify()


async def measure_notifications(database: Path, rounds: int, reach: Reach) -> None:
    head("saved until a notification arrives, ms", "p50", "p99", "largest", "processor of the server for each")
    for number, era in ((1, MODERN), (10, MODERN), (100, MODERN), (100, LEGACY)):
        with process(__file__, "--serve", str(database), "http") as running:
            listeners = Listeners(a_line(running), era, number)
            async with open_store(database) as store:
                for place in ("the same process", "another process"):
                    delays: list[float] = []
                    before = cpu_of(running.pid)
                    for turn in range(rounds):
                        await anyio.sleep(_QUIET + LOOK_EVERY * turn / rounds)  # at any moment between two looks
                        saved = await saving(running, store, turn, here=place == "another process")
                        told = await anyio.to_thread.run_sync(listeners.told, number)
                        delays += [max(0.0, arrived - saved) for arrived in told]
                    times, used = Timed(delays), (cpu_of(running.pid) - before) / len(delays)
                    figures = (f"{times.p50:.0f}", f"{times.p99:.0f}", f"{max(delays) * 1e3:.0f}", f"{used * 1e3:.2f}")
                    row(f"{place}, {number} subscribers, {era}", *figures)
                    limit = 50 if place == "the same process" else 1_000
                    reach.at_most(f"saved until told, {place}, {number}, {era}: p99", limit, times.p99, " ms")


async def saving(running: subprocess.Popen[str], store: Store, turn: int, *, here: bool) -> float:
    """Have one alert saved; when that was, on the clock that all processes share."""
    if here:
        await save(store, [20_000_000 + turn + time.monotonic_ns() % 1_000_000])
        return time.monotonic()
    assert running.stdin
    running.stdin.write("save\n")
    running.stdin.flush()
    return float(await anyio.to_thread.run_sync(a_line, running))


async def measure_idle(folder: Path, seconds: float, reach: Reach) -> None:
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
        await answering(port)
        Listeners(f"http://127.0.0.1:{port}/mcp", MODERN, 100)
        await anyio.sleep(5)  # the first poll is over
        before = cpu_of(running.pid)
        await anyio.sleep(seconds)
        used = cpu_of(running.pid) - before
        resident = psutil.Process(running.pid).memory_info().rss
    head("poller and server in one process, 100 subscribers", "")
    row(f"processor between polls, of one core, over {seconds:.0f} s", f"{used / seconds:.2%}")
    reach.at_most("processor between polls, 100 subscribers", 1, used / seconds * 100, " %")
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
    reach = Reach()
    await fill(database, alerts)
    if "start" in parts:
        measure_start(folder, max(3, rounds // 2), reach)
    if "calls" in parts:
        measure_calls(database, rounds, reach)
    if "told" in parts:
        await measure_notifications(database, rounds, reach)
    if "idle" in parts:
        await measure_idle(folder, 20, reach)
    reach.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=10_000, help="how many are stored")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each kind")
    parser.add_argument("--parts", default="start,calls,told,idle", help="what to measure, by comma")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        anyio.run(serve, *asked.serve)
    else:
        with tempfile.TemporaryDirectory(prefix="xdr-mcp-bench-") as folder:
            anyio.run(measure, asked.alerts, asked.rounds, asked.parts.split(","), Path(folder))


if __name__ == "__main__":
    main()
