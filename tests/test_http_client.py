"""The HTTP client: respx where the answer is what matters, a real socket where bytes on the wire are."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import httpcore
import httpx
import pytest
import respx
import stamina
from remembered import Remembered
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from xdr_mcp.errors import (
    AuthenticationError,
    BadResponse,
    NotFound,
    RequestRejected,
    SettingsError,
    SourceError,
    Unavailable,
)
from xdr_mcp.http_client import HttpClient, OAuth2ClientCredentials, TooLarge, parse_retry_after
from xdr_mcp.interfaces import Limits
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

BASE = "https://api.example.com/xdr"
SECRET = "s3cr3t-token-value"
NOW = datetime(2026, 1, 10, 12, 0, tzinfo=UTC)
FREE = Limits(per_minute=100_000)

Write = Callable[[bytes], Awaitable[None]]
Serve = Callable[[Write], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_back_off() -> Iterator[None]:
    stamina.set_testing(True, attempts=10, cap=True)
    yield
    stamina.set_testing(False)


@pytest.fixture
def vendor() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


def client(base_url: str = BASE, **options: Any) -> HttpClient:
    return HttpClient(base_url, **{"limits": FREE, "headers": {"x-api-key": SECRET}, **options})


@asynccontextmanager
async def server(*answers: Serve) -> AsyncIterator[str]:
    """A server that lets each connection be answered by the next of ``answers`` (the last one again and again)."""
    waiting = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(write)
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def whole(body: bytes, *headers: str) -> Serve:
    async def serve(write: Write) -> None:
        lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
        await write("\r\n".join(lines).encode() + body)

    return serve


def raw(text: bytes) -> Serve:
    async def serve(write: Write) -> None:
        await write(text)

    return serve


OK = whole(b'{"ok":true}')


# ---------------------------------------------------------------- what is sent, and where


async def test_a_path_goes_under_the_base_url_with_its_parameters(vendor: respx.MockRouter) -> None:
    route = vendor.get(f"{BASE}/api/v1/alerts").respond(json={"data": []})
    async with client() as http:
        answer = await http.request(
            "GET", "/api/v1/alerts", params={"page[limit]": 10, "filter[severity]": '{"eq":"High"}'}
        )
    sent = route.calls.last.request
    assert dict(sent.url.params) == {"page[limit]": "10", "filter[severity]": '{"eq":"High"}'}
    assert sent.headers["accept-encoding"] == "gzip"
    assert sent.headers["x-api-key"] == SECRET
    assert json.loads(answer.body) == {"data": []}


async def test_an_identifier_keeps_its_percent_encoding(vendor: respx.MockRouter) -> None:
    vendor.route().respond(json={})
    async with client() as http:
        await http.request("GET", "/alerts/a%2Fb%3Fc")
    assert vendor.calls.last.request.url.raw_path == b"/xdr/alerts/a%2Fb%3Fc"


async def test_a_next_link_on_the_same_host_keeps_its_own_query(vendor: respx.MockRouter) -> None:
    route = vendor.get("https://api.example.com/other").respond(json={})
    async with client() as http:
        await http.request("GET", "https://api.example.com:443/other?$skiptoken=a%2Bb")
    assert route.calls.last.request.url.query == b"$skiptoken=a%2Bb"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example.net/xdr/api/v1/alerts",
        "http://api.example.com/xdr",
        "https://api.example.com:8443/xdr",
        "//evil.example.net/xdr",
        "https://api.example.com@evil.example.net/",
        "https://user:pw@api.example.com/",
        "file:///etc/passwd",
    ],
)
async def test_an_address_on_another_host_is_refused_before_anything_is_sent(
    vendor: respx.MockRouter, elsewhere: str
) -> None:
    vendor.route().respond(json={})
    async with client() as http:
        with pytest.raises(BadResponse, match="another address") as caught:
            await http.request("GET", elsewhere)
    assert not vendor.calls
    assert "pw" not in str(caught.value)


async def test_a_redirect_is_an_error_that_names_the_host_and_carries_no_credential(vendor: respx.MockRouter) -> None:
    vendor.get(f"{BASE}/alerts").respond(302, headers={"location": "https://evil.example.net/steal?k=hidden"})
    elsewhere = vendor.route(host="evil.example.net").respond(json={})
    async with client() as http:
        with pytest.raises(BadResponse, match=r"redirects to https://evil\.example\.net \(302\)") as caught:
            await http.request("GET", "/alerts")
    assert not elsewhere.called
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url", ["", "api.example.com", "ftp://api.example.com", "https://u:p4ss@h", "https://h?k=p4ss", "https://"]
)
def test_a_base_url_that_cannot_work_is_a_settings_error_without_its_secret(base_url: str) -> None:
    with pytest.raises(SettingsError, match="base URL") as caught:
        client(base_url)
    assert "p4ss" not in str(caught.value)


def test_a_token_pasted_with_a_line_break_is_a_settings_error_that_does_not_show_it() -> None:
    with pytest.raises(SettingsError, match="line break") as caught:
        client(headers={"x-api-key": f"{SECRET}\n"})
    assert SECRET not in str(caught.value)


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRejected),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, NotFound),
        (409, RequestRejected),
        (422, RequestRejected),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_each_status_becomes_the_error_that_says_what_to_do(
    vendor: respx.MockRouter, status: int, error: type[SourceError]
) -> None:
    vendor.get(f"{BASE}/alerts").respond(
        status, json={"errors": [{"title": "No", "detail": "because \x1b[31mof\x00 that"}]}
    )
    async with client() as http:
        with pytest.raises(error) as caught:
            await http.request("GET", "/alerts")
    assert caught.value.status == status
    assert "because" in str(caught.value)
    assert str(caught.value).isprintable()


async def test_an_error_page_is_quoted_short_and_without_its_markup(vendor: respx.MockRouter) -> None:
    page = "<html><style>b{}</style><h1>Blocked</h1>" + "x" * 10_000 + "</html>"
    vendor.get(f"{BASE}/alerts").respond(400, html=page)
    async with client() as http:
        with pytest.raises(RequestRejected) as caught:
            await http.request("GET", "/alerts")
    assert "Blocked" in str(caught.value)
    assert "<" not in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_a_secret_that_the_vendor_echoes_is_not_told_on(vendor: respx.MockRouter) -> None:
    vendor.get(f"{BASE}/alerts").respond(401, json={"error": {"message": f"the key {SECRET} has expired"}})
    async with client(headers={"Authorization": f"Bearer {SECRET}"}) as http:
        with pytest.raises(AuthenticationError, match="has expired") as caught:
            await http.request("GET", "/alerts")
    assert SECRET not in str(caught.value)


async def test_the_vendors_clock_is_read_from_its_answers_and_carried_forward(vendor: respx.MockRouter) -> None:
    ours = [NOW]
    vendor.get(f"{BASE}/a").respond(json={}, headers={"date": format_datetime(NOW - timedelta(hours=2), usegmt=True)})
    vendor.get(f"{BASE}/b").respond(json={}, headers={"date": "yesterday"})
    async with client(clock=lambda: ours[0]) as http:
        assert http.vendor_now() == NOW
        await http.request("GET", "/a")
        await http.request("GET", "/b")
        ours[0] += timedelta(minutes=5)
        assert http.vendor_now() == NOW - timedelta(hours=2) + timedelta(minutes=5)


@pytest.mark.parametrize("year", [1970, 9999], ids=["a clock that was never set", "the end of time"])
async def test_a_date_that_no_set_clock_tells_is_not_believed(vendor: respx.MockRouter, year: int) -> None:
    date = format_datetime(NOW.replace(year=year), usegmt=True)
    vendor.get(f"{BASE}/a").respond(json={}, headers={"date": date})
    async with client(clock=lambda: NOW) as http:
        await http.request("GET", "/a")
        assert http.vendor_now() == NOW


# ---------------------------------------------------------------- patience


async def test_what_may_pass_by_itself_is_tried_again(vendor: respx.MockRouter) -> None:
    route = vendor.get(f"{BASE}/alerts").mock(
        side_effect=[
            httpx.ConnectError("refused"),
            httpx.Response(503),
            httpx.Response(429),
            httpx.Response(200, json={}),
        ]
    )
    async with client(retries=3) as http:
        assert (await http.request("GET", "/alerts")).status == 200
    assert route.call_count == 4


async def test_retries_are_bounded_and_the_last_failure_is_told(vendor: respx.MockRouter) -> None:
    route = vendor.get(f"{BASE}/alerts").respond(503, text="maintenance")
    async with client(retries=2) as http:
        with pytest.raises(Unavailable, match="maintenance"):
            await http.request("GET", "/alerts")
    assert route.call_count == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_will_not_pass_by_itself_is_not_tried_again(vendor: respx.MockRouter, status: int) -> None:
    route = vendor.get(f"{BASE}/alerts").respond(status)
    async with client() as http:
        with pytest.raises(SourceError):
            await http.request("GET", "/alerts")
    assert route.call_count == 1


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("late"), httpx.Response(503), httpx.Response(429)])
async def test_a_request_that_is_not_repeatable_is_sent_once(
    vendor: respx.MockRouter, failure: httpx.Response | Exception
) -> None:
    route = vendor.post(f"{BASE}/alerts/1/comments").mock(side_effect=[failure, httpx.Response(200)])
    async with client(retries=3) as http:
        with pytest.raises(Unavailable):
            await http.request("POST", "/alerts/1/comments", json={}, repeatable=False)
    assert route.call_count == 1


async def test_a_long_retry_after_is_left_to_the_caller(vendor: respx.MockRouter) -> None:
    route = vendor.get(f"{BASE}/alerts").respond(429, headers={"retry-after": "300"})
    async with client() as http:
        with pytest.raises(Unavailable) as caught:
            await http.request("GET", "/alerts")
    assert caught.value.retry_after == 300
    assert route.call_count == 1


async def test_a_short_retry_after_is_slept_through(vendor: respx.MockRouter) -> None:
    stamina.set_testing(False)
    waits: list[float] = []

    def note(details: RetryDetails) -> None:
        waits.append(details.wait_for)

    set_on_retry_hooks([note])
    try:
        vendor.get(f"{BASE}/alerts").mock(
            side_effect=[httpx.Response(429, headers={"retry-after": "0.02"}), httpx.Response(200, json={})]
        )
        async with client() as http:
            await http.request("GET", "/alerts")
    finally:
        set_on_retry_hooks(None)
    assert len(waits) == 1
    assert 0.02 <= waits[0] <= 0.03


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "-30"}, 0),
        ({"Retry-After": "99999999"}, 3600),
        ({"Retry-After": "9" * 5000}, 3600),
        ({"Retry-After": "inf"}, 3600),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90),
        ({"Retry-After": format_datetime(NOW - timedelta(days=1), usegmt=True)}, 0),
        ({"Retry-After": "Fri, 99 Foo 2026 99:99:99 GMT"}, None),
        ({"Retry-After": str(int(NOW.timestamp()) + 45)}, 45),
        ({"X-RateLimit-RetryAfter": str(int(NOW.timestamp()) + 45)}, 45),
        ({"X-RateLimit-RetryAfter": str((int(NOW.timestamp()) + 45) * 1000)}, 45),
    ],
)
def test_every_form_of_retry_after_is_understood_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(httpx.Headers(headers), NOW) == seconds


# ---------------------------------------------------------------- budgets


async def test_no_more_than_the_minutes_share_is_sent_at_once(vendor: respx.MockRouter) -> None:
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    async with client(limits=Limits(per_minute=12)) as http:
        with anyio.move_on_after(0.2) as patience:
            for _ in range(12):
                await http.request("GET", "/alerts")
    assert patience.cancelled_caught
    assert route.call_count == 2  # the burst; each further one has to wait six seconds


async def test_the_daily_budget_outlives_the_process_and_ends_at_midnight(vendor: respx.MockRouter) -> None:
    vendor.get(f"{BASE}/alerts").respond(json={})
    memory, limits, now = Remembered(), Limits(per_minute=100_000, per_day=3), [NOW]
    for _ in range(3):
        async with client(memory=memory, limits=limits, clock=lambda: now[0]) as http:
            await http.request("GET", "/alerts")
    async with client(memory=memory, limits=limits, clock=lambda: now[0]) as http:
        with pytest.raises(Unavailable, match="budget of 3 requests") as caught:
            await http.request("GET", "/alerts")
        assert caught.value.retry_after == 12 * 3600
        now[0] += timedelta(hours=12)
        assert (await http.request("GET", "/alerts")).status == 200


async def test_two_processes_that_ask_one_vendor_share_the_days_budget(vendor: respx.MockRouter) -> None:
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    memory, limits = Remembered(), Limits(per_minute=100_000, per_day=5)
    async with (
        client(memory=memory, limits=limits, clock=lambda: NOW) as poller,
        client(memory=memory, limits=limits, clock=lambda: NOW) as follower,
    ):
        for asking in (poller, follower, poller, follower, poller):
            await asking.request("GET", "/alerts")
        for asking in (poller, follower):
            with pytest.raises(Unavailable, match="budget of 5 requests"):
                await asking.request("GET", "/alerts")
    assert route.call_count == 5


async def test_requests_of_several_processes_at_the_same_moment_are_each_counted(
    vendor: respx.MockRouter, tmp_path: Path
) -> None:
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    limits, refused = Limits(per_minute=100_000, per_day=20), []

    async def ask(asking: HttpClient) -> None:
        try:
            await asking.request("GET", "/alerts")
        except Unavailable as error:
            refused.append(error)

    async with AsyncExitStack() as stack:
        askers = []
        for _ in range(2):
            store = await stack.enter_async_context(open_store(tmp_path / "store.db"))
            asker = client(memory=store.memory("xdr"), limits=limits, clock=lambda: NOW)
            askers.append(await stack.enter_async_context(asker))
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(ask, askers[number % 2])
    assert (route.call_count, len(refused)) == (20, 10)


@pytest.mark.parametrize("remembered", ["", "garbage", "2026-01-10 many", "2026-01-10 -5"])
async def test_a_budget_that_cannot_be_read_begins_anew(vendor: respx.MockRouter, remembered: str) -> None:
    vendor.get(f"{BASE}/alerts").respond(json={})
    memory = Remembered({"http.daily_budget": remembered})
    async with client(memory=memory, limits=Limits(per_minute=1000, per_day=1), clock=lambda: NOW) as http:
        await http.request("GET", "/alerts")
        with pytest.raises(Unavailable):
            await http.request("GET", "/alerts")


# ---------------------------------------------------------------- OAuth 2

TOKEN_URL = "https://login.example.org/token"


def oauth(**options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(TOKEN_URL, "the-client", "the-client-secret", **options)


async def test_the_token_is_fetched_once_for_requests_side_by_side(vendor: respx.MockRouter) -> None:
    tokens = vendor.post(TOKEN_URL).respond(json={"access_token": "t1", "expires_in": 3600})
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    async with client(auth=oauth(scope="a b"), headers={}) as http, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(http.request, "GET", "/alerts")
    assert tokens.call_count == 1
    assert {call.request.headers["authorization"] for call in route.calls} == {"Bearer t1"}
    form = dict(httpx.QueryParams(tokens.calls.last.request.content.decode()))
    assert form == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "client_id": "the-client",
        "client_secret": "the-client-secret",
    }


async def test_the_secret_can_go_as_http_basic_and_the_token_in_a_header_of_choice(vendor: respx.MockRouter) -> None:
    tokens = vendor.post(TOKEN_URL).respond(json={"access_token": "t1", "expires_in": "3600"})
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    auth = oauth(basic=True, header="x-trellix-api-token", scheme="")
    async with client(auth=auth, headers={}) as http:
        await http.request("GET", "/alerts")
    assert tokens.calls.last.request.headers["authorization"].startswith("Basic ")
    assert b"the-client-secret" not in tokens.calls.last.request.content
    assert route.calls.last.request.headers["x-trellix-api-token"] == "t1"


async def test_a_token_is_renewed_before_it_ends(vendor: respx.MockRouter) -> None:
    tokens = vendor.post(TOKEN_URL).mock(
        side_effect=[httpx.Response(200, json={"access_token": f"t{n}", "expires_in": 600}) for n in (1, 2)]
    )
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    now = [NOW]
    async with client(auth=oauth(clock=lambda: now[0]), headers={}) as http:
        for minutes in (0, 8.9, 0.2):
            now[0] += timedelta(minutes=minutes)
            await http.request("GET", "/alerts")
    assert tokens.call_count == 2
    assert [call.request.headers["authorization"][-2:] for call in route.calls] == ["t1", "t1", "t2"]


async def test_a_token_that_ended_between_two_pages_is_renewed_once(vendor: respx.MockRouter) -> None:
    tokens = vendor.post(TOKEN_URL).mock(
        side_effect=[httpx.Response(200, json={"access_token": f"t{n}", "expires_in": 3600}) for n in (1, 2)]
    )
    vendor.get(f"{BASE}/alerts").mock(
        side_effect=lambda request: httpx.Response(
            200 if request.headers["authorization"] == "Bearer t2" else 401, json={}
        )
    )
    async with client(auth=oauth(), headers={}) as http:
        assert (await http.request("GET", "/alerts")).status == 200
    assert tokens.call_count == 2


async def test_a_new_token_that_is_refused_as_well_is_an_authentication_error(vendor: respx.MockRouter) -> None:
    tokens = vendor.post(TOKEN_URL).respond(json={"access_token": "t1", "expires_in": 3600})
    vendor.get(f"{BASE}/alerts").respond(401)
    async with client(auth=oauth(), headers={}) as http:
        with pytest.raises(AuthenticationError):
            await http.request("GET", "/alerts")
    assert tokens.call_count == 2


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (httpx.Response(401, json={"error": "invalid_client", "error_description": "the-client-secret is wrong"}), AuthenticationError, "invalid_client"),
        (httpx.Response(200, html="<html>login</html>"), AuthenticationError, "token URL"),
        (httpx.Response(200, json=["x"]), AuthenticationError, "token URL"),
        (httpx.Response(200, json={"access_token": "a\r\nb"}), AuthenticationError, "token URL"),
        (httpx.Response(200, json={"access_token": {"a": 1}}), AuthenticationError, "token URL"),
        (httpx.Response(302, headers={"location": "https://other.example.net/x"}), AuthenticationError, "other.example.net"),
        (httpx.Response(503, headers={"retry-after": "77"}), Unavailable, "login.example.org"),
        (httpx.ConnectError("no route"), Unavailable, "login.example.org"),
    ],
)  # fmt: skip
async def test_a_token_endpoint_that_fails_says_so_without_the_secret(
    vendor: respx.MockRouter, answer: Any, error: type[SourceError], said: str
) -> None:
    vendor.post(TOKEN_URL).mock(side_effect=[answer] * 4)
    async with client(auth=oauth(), headers={}) as http:
        with pytest.raises(error, match=said.replace(".", r"\.")) as caught:
            await http.request("GET", "/alerts")
    assert "the-client-secret" not in str(caught.value)
    assert not isinstance(caught.value, Unavailable) or caught.value.retry_after in {77, None}


async def test_the_auth_works_under_a_plain_httpx_client_too(vendor: respx.MockRouter) -> None:
    vendor.post(TOKEN_URL).respond(json={"access_token": "t1"})
    route = vendor.get(f"{BASE}/alerts").respond(json={})
    async with httpx.AsyncClient(auth=oauth()) as plain:
        await plain.get(f"{BASE}/alerts")
    assert route.calls.last.request.headers["authorization"] == "Bearer t1"


# ---------------------------------------------------------------- bytes on the wire


async def test_a_gzip_answer_of_several_members_is_read_whole() -> None:
    body = gzip.compress(b'{"a":') + gzip.compress(b"1}")
    async with server(whole(body, "Content-Encoding: gzip")) as url, client(url) as http:
        answer = await http.request("GET", "/")
    assert answer.body == b'{"a":1}'
    assert "content-encoding" not in answer.headers


async def test_a_bomb_is_refused_before_it_unfolds() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=9)
    async with server(whole(bomb, "Content-Encoding: gzip")) as url, client(url, max_body=1_000_000) as http:
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge, match="1,000,000 bytes"):
                await http.request("GET", "/")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10_000_000


async def test_a_bomb_from_the_token_endpoint_is_refused_too() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    async with server(whole(bomb, "Content-Encoding: gzip")) as url:
        auth = OAuth2ClientCredentials(f"{url}/token", "id", "secret")
        async with client(url, auth=auth, max_body=1_000_000) as http:
            with pytest.raises(TooLarge):
                await http.request("GET", "/")


async def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    async with server(whole(b"zzzz", "Content-Encoding: zstd")) as url, client(url) as http:
        with pytest.raises(BadResponse, match="zstd"):
            await http.request("GET", "/")


CUT = {
    "a body shorter than its Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "a cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{",
    "chunks without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a cut gzip stream": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 1000)[:-12],
    "a damaged gzip stream": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00garbage-garbage",
    "no answer at all": b"",
    "something that is not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
async def test_a_broken_answer_is_tried_again(answer: bytes) -> None:
    async with server(raw(answer), OK) as url, client(url) as http:
        assert (await http.request("GET", "/")).body == b'{"ok":true}'


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
async def test_an_answer_that_stays_broken_is_an_error_and_never_half_a_body(answer: bytes) -> None:
    async with server(raw(answer)) as url, client(url, retries=1) as http:
        with pytest.raises((BadResponse, Unavailable), match=r"cut short|damaged|not HTTP"):
            await http.request("GET", "/")


async def test_a_body_that_stalls_is_given_up() -> None:
    released = asyncio.Event()

    async def stall(write: Write) -> None:
        await write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await released.wait()

    async with server(stall) as url, client(url, timeout=0.1, retries=0) as http:
        with anyio.fail_after(5), pytest.raises(Unavailable, match="time-out"):
            await http.request("GET", "/")
        released.set()


async def test_a_body_that_trickles_in_is_given_up_although_every_read_is_in_time() -> None:
    async def trickle(write: Write) -> None:
        await write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await write(b"x")
            await asyncio.sleep(0.01)  # the fault itself: a byte now and then

    async with server(trickle) as url, client(url, timeout=0.2, retries=0) as http:
        with anyio.fail_after(5), pytest.raises(Unavailable, match="time-out"):
            await http.request("GET", "/")


async def test_a_connection_that_is_refused_names_the_host_and_a_remedy() -> None:
    async with server(OK) as url:
        pass  # closed again: nobody listens there now
    async with client(url, retries=0) as http:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1.*check the base URL"):
            await http.request("GET", "/")


class Wire(httpcore.AsyncNetworkBackend, httpcore.AsyncNetworkStream):
    """A connection that answers one request, and notes how much it is asked for at once."""

    def __init__(self, answer: bytes) -> None:
        self._rest = answer
        self.asked: list[int] = []

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        return self

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109, ARG002 (httpcore's)
        self.asked.append(max_bytes)
        part, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (httpcore's)
        pass

    async def aclose(self) -> None:
        pass

    def get_extra_info(self, info: str) -> None:
        pass


async def test_a_page_is_read_in_as_few_pieces_as_a_socket_gives() -> None:
    body = b"[" + b"1," * 2_000_000 + b"1]"
    wire = Wire(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(network_backend=wire)
    async with client("http://api.example.com", transport=transport) as http:
        assert (await http.request("GET", "/big")).body == body
    assert len(wire.asked) <= 1 + len(body) / (256 * 1024)


# ---------------------------------------------------------------- the log


async def test_debug_shows_requests_and_answers_but_no_secret_not_even_the_transports(
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = whole(json.dumps({"access_token": SECRET, "expires_in": 60}).encode(), f"Set-Cookie: session={SECRET}")
    answer = whole(b'{"ok":true}', f"Set-Cookie: session={SECRET}")
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "httpcore.http11", "httpcore.connection", "xdr_mcp.http"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with server(token) as login, server(answer) as url:
        auth = OAuth2ClientCredentials(login, "the-client", SECRET, basic=True)
        async with client(url, auth=auth) as http:
            await http.request("GET", "/alerts", params={"page[limit]": 5, "api_token": SECRET})
    assert "GET 127.0.0.1/alerts page[limit]=5 api_token=…" in caplog.text
    assert "200, 11 bytes" in caplog.text
    assert SECRET not in caplog.text
