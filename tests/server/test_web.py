from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from processes import a_process, ended_in_order, receive
from serving import BOUND, ERAS, NOON, Clock, a_server, an_alert, data_of, read, report, save, watching

from xdr_mcp.errors import SettingsError
from xdr_mcp.server import XdrServer
from xdr_mcp.server.web import EndingAnswers, HttpOptions, _listen_on, serve_http

pytestmark = pytest.mark.anyio
both_eras = pytest.mark.parametrize("era", ERAS)

RECENT = "xdr://alerts/recent"
EVERYWHERE = "0.0.0.0"  # noqa: S104 (what is refused)


@asynccontextmanager
async def over_http(server: XdrServer, **options: Any) -> AsyncIterator[str]:
    """The server on a real socket; gives its URL."""
    told, urls = anyio.create_memory_object_stream[str](1)
    with told, urls:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve_http(server, HttpOptions(port=0, **options), ready=told.send_nowait))
            with anyio.fail_after(BOUND):
                url = await urls.receive()
            try:
                yield url
            finally:
                tasks.cancel_scope.cancel()


@both_eras
async def test_clients_of_both_eras_call_read_and_are_told_over_http(era: str, tmp_path: Path) -> None:
    async with (
        a_server(tmp_path, an_alert(1)) as (server, store),
        over_http(server) as url,
        watching(url, era, [RECENT]) as (client, updates),
    ):
        assert data_of(await client.call_tool("list_alerts", {}))["total"] == 1
        await save(store, an_alert(2))
        assert await updates.next() == RECENT
        assert (await read(client, RECENT))["alerts"][1]["id"] == an_alert(2).id


async def ask(url: str, path: str = "/healthz", method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.request(
            method,
            url.replace("/mcp", path),
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        )


@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/anything"])
async def test_a_page_that_resolves_its_name_to_this_machine_is_refused_everywhere(path: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), over_http(server, allowed_origins=("https://soc.example",)) as url:
        assert (await ask(url, path, host="evil.example")).status_code == 421
        assert (await ask(url, path, origin="https://evil.example")).status_code == 403
        assert (await ask(url, path, origin="http://localhost.evil.example")).status_code == 403
        for origin in ("https://soc.example", "http://localhost:3000", "http://127.0.0.1"):
            assert (await ask(url, path, origin=origin)).status_code not in {403, 421}


async def test_a_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), over_http(server, token="s3cret") as url:
        refused = await ask(url, "/mcp", "POST")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret", "Bearer \u00fc"):
            assert (await ask(url, "/mcp", "POST", authorization=wrong)).status_code == 401
        assert (await ask(url, "/mcp", "POST", authorization="bearer s3cret")).status_code not in {401, 403}
        assert (await ask(url)).status_code == 200


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"host": EVERYWHERE}, "name the hosts"),
        ({"host": EVERYWHERE, "token": "t"}, "name the hosts"),
        ({"host": "192.0.2.1", "allowed_hosts": ("soc.example",)}, "set an HTTP token"),
        ({"token": "with\nline"}, "printable ASCII"),
        ({"host": "192.0.2.1", "allowed_hosts": ("soc.example",), "token": "t", "port": 1}, "Cannot listen"),
    ],
)
async def test_what_is_not_safe_is_refused_at_the_start(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _):
        with pytest.raises(SettingsError, match=reason):
            await serve_http(server, HttpOptions(**options))


@pytest.mark.parametrize(
    "options",
    [{"token": "t"}, {"unauthenticated": True}, {"host": "127.0.0.1"}, {"host": "localhost"}, {"host": "::1"}],
)
def test_what_was_said_on_purpose_is_done(options: dict[str, Any]) -> None:
    reachable = {"host": EVERYWHERE, "allowed_hosts": ("soc.example:*",)}
    checked = HttpOptions(**(reachable | options)).checked()
    assert "soc.example:*" in checked.security().allowed_hosts
    assert ("localhost:*" in checked.security().allowed_hosts) == ("host" in options)


async def test_health_tells_the_age_of_the_last_poll_and_fails_when_it_is_stale(tmp_path: Path) -> None:
    clock = Clock()
    async with a_server(tmp_path, clock=clock) as (server, store), over_http(server) as url:
        assert (await ask(url)).json() == {"status": "ok"}
        await report(store, "development", "demo")
        await report(store, "ok", last_success=NOON - timedelta(seconds=30))
        assert (await ask(url)).json() == {"status": "ok", "poll_age_s": 30}
        clock.now += timedelta(minutes=16)
        stale = await ask(url)
        assert stale.status_code == 503
        assert stale.json() == {"status": "failing", "poll_age_s": 990, "why": "polling is behind"}


async def test_a_server_that_just_started_has_time_to_catch_up(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, store):
        await report(store, "failing", last_success=NOON - timedelta(days=3))
        await report(store, "starting", "graph")
        assert (await server.health(timedelta(minutes=15)))["status"] == "ok"


async def test_a_server_that_does_not_follow_its_store_is_not_healthy(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _):
        pass
    assert (await server.health(timedelta(minutes=15)))["status"] == "failing"


async def test_a_client_that_takes_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def stream(_scope: object, _receive: object, send: Callable[[dict[str, str]], Awaitable[None]]) -> None:
        while True:
            await send({"type": "http.response.body"})

    async def never(_message: object) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(BOUND):
        await EndingAnswers(stream, write_limit=0.01)({"type": "http", "method": "POST"}, never, never)  # type: ignore[arg-type]
    assert "its connection is closed" in caplog.text


@both_eras
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_in_order_with_streams_open(
    era: str, number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, str(Path(__file__).with_name("process.py")), str(tmp_path / "xdr.db"), "http"]
    async with a_process(*command) as process:
        with anyio.fail_after(4 * BOUND):
            url = (await receive(process.stdout)).decode().strip()
        async with watching(url, era, [RECENT]) as (client, _):
            await client.list_tools()
            process.send_signal(number)
            await ended_in_order(process)


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements() -> None:
    with closing(_listen_on("127.0.0.1", 0)) as listener, closing(socket.create_connection(listener.getsockname())):
        accepted, _ = listener.accept()
        with closing(accepted):
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
