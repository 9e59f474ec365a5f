"""What every source owes (``interfaces.Source``), asked of each one in the same words."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
import stamina
from contract_vendors import BASE_URL, VENDORS, Vendor
from starlette.responses import HTMLResponse, JSONResponse, Response

from xdr_mcp.alert import Alert
from xdr_mcp.errors import AuthenticationError, BadResponse, SourceError, Unavailable
from xdr_mcp.interfaces import Page, Source, Window
from xdr_mcp.sources import source_types

pytestmark = pytest.mark.anyio

START = datetime(2026, 5, 1, tzinfo=UTC)
MAY = Window(START, START + timedelta(days=30))
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=list(VENDORS.values()), ids=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> Vendor:
    made = request.param()
    assert isinstance(made, Vendor)
    return made


@pytest.fixture
async def source(vendor: Vendor) -> AsyncIterator[Source]:
    async with vendor.source() as opened:
        yield opened


ATTEMPTS = 4


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts() -> Iterator[None]:
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        yield


async def pages_of(source: Source, window: Window = MAY, *, live: bool = False) -> list[Page]:
    async with aclosing(source.pages(window, live=live)) as pages:
        return [page async for page in pages]


def alerts_of(pages: list[Page]) -> list[Alert]:
    return [record.alert for page in pages for record in page.records]


def ids(pages: list[Page]) -> set[str]:
    return {alert.vendor_id for alert in alerts_of(pages)}


def put_many(vendor: Vendor, count: int) -> dict[str, bytes]:
    return {f"alert-{number}": vendor.put(f"alert-{number}", START + number * MINUTE) for number in range(count)}


def test_every_registered_source_type_is_under_this_contract() -> None:
    assert set(VENDORS) == set(source_types())


# ---------------------------------------------------------------- completeness


async def test_a_window_of_several_pages_is_read_whole(vendor: Vendor, source: Source) -> None:
    expected = put_many(vendor, 2 * vendor.page_size + 1)

    pages = await pages_of(source)

    assert ids(pages) == set(expected)
    assert len([page for page in pages if page.records]) > 1


async def test_an_empty_window_ends_without_an_alert_and_without_an_error(source: Source) -> None:
    assert alerts_of(await pages_of(source)) == []


async def test_both_ends_of_a_window_belong_to_it(vendor: Vendor, source: Source) -> None:
    first, last = START + MINUTE, START + 2 * MINUTE
    vendor.put("at the start", first)
    vendor.put("at the end", last)
    vendor.put("before", START - timedelta(days=2))

    assert {"at the start", "at the end"} <= ids(await pages_of(source, Window(first, last)))


async def test_more_equal_times_than_a_page_holds_are_all_read(vendor: Vendor, source: Source) -> None:
    moment = START + timedelta(milliseconds=123)
    tied = {f"tied-{number}" for number in range(2 * vendor.page_size + 2)}
    for vendor_id in tied:
        vendor.put(vendor_id, moment)
    vendor.put("earlier", START - MINUTE)

    assert tied <= ids(await pages_of(source, Window(moment, moment)))


async def test_a_live_window_yields_what_is_newer_than_its_end(vendor: Vendor, source: Source) -> None:
    vendor.put("newer", MAY.end + MINUTE)

    assert "newer" in ids(await pages_of(source, live=True))


async def test_a_known_alert_that_changed_is_read_again_as_it_is_now(vendor: Vendor, source: Source) -> None:
    put_many(vendor, 4)
    before = await pages_of(source)
    changed_at = START + timedelta(days=3)
    vendor.put("alert-1", changed_at, title="renamed")

    after = await pages_of(source, Window(START + timedelta(days=1), MAY.end))

    (old,) = {alert.updated for alert in alerts_of(before) if alert.vendor_id == "alert-1"}
    (new,) = {alert for alert in alerts_of(after) if alert.vendor_id == "alert-1"}
    assert (new.title, new.updated) == ("renamed", changed_at)
    assert old < new.updated
    assert new.id == "acme/alert-1"


@pytest.mark.parametrize("live", [True, False])
async def test_an_alert_that_changes_while_its_window_is_read_hides_no_other(
    vendor: Vendor,
    source: Source,
    live: bool,  # noqa: FBT001
) -> None:
    expected = put_many(vendor, 5 * vendor.page_size)
    read: list[Page] = []
    changed: list[str] = []

    def change_one_that_was_read() -> None:
        if len(changed) < 3:
            changed.append(next(vendor_id for vendor_id in sorted(ids(read)) if vendor_id not in changed))
            vendor.put(changed[-1], MAY.end + MINUTE)

    async with aclosing(source.pages(MAY, live=live)) as pages:
        async for page in pages:
            vendor.before_page = change_one_that_was_read
            read.append(page)

    assert set(expected) <= ids(read)
    assert len(changed) == 3


@pytest.mark.parametrize("live", [True, False])
async def test_an_alert_that_is_deleted_while_its_window_is_read_hides_no_other(
    vendor: Vendor,
    source: Source,
    live: bool,  # noqa: FBT001
) -> None:
    expected = put_many(vendor, 5 * vendor.page_size)
    read: list[Page] = []
    deleted: set[str] = set()

    def delete_some_that_were_read() -> None:
        for vendor_id in sorted(ids(read) - deleted)[:2] if len(deleted) < 6 else ():
            vendor.delete(vendor_id)
            deleted.add(vendor_id)

    async with aclosing(source.pages(MAY, live=live)) as pages:
        async for page in pages:
            vendor.before_page = delete_some_that_were_read
            read.append(page)

    assert set(expected) <= ids(read)
    assert len(deleted) == 6


async def test_a_time_in_the_future_is_told_as_it_is(vendor: Vendor, source: Source) -> None:
    future = datetime(2099, 1, 1, tzinfo=UTC)
    vendor.put("from the future", future)
    vendor.put("from now", START)

    alerts = {alert.vendor_id: alert for alert in alerts_of(await pages_of(source, live=True))}

    assert alerts["from the future"].updated == future
    assert "from now" in alerts


async def test_reading_that_was_given_up_half_way_can_begin_again(vendor: Vendor, source: Source) -> None:
    expected = put_many(vendor, 2 * vendor.page_size + 1)
    async with aclosing(source.pages(MAY, live=False)) as pages:
        await anext(pages)

    assert ids(await pages_of(source)) == set(expected)


# ---------------------------------------------------------------- records


async def test_a_record_is_kept_as_the_bytes_it_came_in(vendor: Vendor, source: Source) -> None:
    expected = put_many(vendor, vendor.page_size)

    pages = await pages_of(source)

    assert {record.alert.vendor_id: record.raw for page in pages for record in page.records} == expected


async def test_an_alert_can_be_written_and_read_back(vendor: Vendor, source: Source) -> None:
    put_many(vendor, 1)

    (alert,) = set(alerts_of(await pages_of(source)))

    assert msgspec.json.decode(msgspec.json.encode(alert), type=Alert) == alert
    assert alert.source == source.name == "acme"


@pytest.mark.parametrize(
    "poison",
    [rb'"\ud800"', b"NaN", b"9" * 5000, b"[" * 2000 + b"]" * 2000, b'"\xff"'],
    ids=["a lone surrogate", "NaN", "5,000 digits", "2,000 levels", "not UTF-8"],
)
async def test_a_poison_record_is_quarantined_alone(vendor: Vendor, source: Source, poison: bytes) -> None:
    expected = put_many(vendor, 2 * vendor.page_size)
    record = vendor.with_poison(poison)
    vendor.put_bytes(record, START + 2 * MINUTE)

    pages = await pages_of(source)

    assert ids(pages) == set(expected)
    assert {bad.raw for page in pages for bad in page.quarantined} == {record}
    assert all(bad.reason for page in pages for bad in page.quarantined)


async def test_a_record_without_an_id_is_quarantined_alone(vendor: Vendor, source: Source) -> None:
    expected = put_many(vendor, 2)
    vendor.put_bytes(b'{"title":"nobody","attributes":{"name":"nobody"}}', START + MINUTE)

    pages = await pages_of(source)

    assert ids(pages) == set(expected)
    assert {bad.raw for page in pages for bad in page.quarantined} == {
        b'{"title":"nobody","attributes":{"name":"nobody"}}'
    }


# ---------------------------------------------------------------- a vendor in trouble


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_passing_failure_is_sat_out(vendor: Vendor, source: Source, status: int) -> None:
    expected = put_many(vendor, 2)
    vendor.canned.extend(JSONResponse({}, status_code=status) for _ in range(2))

    assert ids(await pages_of(source)) == set(expected)
    assert not vendor.canned


RETRY_AFTER_NOW = {
    "seconds": {"Retry-After": "2"},
    "zero": {"Retry-After": "0"},
    "negative": {"Retry-After": "-5"},
    "garbage": {"Retry-After": "soon"},
    "a date in the past": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
    "epoch seconds in the past": {"X-RateLimit-RetryAfter": "1445412480"},
}


@pytest.mark.parametrize("headers", RETRY_AFTER_NOW.values(), ids=RETRY_AFTER_NOW)
async def test_a_short_wish_to_wait_is_kept_in_every_form(
    vendor: Vendor, source: Source, headers: dict[str, str]
) -> None:
    expected = put_many(vendor, 2)
    vendor.canned.append(JSONResponse({}, status_code=429, headers=headers))

    assert ids(await pages_of(source)) == set(expected)


def in_ten_minutes(form: str) -> dict[str, str]:
    then = datetime.now(UTC) + timedelta(minutes=10)
    forms = {
        "seconds": {"Retry-After": "600"},
        "date": {"Retry-After": format_datetime(then, usegmt=True)},
        "epoch": {"X-RateLimit-RetryAfter": str(int(then.timestamp()))},
    }
    return forms[form]


@pytest.mark.parametrize("form", ["seconds", "date", "epoch"])
async def test_a_long_wish_to_wait_is_passed_on(vendor: Vendor, source: Source, form: str) -> None:
    vendor.canned.append(JSONResponse({}, status_code=429, headers=in_ten_minutes(form)))

    with pytest.raises(Unavailable) as told:
        await pages_of(source)

    assert told.value.retry_after is not None
    assert 500 < told.value.retry_after <= 600


async def test_a_huge_wish_to_wait_is_bounded(vendor: Vendor, source: Source) -> None:
    vendor.canned.append(JSONResponse({}, status_code=429, headers={"Retry-After": "99999999"}))

    with pytest.raises(Unavailable) as told:
        await pages_of(source)

    assert told.value.retry_after == 3600


async def test_a_token_that_expires_between_two_pages_is_renewed(vendor: Vendor, source: Source) -> None:
    expected = put_many(vendor, 2 * vendor.page_size + 1)
    read: list[Page] = []
    async with aclosing(source.pages(MAY, live=False)) as pages:
        async for page in pages:
            if not read:
                vendor.expire_tokens()
            read.append(page)

    assert ids(read) == set(expected)
    assert vendor.tokens_issued == 2


async def test_a_credential_that_stays_refused_is_told_as_such(
    vendor: Vendor, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    vendor.canned.extend(JSONResponse({"error": "no"}, status_code=401) for _ in range(5))

    with pytest.raises(AuthenticationError) as told:
        await source.check()

    assert vendor.secret not in str(told.value) + caplog.text
    assert "token-1" not in str(told.value) + caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        Response(b'{"value":[{"id":"1","title":"cu', media_type="application/json"),
        Response(b'{"value":[],"data":[', media_type="application/json"),
        HTMLResponse("<html><title>Sign in to your account</title></html>"),
        Response(b"", media_type="application/json"),
        JSONResponse([1, 2]),
        JSONResponse({"message": "an error in a 200"}),
    ],
    ids=["cut within a record", "cut between records", "HTML", "nothing", "another shape", "an error in a 200"],
)
async def test_an_answer_that_is_no_page_is_never_taken_for_an_empty_one(
    vendor: Vendor, source: Source, answer: Response
) -> None:
    put_many(vendor, 2)
    vendor.canned.extend([answer] * ATTEMPTS)

    with pytest.raises(BadResponse):
        await pages_of(source)


async def test_an_answer_that_is_no_page_is_asked_for_again_so_that_a_long_walk_need_not_begin_anew(
    vendor: Vendor, source: Source
) -> None:
    expected = put_many(vendor, vendor.page_size + 1)
    vendor.canned.append(HTMLResponse("<html><title>Sign in to your account</title></html>"))

    assert ids(await pages_of(source)) == set(expected)


async def test_no_credential_follows_a_lead_to_another_host(vendor: Vendor, source: Source) -> None:
    put_many(vendor, vendor.page_size + 1)
    vendor.lead_elsewhere()

    with pytest.raises(BadResponse, match=r"not asked|not followed"):
        await pages_of(source)

    assert vendor.requests_elsewhere == []


async def test_after_any_failure_the_source_works_again(vendor: Vendor, source: Source) -> None:
    expected = put_many(vendor, vendor.page_size + 1)
    for answer in (JSONResponse({}, status_code=400), HTMLResponse("<p>"), JSONResponse({}, status_code=403)):
        vendor.canned.extend([answer] * ATTEMPTS)
        with pytest.raises(SourceError):
            await pages_of(source)
        vendor.canned.clear()

    assert ids(await pages_of(source)) == set(expected)


# ---------------------------------------------------------------- manners


async def test_opening_makes_no_request(vendor: Vendor) -> None:
    async with vendor.source() as source:
        assert vendor.tokens_issued == 0
        assert source.idle_reason == ""
        assert source.limits.page_size == vendor.page_size


async def test_checking_says_in_one_line_what_was_reached(vendor: Vendor, source: Source) -> None:
    put_many(vendor, 1)

    line = await source.check()

    assert line
    assert "\n" not in line
    assert vendor.secret not in line


async def test_the_vendors_clock_is_told_by_its_answers(vendor: Vendor, source: Source) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=2)
    page: dict[str, list[object]] = {"value": [], "data": []}
    vendor.canned.append(JSONResponse(page, headers={"Date": format_datetime(ahead, usegmt=True)}))

    await source.check()

    assert abs(source.vendor_now() - ahead) < timedelta(seconds=30)


def test_settings_are_a_model_that_hides_its_secrets(vendor: Vendor) -> None:
    options = source_types()[vendor.type].Options(**vendor.options())

    assert vendor.secret not in repr(options) + str(options.model_dump())
    assert BASE_URL in repr(options)
