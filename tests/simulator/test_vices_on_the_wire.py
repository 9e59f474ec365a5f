"""What each vice does to the bytes on a real socket, read raw."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from xdr_mcp.simulator import DEFAULT_TOKEN, Estate, Faults, create_app, running, serve
from xdr_mcp.simulator.wire import EXTENSION

pytestmark = pytest.mark.anyio

BOUND = 5


class Raw(NamedTuple):
    """An answer as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().casefold() == name:
                return value.strip().decode()
        return None


async def ask(url: str, *, close: bool = True) -> Raw:
    """Send one request and read until the connection ends."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1 << 26)
    ending = "close" if close else "keep-alive"
    writer.write(
        f"GET {where.path}/api/v1/alerts HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: {ending}\r\n"
        f"x-fireeye-api-key: {DEFAULT_TOKEN}\r\n\r\n".encode()
    )
    try:
        head, _, body = (await asyncio.wait_for(reader.read(-1), BOUND)).partition(b"\r\n\r\n")
    except ConnectionResetError:
        head, body = b"", b""
    finally:
        writer.close()
    return Raw(head, body)


Serving = Callable[[str], AbstractAsyncContextManager[str]]


@pytest.fixture
def serving(clock: Any) -> Serving:
    @asynccontextmanager
    async def serving(vices: str) -> AsyncIterator[str]:
        async with running(create_app(Estate(3, clock, rate=4), Faults.parse(vices))) as url:
            yield url

    return serving


async def test_without_vices_the_answer_is_whole(serving: Serving) -> None:
    async with serving("") as url:
        answer = await ask(url)
    assert answer.status == 200
    assert len(answer.body) == int(answer.header("content-length") or 0)
    assert len(json.loads(answer.body)["data"]) == 10


async def test_a_refused_credential_is_401_in_json(serving: Serving) -> None:
    async with serving("401:x1") as url:
        answers = [await ask(url) for _ in range(2)]
    assert [answer.status for answer in answers] == [401, 200]
    assert json.loads(answers[0].body)["errors"][0]["status"] == "401"


async def test_too_many_requests_comes_with_every_form_of_retry_after_in_turn(serving: Serving, clock: Any) -> None:
    async with serving("429") as url:
        answers = [await ask(url) for _ in range(7)]
    assert {answer.status for answer in answers} == {429}
    seconds, date, epoch, negative, huge, garbage, none = (answer.header("retry-after") for answer in answers)
    assert seconds == "1"
    assert 0 < (parsedate_to_datetime(date or "") - clock()).total_seconds() < 10
    assert 0 < int(epoch or "") - clock().timestamp() < 10
    assert int(negative or "") < 0
    assert int(huge or "") > 10**9
    assert garbage is not None
    with pytest.raises(ValueError, match="invalid literal"):
        int(garbage)
    assert none is None


@pytest.mark.parametrize(("form", "value"), [("429-negative", "-30"), ("429-none", None), ("429-seconds:7s", "7")])
async def test_one_form_of_retry_after_can_be_chosen(serving: Serving, form: str, value: str | None) -> None:
    async with serving(form) as url:
        answers = [await ask(url) for _ in range(2)]
    assert {(answer.status, answer.header("retry-after")) for answer in answers} == {(429, value)}


async def test_server_errors_take_turns(serving: Serving) -> None:
    async with serving("5xx") as url:
        answers = [await ask(url) for _ in range(4)]
    assert [answer.status for answer in answers] == [500, 502, 503, 504]


async def test_a_dropped_connection_has_no_answer(serving: Serving) -> None:
    async with serving("reset:x1") as url:
        answers = [await ask(url) for _ in range(2)]
    assert answers[0] == Raw(b"", b"")
    assert answers[1].status == 200


async def test_truncated_json_claims_to_be_whole(serving: Serving) -> None:
    async with serving("truncated-json") as url:
        answer = await ask(url)
    assert answer.status == 200
    assert len(answer.body) == int(answer.header("content-length") or 0)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


async def test_truncated_gzip_ends_in_the_middle(serving: Serving) -> None:
    async with serving("truncated-gzip") as url:
        answer = await ask(url)
    assert answer.header("content-encoding") == "gzip"
    assert len(answer.body) == int(answer.header("content-length") or 0)
    with pytest.raises(EOFError):
        gzip.decompress(answer.body)


async def test_content_length_says_more_or_less_than_is_sent(serving: Serving) -> None:
    async with serving("content-length") as url:
        answers = [await ask(url, close=False) for _ in range(12)]
    differences = [len(answer.body) - int(answer.header("content-length") or 0) for answer in answers]
    assert min(differences) < 0 < max(differences)
    assert 0 not in differences


async def test_a_chunk_is_cut(serving: Serving) -> None:
    async with serving("cut-chunk") as url:
        answer = await ask(url, close=False)
    assert answer.header("transfer-encoding") == "chunked"
    assert answer.header("content-length") is None
    size, _, chunk = answer.body.partition(b"\r\n")
    assert 0 < len(chunk) < int(size, 16)


async def test_html_comes_in_place_of_json(serving: Serving) -> None:
    async with serving("html") as url:
        answer = await ask(url)
    assert (answer.status, answer.header("content-type")) == (200, "text/html; charset=utf-8")
    assert answer.body.startswith(b"<!doctype html>")


async def test_a_gzip_bomb_inflates_a_thousandfold(serving: Serving) -> None:
    async with serving("gzip-bomb:64") as url:
        answer = await ask(url)
    inflater, size, rest = zlib.decompressobj(31), 0, answer.body
    while rest:
        size += len(inflater.decompress(rest, 1 << 20))
        rest = inflater.unconsumed_tail
    assert len(answer.body) < 100_000
    assert size > 64 * 1024 * 1024


async def test_a_slow_answer_lets_others_pass_and_is_whole(clock: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("slow:1h:x1"))
    async with running(app) as url:
        asked = {asyncio.create_task(ask(url)) for _ in range(2)}
        done, slow = await asyncio.wait(asked, timeout=BOUND, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(slow)) == (1, 1)
        app.state.simulator.close()
        quick_answer, slow_answer = await done.pop(), await slow.pop()
    assert len(json.loads(slow_answer.body)["data"]) == 10
    assert slow_answer.body == quick_answer.body


async def test_a_trickled_answer_comes_in_many_pieces(serving: Serving) -> None:
    headers = {"x-fireeye-api-key": DEFAULT_TOKEN}
    async with serving("trickle:200ms") as url, httpx.AsyncClient(headers=headers) as client:  # noqa: SIM117 (reads better)
        async with client.stream("GET", f"{url}/api/v1/alerts") as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    assert len(pieces) > 5
    assert len(json.loads(b"".join(pieces))["data"]) == 10


async def test_a_stalled_answer_sends_half_and_then_ends(serving: Serving) -> None:
    async with serving("stall:100ms") as url:
        where = urlsplit(url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(
            f"GET {where.path}/api/v1/alerts HTTP/1.1\r\nHost: x\r\nx-fireeye-api-key: {DEFAULT_TOKEN}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND)
        length = int(Raw(head, b"").header("content-length") or 0)
        assert await asyncio.wait_for(reader.readexactly(length // 2), BOUND)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), BOUND)
        writer.close()


async def test_an_outage_meets_every_request_until_it_ends(serving: Serving) -> None:
    async with serving("outage:400ms") as url:
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = [await ask(url)]
        while not answers[-1].head.startswith(b"HTTP/1.1 200") and loop.time() < began + BOUND:
            answers.append(await ask(url))
        lasted = loop.time() - began
    assert {answer.head[9:12] for answer in answers[:-1]} <= {b"", b"503"}
    assert answers[-1].status == 200
    assert lasted >= 0.4


async def test_the_server_ends_at_once_with_stalled_answers_open(clock: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("stall:1h"))
    stop = asyncio.Event()
    told: asyncio.Queue[str] = asyncio.Queue()
    server = asyncio.create_task(serve(app, started=told.put_nowait, stop=stop))
    url = await asyncio.wait_for(told.get(), BOUND)
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(
        f"GET {where.path}/api/v1/alerts HTTP/1.1\r\nHost: x\r\nx-fireeye-api-key: {DEFAULT_TOKEN}\r\n\r\n".encode()
    )
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND)
    stop.set()
    await asyncio.wait_for(server, BOUND)
    writer.close()


async def test_a_cancelled_server_gives_its_port_back(clock: Any) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    server = asyncio.create_task(serve(create_app(Estate(3, clock, rate=4)), started=told.put_nowait))
    port = urlsplit(await asyncio.wait_for(told.get(), BOUND)).port
    server.cancel()
    await asyncio.wait({server}, timeout=BOUND)
    assert server.cancelled()
    with socket.create_server(("127.0.0.1", port or 0)) as again:
        assert again.getsockname()[1] == port


async def test_an_address_in_use_is_an_error(clock: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(create_app(Estate(3, clock, rate=4)), port=taken.getsockname()[1])


async def test_all_vices_together_leave_most_answers_whole(serving: Serving) -> None:
    async with serving("all,stall:0,outage:0,gzip-bomb:0,slow:0,trickle:0,burst:0") as url:
        answers = [await ask(url) for _ in range(60)]
    whole = 0
    for answer in answers:
        try:
            whole += len(json.loads(answer.body)["data"]) >= 10
        except (ValueError, KeyError, RecursionError):
            continue
    assert 20 < whole < 60


async def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements() -> None:
    immediate: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["extensions"][EXTENSION].get_extra_info("socket")
        immediate.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await Response()(scope, receive, send)

    served = Starlette(routes=[Mount("/", app)])
    served.state.simulator = create_app(Estate(1, rate=0)).state.simulator
    async with running(served) as url, httpx.AsyncClient() as client:
        await client.get(url)
    assert immediate == [1]
