"""The XDR source against an API that moves, misreports and misbehaves: whatever it does, nothing inside a window is missed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import respx
import stamina
from moving_api import BEGIN, MovingApi, alert
from pydantic import SecretStr
from remembered import Remembered

from xdr_mcp.alert import EntityKind
from xdr_mcp.errors import AuthenticationError, BadResponse, RequestRejected, SettingsError, Unavailable, WindowTooLarge
from xdr_mcp.interfaces import Page, Source, Window
from xdr_mcp.sources.xdr import XdrOptions, XdrSource
from xdr_mcp.vendor_json import MOST_VALUES

pytestmark = pytest.mark.anyio

BASE = "https://api.xdr.example.com"
HOUR = Window(BEGIN, BEGIN + timedelta(hours=1))


@pytest.fixture(autouse=True)
def no_back_off() -> Iterator[None]:
    stamina.set_testing(True, attempts=2, cap=True)
    yield
    stamina.set_testing(False)


def options(**chosen: Any) -> XdrOptions:
    return XdrOptions(
        **{"base_url": BASE, "auth_token": SecretStr("a-token"), "requests_per_minute": 1_000_000, **chosen}
    )


@asynccontextmanager
async def opened(api: Any, memory: Remembered | None = None, **chosen: Any) -> AsyncIterator[Source]:
    with respx.mock(assert_all_called=False) as router:
        router.get(f"{BASE}/api/v1/alerts").mock(side_effect=api)
        async with XdrSource.open("xdr", options(**chosen), memory if memory is not None else Remembered()) as source:
            yield source


async def read(source: Source, window: Window = HOUR, *, live: bool = False) -> list[str]:
    return [record.alert.vendor_id async for page in source.pages(window, live=live) for record in page.records]


def spread(count: int, seed: int = 1) -> dict[str, Any]:
    """That many alerts, updated at random milliseconds of two hours around BEGIN, some at the same."""
    chance = random.Random(seed)  # noqa: S311 (dice)
    return {f"a{n}": BEGIN + timedelta(milliseconds=chance.randrange(-3_600_000, 3_600_000, 7)) for n in range(count)}


def inside(rows: dict[str, Any], window: Window = HOUR) -> set[str]:
    return {identifier for identifier, updated in rows.items() if window.start <= updated <= window.end}


# ---------------------------------------------------------------- completeness

STILL = {
    "all is as it should be": {},
    "no time filter": {"time_filter": "refused"},
    "a time filter that is ignored": {"time_filter": "ignored"},
    "a time filter that is misread": {"time_filter": "misread"},
    "a time filter that makes the server fail": {"time_filter": "fails"},
    "neither filter nor order": {"time_filter": "ignored", "sorts": False},
    "an unknown sort": {"time_filter": "refused", "knows_updated_at": False},
    "pages capped lower than asked": {"most_rows": 37},
    "capped pages and no total": {"most_rows": 37, "total": "absent"},
    "capped pages, and a total of the page": {"most_rows": 37, "total": "page"},
    "a total of everything": {"total": "everything"},
    "an absurd total": {"total": "huge"},
}  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 700])
@pytest.mark.parametrize("api", STILL.values(), ids=STILL.keys())
async def test_every_alert_of_the_window_is_read_whatever_the_api_can_do(api: dict[str, Any], count: int) -> None:
    rows = spread(count)
    vendor = MovingApi(dict(rows), **api)
    memory = Remembered()
    async with opened(vendor, memory) as source:
        for live in (False, True):
            assert inside(rows) <= set(await read(source, live=live))
    assert len(vendor.requests) < 80


MOVING = {
    "alerts are updated": {"moving": 0.3},
    "a burst arrives": {"arriving": 1.0, "moving": 1.0},
    "alerts vanish": {"leaving": 0.5},
    "all of it": {"moving": 0.2, "arriving": 0.3, "leaving": 0.1},
    "all of it, without a filter": {"moving": 0.2, "arriving": 0.3, "leaving": 0.1, "time_filter": "refused"},
    "all of it, capped and uncounted": {"moving": 0.1, "arriving": 0.1, "leaving": 0.1, "most_rows": 37, "total": "absent"},
    "pages come short": {"shortened": 0.4, "total": "absent"},
    "pages come short while alerts move": {"shortened": 0.3, "moving": 0.2, "arriving": 0.1},
    "pages come empty now and then": {"emptied": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("vices", MOVING.values(), ids=MOVING.keys())
async def test_an_alert_that_stays_as_it_is_is_never_stepped_over_while_others_move(
    vices: dict[str, Any], seed: int
) -> None:
    rows = spread(600, seed)
    vendor = MovingApi(dict(rows), chance=random.Random(seed), **vices)  # noqa: S311 (dice)
    async with opened(vendor) as source:
        await read(source)  # learns what the API can do, while it holds still
        vendor.still = False
        seen = set(await read(source, live=bool(seed % 2)))
    assert inside(rows) - vendor.touched <= seen


async def test_equal_times_at_both_edges_of_the_window_are_inside() -> None:
    rows = {"before": HOUR.start - timedelta(seconds=5), "after": HOUR.end + timedelta(seconds=5)}
    rows |= {f"start-{n}": HOUR.start for n in range(150)} | {f"end-{n}": HOUR.end for n in range(150)}
    async with opened(MovingApi(rows)) as source:
        seen = set(await read(source))
    assert seen >= inside(rows)
    assert "before" not in seen


async def test_a_live_window_has_no_upper_bound_so_that_what_moves_past_it_is_still_read() -> None:
    rows = spread(50) | {"just now": HOUR.end + timedelta(seconds=3)}
    vendor = MovingApi(rows)
    async with opened(vendor) as source:
        assert "just now" in await read(source, live=True)
        assert "just now" not in await read(source, live=False)


async def test_a_list_that_is_new_from_top_to_bottom_at_each_request_is_not_called_read() -> None:
    numbers = iter(range(10**6))

    def restless(_: httpx.Request) -> httpx.Response:
        data = [alert(f"n{next(numbers)}", HOUR.end - timedelta(milliseconds=n)) for n in range(100)]
        return httpx.Response(200, json={"data": data})

    async with opened(restless) as source:
        with pytest.raises((Unavailable, WindowTooLarge)):
            await read(source)


@pytest.mark.parametrize("count", [1, 60])
async def test_an_api_that_ignores_the_offset_is_read_whole_when_everything_fits_one_page(count: int) -> None:
    data = [alert(f"a{n}", HOUR.end - timedelta(seconds=n)) for n in range(count)]
    async with opened(lambda _: httpx.Response(200, json={"data": data})) as source:
        assert set(await read(source)) == {item["id"] for item in data}


async def test_an_api_that_ignores_the_offset_of_full_pages_is_an_error() -> None:
    data = [alert(f"a{n}", HOUR.end - timedelta(seconds=n)) for n in range(100)]
    async with opened(lambda _: httpx.Response(200, json={"data": data})) as source:
        with pytest.raises(Unavailable, match="no effect"):
            await read(source)


async def test_a_refused_deep_offset_asks_for_a_smaller_window() -> None:
    async with opened(MovingApi(spread(900), deepest=200)) as source:
        with pytest.raises(WindowTooLarge, match="offset"):
            await read(source)


@pytest.mark.parametrize(
    "large",
    [
        pytest.param(bytes(33 * 1024 * 1024), id="bytes"),
        pytest.param(b'{"data":[' + b"[]," * MOST_VALUES + b"{}]}", id="values"),
    ],
)
async def test_a_page_that_is_too_large_is_asked_for_in_smaller_pieces(large: bytes) -> None:
    vendor = MovingApi(spread(90))

    def wordy(request: httpx.Request) -> httpx.Response:
        answer = vendor(request)
        too_many = int(request.url.params["page[limit]"]) > 30
        return httpx.Response(200, content=large) if too_many else answer

    async with opened(wordy) as source:
        assert inside(vendor.rows) <= set(await read(source))
    assert [request["page[limit]"] for request in vendor.requests][:3] == ["100", "50", "25"]
    assert {request["page[limit]"] for request in vendor.requests[2:]} == {"25"}


async def test_a_page_size_of_one_is_read_whole_as_well() -> None:
    rows = spread(20)
    async with opened(MovingApi(dict(rows)), max_alerts_per_poll=1) as source:
        assert inside(rows) <= set(await read(source))


# ---------------------------------------------------------------- thrift


async def test_what_the_api_can_do_is_probed_once_and_remembered() -> None:
    vendor, memory = MovingApi(spread(30)), Remembered()
    async with opened(vendor, memory) as source:
        await read(source)
    first = len(vendor.requests)
    async with opened(vendor, memory) as source:
        await read(source)
        before = len(vendor.requests)
        await read(source, live=True)
    assert first - (before - first) >= 3  # the probe's three requests were not made again
    assert "filter[updatedAt]" in vendor.requests[-1]


async def test_a_probe_asks_for_few_rows_however_many_a_page_may_have() -> None:
    vendor = MovingApi(spread(1_500))
    async with opened(vendor, max_alerts_per_poll=1_000) as source:
        assert inside(vendor.rows) <= set(await read(source))
    probes, pages = vendor.requests[:3], vendor.requests[3:]
    assert [request["page[limit]"] for request in probes] == ["100"] * 3
    assert {request["page[limit]"] for request in pages} == {"1000"}


async def test_large_pages_share_few_rows_and_still_step_over_none_while_others_move() -> None:
    vendor = MovingApi(spread(6_000), chance=random.Random(1), moving=1.0, leaving=0.5)  # noqa: S311 (dice)
    async with opened(vendor, max_alerts_per_poll=1_000) as source:
        still = await read(source)
        assert len(still) < 1.03 * len(inside(vendor.rows))
        vendor.still = False
        rows = dict(vendor.rows)
        seen = set(await read(source))
    assert inside(rows) - vendor.touched <= seen


async def test_a_steady_poll_is_one_request_once_the_total_has_shown_itself_honest() -> None:
    vendor = MovingApi(spread(300))
    async with opened(vendor) as source:
        await read(source)
        before = len(vendor.requests)
        await read(source, Window(HOUR.end - timedelta(minutes=10), HOUR.end), live=True)
    assert len(vendor.requests) - before == 1


async def test_a_steady_poll_without_a_total_asks_twice_more_to_be_sure_of_the_end() -> None:
    vendor = MovingApi(spread(300), total="absent")
    async with opened(vendor) as source:
        await read(source)
        before = len(vendor.requests)
        await read(source, Window(HOUR.end - timedelta(minutes=10), HOUR.end), live=True)
    offsets = [int(request["page[offset]"]) for request in vendor.requests[before:]]
    assert offsets == [0, offsets[2] - 1, offsets[2]]


async def test_a_burst_of_equal_times_on_top_does_not_hide_what_the_api_can_do() -> None:
    rows = {f"a{n}": HOUR.start - timedelta(minutes=n) for n in range(3000)} | {f"b{n}": HOUR.end for n in range(300)}
    for time_filter, ability in (("works", '"time_filter":true'), ("refused", '"sorts":true')):
        vendor, memory = MovingApi(dict(rows), time_filter=time_filter), Remembered()  # type: ignore[arg-type]
        async with opened(vendor, memory) as source:
            assert inside(rows) <= set(await read(source))
        assert ability in memory["xdr.abilities"]
        assert len(vendor.requests) < 12


async def test_without_a_filter_reading_stops_at_the_first_older_alert() -> None:
    rows = {f"a{n}": HOUR.end - timedelta(minutes=n) for n in range(5000)}
    vendor = MovingApi(rows, time_filter="refused")
    async with opened(vendor) as source:
        await read(source)
        before = len(vendor.requests)
        assert inside(rows) <= set(await read(source))
    assert len(vendor.requests) - before == 1


async def test_a_filter_that_is_refused_one_day_is_done_without() -> None:
    rows = spread(300)
    vendor, memory = MovingApi(dict(rows)), Remembered()
    async with opened(vendor, memory) as source:
        await read(source)
        vendor.time_filter = "refused"
        assert inside(rows) <= set(await read(source))
        before = len(vendor.requests)
        await read(source)
    assert not any("filter[updatedAt]" in request for request in vendor.requests[before:])


# ---------------------------------------------------------------- records


async def pages_of(body: bytes, **chosen: Any) -> list[Page]:
    """The pages read where the vendor's only page is ``body``."""
    with respx.mock(assert_all_called=False) as router:
        router.get(f"{BASE}/api/v1/alerts").mock(
            side_effect=lambda request: httpx.Response(
                200, content=body if request.url.params.get("page[offset]", "0") == "0" else b'{"data":[]}'
            )
        )
        async with XdrSource.open("xdr", options(**chosen), Remembered()) as source:
            return [page async for page in source.pages(HOUR, live=True)]


async def test_a_record_is_kept_as_the_very_bytes_it_came_in() -> None:
    raw = b'{"id" : "a1",\n "type":"alert", "attributes":{"name":"caf\\u00e9","updatedAt":"2026-01-10T00:30:00.120Z", "x":1.10}}'
    (page, *_) = await pages_of(b'{"data":[' + raw + b"]}")
    (record,) = page.records
    assert record.raw == raw
    assert record.alert.id == "xdr/a1"
    assert record.alert.title == "café"


async def test_what_a_page_holds_beside_its_alerts_goes_to_those_that_refer_to_it() -> None:
    body = b"""{"data":[
        {"id":"a1","attributes":{"updatedAt":"2026-01-10T00:30:00Z"},"relationships":{"assets":{"data":[{"id":"s1","type":"asset"}]}}},
        {"id":"a2","attributes":{"updatedAt":"2026-01-10T00:31:00Z"}}],
        "included":[{"id":"s1","type":"asset","attributes":{"hostname":"web-01"}}]}"""
    (page, *_) = await pages_of(body)
    hosts = {record.alert.vendor_id: record.alert.values_of(EntityKind.HOST) for record in page.records}
    assert hosts == {"a1": ("web-01",), "a2": ()}


async def test_a_bad_record_is_set_aside_alone() -> None:
    good = b'{"id":"good","attributes":{"name":"n","updatedAt":"2026-01-10T00:30:00Z"}}'
    bad = {
        b'{"attributes":{"name":"n","updatedAt":"2026-01-10T00:30:00Z"}}': "no id",
        b'{"id":"timeless","attributes":{"name":"n"}}': "updatedAt",
        b'"a text"': "not an object",
        b'{"id":"s","attributes":{"name":"\\ud800","updatedAt":"2026-01-10T00:30:00Z"}}': "surrogate",
    }
    (page, *_) = await pages_of(b'{"data":[' + b",".join([*bad, good]) + b"]}")
    assert [record.alert.vendor_id for record in page.records] == ["good"]
    reasons = {quarantined.raw: quarantined.reason for quarantined in page.quarantined}
    assert reasons.keys() == bad.keys()
    assert all(expected in reasons[raw] for raw, expected in bad.items())


@pytest.mark.parametrize("body", [b'{"data":[{"id":"a', b"<html>login</html>", b"[]", b'{"items":[]}', b""])
async def test_an_answer_that_is_not_a_page_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        await pages_of(body)


# ---------------------------------------------------------------- credentials, development, check


@pytest.mark.parametrize(
    ("chosen", "headers"),
    [
        ({}, {"authorization": "Bearer a-token"}),
        ({"preset": "trellix"}, {"x-fireeye-api-key": "a-token"}),
        ({"auth_header": "X-Auth-Token", "auth_scheme": ""}, {"x-auth-token": "a-token"}),
        ({"auth_header": "X-Auth-Token", "auth_scheme": "none"}, {"x-auth-token": "a-token"}),
        ({"auth_header": "x-trellix-api-token"}, {"x-trellix-api-token": "Bearer a-token"}),
        ({"api_key": SecretStr("k")}, {"authorization": "Bearer a-token", "x-api-key": "k"}),
    ],
)
async def test_the_credential_goes_in_the_header_that_was_chosen(
    chosen: dict[str, Any], headers: dict[str, str]
) -> None:
    with respx.mock as router:
        route = router.get(f"{BASE}/api/v1/alerts").respond(json={"data": [], "meta": {"totalRecords": 1234}})
        async with XdrSource.open("xdr", options(**chosen), Remembered()) as source:
            assert "1,234 alerts" in await source.check()
    sent = route.calls.last.request.headers
    assert {name: sent.get(name) for name in headers} == headers


async def test_client_credentials_fetch_a_token_that_goes_in_the_chosen_header() -> None:
    chosen = {
        "auth_token": None,
        "token_url": "https://auth.example.com/token",
        "client_id": "me",
        "client_secret": SecretStr("hush"),
        "scope": "xdr.alr.r",
        "auth_header": "x-trellix-api-token",
    }
    with respx.mock as router:
        token = router.post("https://auth.example.com/token").respond(json={"access_token": "t1", "expires_in": 600})
        route = router.get(f"{BASE}/api/v1/alerts").respond(json={"data": []})
        async with XdrSource.open("xdr", options(**chosen), Remembered()) as source:
            await source.check()
    assert token.calls.last.request.headers["authorization"].startswith("Basic ")
    assert route.calls.last.request.headers["x-trellix-api-token"] == "Bearer t1"


@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        ({"base_url": ""}, "XDR_BASE_URL"),
        ({"auth_token": None}, "XDR_AUTH_TOKEN"),
        ({"auth_token": SecretStr("  ")}, "XDR_AUTH_TOKEN"),
        ({"token_url": "https://auth.example.com/token"}, "XDR_CLIENT_ID"),
    ],
)
async def test_a_missing_option_is_named_before_anything_is_sent(chosen: dict[str, Any], missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        async with XdrSource.open("xdr", options(**chosen), Remembered()):
            pass  # pragma: no cover


async def test_opening_makes_no_request() -> None:
    async with opened(MovingApi({})) as source:
        assert source.limits.page_size == 100
        assert not source.idle_reason


async def test_the_trellix_preset_keeps_to_that_platforms_daily_calls() -> None:
    assert options(preset="trellix").limits.per_day == 2000
    assert options(preset="trellix", requests_per_day=4000).limits.per_day == 4000
    assert options().limits.per_day is None


async def test_with_the_development_token_nothing_is_ever_sent_and_nothing_counts_as_read() -> None:
    with respx.mock(assert_all_called=False) as router:
        router.route().respond(500)
        async with XdrSource.open("xdr", XdrOptions(auth_token=SecretStr("dev-dummy-token")), Remembered()) as source:
            assert "development" in source.idle_reason
            assert "development" in await source.check()
            with pytest.raises(AuthenticationError, match="development"):
                await read(source)
        assert not router.calls


async def test_a_refused_credential_says_what_to_check() -> None:
    async with opened(lambda _: httpx.Response(401, json={"errors": [{"detail": "bad key"}]})) as source:
        with pytest.raises(AuthenticationError, match=r"bad key.*check the credential"):
            await source.check()


async def test_a_request_that_is_refused_without_any_filter_is_told() -> None:
    async with opened(lambda _: httpx.Response(422, json={"errors": ["page[limit] is too large"]})) as source:
        with pytest.raises(RequestRejected, match="too large"):
            await read(source)
