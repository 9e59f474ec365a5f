"""Real sockets between the poller and the vendor, and everything that can happen on them. Each ends with every alert once."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import stamina
from fake_xdr import TOKEN, FakeXdr, serving
from faulty_proxy import End, Fault, FaultyProxy
from flow import minutes_ago
from program import environment, settings_for
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from truth import every_change

from xdr_mcp.errors import SourceError
from xdr_mcp.interfaces import Store, utc_now
from xdr_mcp.planning import Pace
from xdr_mcp.poller import Poller
from xdr_mcp.sources.xdr import XdrSource
from xdr_mcp.sources.xdr.options import XdrOptions
from xdr_mcp.store import open_store

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_waiting_for_the_store_s_syncs")]

BOUND = 10.0
TIMEOUT = 0.3
"""Seconds that the client waits for each read; a whole answer may take twice that."""
LENGTH = b"content-length: "
MEGABYTE = 1 << 20
MOST_MEMORY = 200 * MEGABYTE


def alert(number: int) -> dict[str, Any]:
    """Changed a little later than the ones with lesser numbers."""
    moment = minutes_ago(4 - number / 100)
    attributes = {"name": f"alert {number}", "severity": 3, "status": "NEW", "createdAt": moment, "updatedAt": moment}
    return {"id": f"0d5c1f6e-0000-4000-8000-{number:012d}", "type": "alerts", "attributes": attributes}


@pytest.fixture(autouse=True)
def no_back_off() -> Iterator[None]:
    stamina.set_testing(True, attempts=4, cap=True)
    yield
    stamina.set_testing(False)


class Line:
    """A vendor behind a proxy, and a store."""

    def __init__(self, vendor: FakeXdr, proxy: FaultyProxy, store: Store) -> None:
        self.proxy = proxy
        self.store = store
        self._vendor = vendor
        self._ids: list[str] = []

    def put(self, alerts: int) -> None:
        """The vendor creates so many alerts, each newer than all before."""
        for _ in range(alerts):
            record = alert(len(self._ids))
            self._vendor.put(record)
            self._ids.append(record["id"])

    @asynccontextmanager
    async def poller(self, page_size: int = 10) -> AsyncIterator[Poller]:
        """A poller with connections of its own."""
        options = XdrOptions.model_validate(
            {
                "base_url": self.proxy.url,
                "auth_token": TOKEN,
                "timeout": TIMEOUT,
                "max_alerts_per_poll": page_size,
                "requests_per_minute": 100_000,
            }
        )
        async with XdrSource.open("xdr", options, self.store.memory("xdr")) as source:
            # an hour: what was put at the beginning is read by each poll, however long the test takes
            pace = Pace(interval=timedelta(milliseconds=10), shortest_look_back=timedelta(hours=1))
            yield Poller(source, self.store, pace=pace, holder="test:1:a")

    async def until_all_are_told(self) -> None:
        """Wait for as many changes as there are alerts."""
        while (last := await self.store.last_seq()) < len(self._ids):
            assert await self.store.wait(last, BOUND), f"{last} of {len(self._ids)}"
        await self.check_that_each_is_told_once()

    async def check_that_each_is_told_once(self) -> None:
        told = Counter(change.alert.vendor_id for change in await every_change(self.store))
        assert told == Counter(self._ids)


@asynccontextmanager
async def a_line(folder: Path, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> AsyncIterator[Line]:
    vendor = FakeXdr()
    vendor.app = wrap(vendor.app)  # type: ignore[assignment]  # a server takes any
    async with (
        serving(vendor) as url,
        FaultyProxy(url).running() as proxy,
        open_store(folder / "store.db") as store,
    ):
        yield Line(vendor, proxy, store)


# ---------------------------------------------------------------- what a network does


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault(late=TIMEOUT / 3)] * 3, id="latency"),
        pytest.param([Fault(late=10)] * 3, id="latency beyond the time-out"),
        pytest.param([Fault(slices=1, pause=TIMEOUT / 10)] * 3, id="one byte now and then"),
        pytest.param([Fault(slices=7)] * 3, id="seven bytes at a time"),
        pytest.param([Fault(after=2_000, end=End.RESET)] * 5, id="a reset in the middle of a body"),
        pytest.param([Fault(after=0, end=End.RESET)] * 5, id="a reset before any answer"),
        pytest.param([Fault(after=2_000, end=End.CLOSE)] * 5, id="closed in the middle of a body"),
        pytest.param([Fault(after=2_000, end=End.SILENCE)] * 3, id="a stall in the middle of a body"),
        pytest.param([Fault(after=0, end=End.SILENCE)] * 3, id="taken, and never answered"),
        pytest.param([Fault(requests=1)] * 3, id="half-open: requests after the first go nowhere"),
        pytest.param([Fault(instead=(LENGTH, LENGTH + b"9"))] * 3, id="a Content-Length that is too large"),
        pytest.param([Fault(instead=(LENGTH, LENGTH + b"40\r\nx-was: "))] * 5, id="a Content-Length that is too small"),
    ],
)
async def test_whatever_the_network_does_every_alert_arrives_once_and_polling_goes_on(
    faults: list[Fault], tmp_path: Path
) -> None:
    with anyio.fail_after(BOUND):
        async with a_line(tmp_path) as line, line.poller() as poller, anyio.create_task_group() as tasks:
            line.put(30)
            line.proxy.faults = list(faults)
            tasks.start_soon(poller.run)
            await line.until_all_are_told()
            line.put(1)
            await line.until_all_are_told()
            assert line.proxy.struck
            tasks.cancel_scope.cancel()


async def test_a_vendor_that_cannot_be_reached_is_found_again_when_it_can(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with a_line(tmp_path) as line, line.poller() as poller, anyio.create_task_group() as tasks:
            line.put(30)
            line.proxy.faults = [Fault(after=0, end=End.RESET)] * 20  # more than the client's patience: polls fail
            tasks.start_soon(poller.run)
            await line.until_all_are_told()
            assert line.proxy.struck == 20
            tasks.cancel_scope.cancel()


# ---------------------------------------------------------------- what a vendor answers


def too_many_requests(**headers: str) -> Response:
    return Response(status_code=429, headers={name.replace("_", "-"): value for name, value in headers.items()})


def a_date(seconds: float) -> str:
    return format_datetime(utc_now() + timedelta(seconds=seconds), usegmt=True)


def flapping() -> list[Response | None]:
    return [each for status in (500, 502, 503, 504, 599) for each in (Response(status_code=status), None)] * 2


def spoilt_json() -> list[Response | None]:
    whole = json.dumps({"data": [alert(number) for number in range(30)]}).encode()
    return [Response(whole[: len(whole) * part // 10], media_type="application/json") for part in range(10)]


def spoilt_gzip() -> list[Response | None]:
    whole = gzip.compress(json.dumps({"data": [alert(number) for number in range(30)]}).encode())
    encoded = {"content-encoding": "gzip"}
    return [Response(whole[: len(whole) * part // 10], headers=encoded) for part in range(1, 10)]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(lambda: [too_many_requests()] * 9, id="429 that says nothing more"),
        pytest.param(lambda: [too_many_requests(retry_after="0")] * 9, id="429 with seconds"),
        pytest.param(lambda: [too_many_requests(retry_after=a_date(-9))] * 9, id="429 with a date that is past"),
        pytest.param(lambda: [too_many_requests(retry_after=a_date(900))] * 3, id="429 with a date"),
        pytest.param(lambda: [too_many_requests(retry_after="-120")] * 9, id="429 with negative seconds"),
        pytest.param(lambda: [too_many_requests(retry_after="9" * 30)] * 3, id="429 with years"),
        pytest.param(lambda: [too_many_requests(retry_after="4102444800")] * 3, id="429 with epoch seconds"),
        pytest.param(lambda: [too_many_requests(retry_after="in a while")] * 9, id="429 with garbage"),
        pytest.param(flapping, id="5xx, each followed by an answer"),
        pytest.param(lambda: [Response(status_code=503)] * 30, id="a storm of 503"),
        pytest.param(lambda: [HTMLResponse("<p>Sign in</p>")] * 9, id="HTML in place of JSON"),
        pytest.param(spoilt_json, id="truncated JSON of every length"),
        pytest.param(spoilt_gzip, id="truncated gzip of every length"),
        pytest.param(lambda: [Response(b"[" * 100_000, media_type="application/json")] * 9, id="brackets without end"),
    ],
)
async def test_whatever_the_vendor_answers_every_alert_arrives_once_and_nothing_counts_as_read_before(
    answers: Callable[[], list[Response | None]], tmp_path: Path
) -> None:
    left = answers()

    def instead(app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            answer = left.pop(0) if left else None
            await (answer or app)(scope, receive, send)

        return serve

    async with a_line(tmp_path, instead) as line, line.poller() as poller:
        line.put(30)
        failures = 0
        with anyio.fail_after(BOUND):
            while left or await line.store.last_seq() == 0:
                try:
                    await poller.once()
                except SourceError:
                    failures += 1
                if await line.store.last_seq() == 0:
                    assert all(not state.coverage for state in await line.store.states())
            await poller.once()
        assert failures <= 30
        await line.check_that_each_is_told_once()


# ---------------------------------------------------------------- cut anywhere


def as_it_is(app: ASGIApp) -> ASGIApp:
    return app


def in_gzip(app: ASGIApp) -> ASGIApp:
    return GZipMiddleware(app, minimum_size=10)


def in_chunks(app: ASGIApp) -> ASGIApp:
    """Without a length, so that the server sends chunks, and a few of them."""

    async def chunked(scope: Scope, receive: Receive, send: Send) -> None:
        async def in_parts(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != b"content-length"]
                await send(message)
                return
            body = message["body"]
            for start in range(0, len(body), 400):
                await send({"type": message["type"], "body": body[start : start + 400], "more_body": True})
            await send({"type": message["type"], "body": b""})

        await app(scope, receive, in_parts)

    return chunked


def places_of(answer: bytes) -> list[int]:
    """Offsets at, just before and just after each border of headers and chunks, and half-way between borders."""
    borders = [0, *(found.end() for found in re.finditer(rb"\r\n(?:[0-9a-f]+\r\n|\r\n)?", answer)), len(answer)]
    around = {border + step for border in borders for step in (-1, 0, 1)}
    between = {(first + second) // 2 for first, second in pairwise(borders)}
    return sorted(place for place in around | between if 0 <= place < len(answer))


@pytest.mark.parametrize("framing", [as_it_is, in_gzip, in_chunks], ids=lambda framing: framing.__name__)
@pytest.mark.parametrize("end", [End.CLOSE, End.RESET], ids=lambda end: end.value)
@pytest.mark.parametrize(
    "everywhere", [pytest.param(False, id="at borders"), pytest.param(True, id="anywhere", marks=pytest.mark.slow)]
)
async def test_a_connection_that_is_cut_at_any_byte_costs_a_retry_and_no_alert(
    framing: Callable[[ASGIApp], ASGIApp], end: End, tmp_path: Path, *, everywhere: bool
) -> None:
    async with a_line(tmp_path, framing) as line, line.poller(page_size=2) as poller:
        line.put(3)
        await poller.once()
        whole = bytes(line.proxy.answers[0])
        assert whole.count(b"HTTP/1.1 200 OK") > 1
        places = list(range(len(whole))) if everywhere else places_of(whole)
        assert len(places) > 30
        for place in places:
            await line.proxy.hang_up()
            line.proxy.faults = [Fault(after=place, end=end)]
            with anyio.fail_after(BOUND):
                report = await poller.once()
            assert (report.created, report.unchanged >= 3) == (0, True), place
        assert line.proxy.struck == len(places)
        await line.check_that_each_is_told_once()


# ---------------------------------------------------------------- bounded memory

MEASURED = """
import atexit, pathlib, sys
from xdr_mcp.cli import main
def tell():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    print(next(line for line in lines if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(tell)
main()
"""
"""xdr-mcp that says at its end how much memory it ever had (the kernel's figure for a child includes its parent's)."""


async def a_hundred_megabytes() -> AsyncIterator[bytes]:
    yield b'{"data":[{"id":"'
    for _ in range(100):
        yield b"x" * MEGABYTE
    yield b'"}]}'


async def a_gigabyte_in_gzip() -> AsyncIterator[bytes]:
    sixteen = gzip.compress(b" " * 16 * MEGABYTE)
    yield gzip.compress(b'{"data":[')
    for _ in range(64):
        yield sixteen
    yield gzip.compress(b"]}")


async def ten_million_brackets() -> AsyncIterator[bytes]:
    for letter in (b"[", b"]"):
        for _ in range(10):
            yield letter * MEGABYTE


async def thirty_megabytes_of_nothing() -> AsyncIterator[bytes]:
    yield b'{"data":['
    for _ in range(30):
        yield b"[]," * (MEGABYTE // 3)
    yield b"[]]}"


class Bombs:
    """In place of the first answers, others."""

    def __init__(self, body: Callable[[], AsyncIterator[bytes]], times: int) -> None:
        self.left = times
        self._body = body

    def before(self, app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if self.left == 0:
                await app(scope, receive, send)
                return
            self.left -= 1
            headers = {"content-encoding": "gzip"} if self._body is a_gigabyte_in_gzip else {}
            answer = StreamingResponse(self._body(), headers=headers, media_type="application/json")
            await answer(scope, receive, send)

        return serve


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's memory so")
@pytest.mark.parametrize(
    "body",
    [a_hundred_megabytes, a_gigabyte_in_gzip, ten_million_brackets, thirty_megabytes_of_nothing],
    ids=lambda body: body.__name__,
)
async def test_an_answer_of_any_size_is_refused_within_two_hundred_megabytes(
    body: Callable[[], AsyncIterator[bytes]], tmp_path: Path
) -> None:
    bombs = Bombs(body, times=2)
    async with a_line(tmp_path, bombs.before) as line:
        line.put(3)
        env = environment(**settings_for(line.proxy.url, tmp_path, XDR_AUTH_TOKEN=TOKEN))
        command = [sys.executable, "-c", MEASURED, "poll", "--once"]
        with anyio.fail_after(60):
            first = await anyio.run_process(command, cwd=tmp_path, env=env, check=False)
            second = await anyio.run_process(command, cwd=tmp_path, env=env, check=False)
    assert bombs.left == 0
    for done in (first, second):
        told = re.search(rb"VmHWM:\s+(\d+) kB", done.stderr)
        assert told, done.stderr.decode()
        assert int(told[1]) * 1_024 < MOST_MEMORY
    assert second.returncode == 0, second.stderr.decode()
    async with open_store(tmp_path / "data" / "xdr-mcp.db") as store:
        assert len(await every_change(store)) == 3
