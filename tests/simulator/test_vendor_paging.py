"""Filters, order and pages, standing still and while the alerts move."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from xdr_mcp.simulator import Estate, Faults, create_app

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(clock: Any) -> Any:
    return create_app(Estate(3, clock, rate=4))


async def read_all(vendor: httpx.AsyncClient, params: dict[str, str], limit: int = 50) -> list[dict[str, Any]]:
    """Every record of a listing, page by page, until a page is empty."""
    found: list[dict[str, Any]] = []
    offset = 0
    while True:
        answer = await vendor.get("/alerts", params={**params, "page[limit]": limit, "page[offset]": offset})
        page = answer.json()["data"]
        if not page:
            return found
        found += page
        offset += limit


def truth_of(app: Any, **bounds: str) -> list[dict[str, Any]]:
    low, high = bounds.get("low", ""), bounds.get("high", "~")
    return [one for one in app.state.simulator.truth() if low <= one["updatedAt"] <= high]


@pytest.mark.parametrize("sort", ["updatedAt", "-updatedAt", "createdAt", "-createdAt", "-score", "name,-createdAt"])
async def test_pages_hold_everything_once_in_order(app: Any, client_of: Any, sort: str) -> None:
    async with client_of(app) as vendor:
        records = await read_all(vendor, {"sort": sort})
    assert sorted(one["id"] for one in records) == sorted(one["id"] for one in truth_of(app))
    field = sort.partition(",")[0].removeprefix("-")
    values = [str(one["attributes"][field]).casefold().rjust(3) for one in records]
    assert values == sorted(values, reverse=sort.startswith("-"))


async def test_a_link_leads_to_the_next_page_and_none_from_the_last(app: Any, client_of: Any) -> None:
    seen: list[str] = []
    async with client_of(app) as vendor:
        url: str | None = "/alerts?page[limit]=60&sort=createdAt"
        while url:
            page = (await vendor.get(url)).json()
            seen += [one["id"] for one in page["data"]]
            url = page["links"].get("next")
    assert len(seen) == len(set(seen)) == len(truth_of(app))


async def test_a_page_is_cut_to_the_vendors_maximum(client_of: Any, clock: Any) -> None:
    async with client_of(create_app(Estate(3, clock, rate=4), largest_page=25)) as vendor:
        page = (await vendor.get("/alerts", params={"page[limit]": 5000})).json()
    assert len(page["data"]) == 25


async def test_an_offset_beyond_the_cap_is_refused(client_of: Any, clock: Any) -> None:
    async with client_of(create_app(Estate(3, clock, rate=4), offset_cap=100)) as vendor:
        inside = await vendor.get("/alerts", params={"page[limit]": 50, "page[offset]": 50})
        outside = await vendor.get("/alerts", params={"page[limit]": 50, "page[offset]": 51})
    assert (inside.status_code, outside.status_code) == (200, 400)


@pytest.mark.parametrize("sort", ["updatedAt", "-updatedAt", "createdAt"])
async def test_time_bounds_are_inclusive_or_not_as_written(app: Any, client_of: Any, sort: str) -> None:
    times = sorted(one["updatedAt"] for one in truth_of(app))
    low, high = times[40], times[90]
    counts = {
        ("gte", "lte"): sum(low <= time <= high for time in times),
        ("gt", "lt"): sum(low < time < high for time in times),
    }
    async with client_of(app) as vendor:
        for (above, below), expected in counts.items():
            bounds = json.dumps({above: low, below: high})
            records = await read_all(vendor, {"sort": sort, "filter[updatedAt]": bounds})
            assert len(records) == expected
            assert all(low <= one["attributes"]["updatedAt"] <= high for one in records)


async def test_bounds_finer_than_a_millisecond_are_kept(app: Any, client_of: Any) -> None:
    time = datetime.fromisoformat(sorted(one["updatedAt"] for one in truth_of(app))[40])
    async with client_of(app) as vendor:
        counts = []
        for microseconds in (-1, 0, 1):
            bound = (time + timedelta(microseconds=microseconds)).isoformat()
            answer = await vendor.get(
                "/alerts", params={"filter[updatedAt]": json.dumps({"gte": bound}), "sort": "updatedAt"}
            )
            counts.append(answer.json()["meta"]["totalRecords"])
    assert counts[0] == counts[1] > counts[2]


@pytest.mark.parametrize(("rejection"), [400, 422])
async def test_a_vendor_may_refuse_a_time_filter(client_of: Any, clock: Any, rejection: int) -> None:
    async with client_of(create_app(Estate(3, clock, rate=4), time_filter="rejected", rejection=rejection)) as vendor:
        timed = await vendor.get("/alerts", params={"filter[updatedAt]": '{"gte":"2026-07-28T00:00:00Z"}'})
        other = await vendor.get("/alerts", params={"filter[severity]": '{"gte":4}'})
    assert (timed.status_code, other.status_code) == (rejection, 200)


async def test_a_vendor_may_overlook_a_time_filter(client_of: Any, clock: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), time_filter="ignored")
    async with client_of(app) as vendor:
        answer = await vendor.get("/alerts", params={"filter[updatedAt]": '{"gte":"2026-07-28T19:59:00Z"}'})
    assert answer.json()["meta"]["totalRecords"] == len(truth_of(app))


@pytest.mark.parametrize(
    ("filters", "meets"),
    [
        ({"filter[status]": "NEW,IN_PROGRESS"}, lambda one: one["status"] in {"NEW", "IN_PROGRESS"}),
        ({"filter[severity]": '{"eq":"High"}'}, lambda one: one["severity"] == 4),
        ({"filter[severity]": '{"gte":3,"lt":5}'}, lambda one: 3 <= one["severity"] < 5),
        ({"filter[technique]": "T1486,T1490"}, lambda one: {"T1486", "T1490"} & {a["techniqueId"] for a in one["attacks"]}),
        ({"filter[tactic]": "TA0040"}, lambda one: any(a["tactic"].startswith("TA0040") for a in one["attacks"])),
        ({"filter[isSuppressed]": "true"}, lambda one: one["isSuppressed"]),
        ({"filter[score]": '{"gt":90}', "filter[status]": "ACK_COMPLETE"}, lambda one: one["score"] > 90 and one["status"] == "ACK_COMPLETE"),
        ({"filter[type]": "alert"}, lambda _: True),
        ({"filter[ruleId]": "none"}, lambda _: False),
    ],
)  # fmt: skip
async def test_filters_narrow(app: Any, client_of: Any, filters: dict[str, str], meets: Any) -> None:
    async with client_of(app) as vendor:
        everything = await read_all(vendor, {})
        records = await read_all(vendor, filters)
    expected = {one["id"] for one in everything if meets(one["attributes"])}
    assert {one["id"] for one in records} == expected
    assert len(records) == len(expected)


@pytest.mark.parametrize(("sort", "steps_over"), [("-updatedAt", False), ("updatedAt", True)])
async def test_records_that_change_while_being_paged_shift_the_pages(
    client_of: Any, clock: Any, *, sort: str, steps_over: bool
) -> None:
    """Newest first, only what changed can be missed; oldest first, a change behind the reader hides a record ahead of it."""
    app = create_app(Estate(3, clock), Faults.parse("shift:20"))
    before = {(one["id"], one["updatedAt"]) for one in truth_of(app)}
    async with client_of(app) as vendor:
        clock.advance(seconds=1)
        ids = [one["id"] for one in await read_all(vendor, {"sort": sort}, 20)]
    unchanged = {one["id"] for one in truth_of(app) if (one["id"], one["updatedAt"]) in before}
    assert len(ids) > len(set(ids)), "a record that moved is told twice"
    assert 0 < len(unchanged) < len(before)
    assert bool(unchanged - set(ids)) == steps_over


async def test_a_shifting_window_is_read_whole_by_reading_until_nothing_is_new(client_of: Any, clock: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("shift:0.5"))
    known: dict[tuple[str, str], dict[str, Any]] = {}
    async with client_of(app) as vendor:
        for _ in range(3):
            clock.advance(seconds=1)
            for one in await read_all(vendor, {"sort": "-updatedAt"}, 20):
                known[one["id"], one["attributes"]["updatedAt"]] = one
        app.state.simulator.calm()
        for one in await read_all(vendor, {"sort": "-updatedAt"}, 100):
            known[one["id"], one["attributes"]["updatedAt"]] = one
    assert {(one["id"], one["updatedAt"]) for one in truth_of(app)} <= set(known)


async def test_new_alerts_appear_as_time_goes_on(app: Any, client_of: Any, clock: Any) -> None:
    began = clock().astimezone(UTC).isoformat()
    since = {"filter[createdAt]": json.dumps({"gt": began}), "sort": "createdAt"}
    async with client_of(app) as vendor:
        before = (await vendor.get("/alerts", params=since)).json()["meta"]["totalRecords"]
        clock.advance(hours=3)
        after = (await vendor.get("/alerts", params=since)).json()["meta"]["totalRecords"]
    assert before == 0
    assert after > 5
