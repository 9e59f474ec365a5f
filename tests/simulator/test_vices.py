"""Which vices strike and when, and what they do to the data; what they do to the bytes is tested on a socket."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import httpx
import pytest

from xdr_mcp.simulator import DRIFTS, VICES, BadFaults, Estate, Faults, create_app
from xdr_mcp.simulator.faults import Place

ALL = {"page[limit]": "1000", "sort": "-updatedAt"}


def test_a_specification_sets_rate_duration_times_and_amount() -> None:
    faults = Faults.parse("429:0.1, late:0.05:2m, stall:x3:500ms, burst:200, outage:30s")
    vices = {vice.name: (vice.rate, vice.seconds, vice.amount, vice.times) for vice in faults.vices}
    assert vices == {
        "429": (0.1, 0, 0, None),
        "late": (0.05, 120, 0, None),
        "stall": (1, 0.5, 0, 3),
        "burst": (1, 0, 200, 1),
        "outage": (1, 30, 0, 1),
    }


def test_all_holds_every_vice_and_what_follows_overrides() -> None:
    names = {vice.name for vice in Faults.parse("all,outage:0,stall:0").vices}
    assert names == {name for name in VICES if not name.startswith("429-")} - {"outage", "stall"}


@pytest.mark.parametrize("text", ["", "none", "429,none", "429:0"])
def test_no_vices_can_be_asked_for(text: str) -> None:
    assert Faults.parse(text).vices == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("latte", "there is no vice 'latte'; did you mean 'late'?"),
        ("429:1.5", "in '429:1.5', '1.5' is neither a rate from 0 to 1"),
        ("outage:30sec", "'30sec' is neither"),
        ("late:-0.1", "'-0.1' is neither"),
        ("slow:nan", "'nan' is neither"),
        ("slow:", "'' is neither"),
    ],
)
def test_a_bad_specification_says_what_is_wrong_and_what_would_do(text: str, says: str) -> None:
    with pytest.raises(BadFaults) as caught:
        Faults.parse(text)
    assert says in str(caught.value)
    assert "429:0.1" in str(caught.value) or "known are" in str(caught.value)


def test_a_bad_specification_leaves_the_vices_as_they_are() -> None:
    faults = Faults.parse("429")
    with pytest.raises(BadFaults):
        faults.set("latte")
    assert [vice.name for vice in faults.vices] == ["429"]


def test_strikes_follow_from_the_seed_and_keep_to_the_rate() -> None:
    runs = []
    for seed in (1, 1, 2):
        faults = Faults.parse("401:0.2,5xx:0.1", seed=seed)
        runs.append([vice.name if (vice := faults.for_answer()) else None for _ in range(2000)])
    assert runs[0] == runs[1] != runs[2]
    counts = Counter(runs[0])
    assert 300 < counts["401"] < 500
    assert 100 < counts["5xx"] < 230


def test_a_vice_strikes_no_more_often_than_told_and_not_while_calm() -> None:
    faults = Faults.parse("401:x3")
    assert sum(faults.for_answer() is not None for _ in range(10)) == 3
    faults.set("401")
    faults.calm()
    assert faults.for_answer() is None
    faults.resume()
    assert faults.for_answer() is not None


async def page_of(app: Any, client_of: Any) -> list[dict[str, Any]]:
    async with client_of(app) as vendor:
        page: list[dict[str, Any]] = (await vendor.get("/alerts", params=ALL)).json()["data"]
        return page


def versions(page: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(one["id"], one["attributes"]["updatedAt"]) for one in page}


@pytest.mark.anyio
async def test_the_truth_is_the_hash_of_what_is_served(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), drift="all")
    served = {one["id"]: one for one in await page_of(app, client_of)}
    truth = app.state.simulator.truth()
    assert len(truth) == len(served) > 100
    for one in truth:
        canonical = json.dumps(served[one["id"]], sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        assert one["digest"] == blake2b(canonical, digest_size=16).hexdigest()
        assert one["updatedAt"] == served[one["id"]]["attributes"]["updatedAt"]


@pytest.mark.anyio
async def test_a_late_version_appears_with_an_updated_time_in_the_past(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("late:10m"))
    honest = create_app(Estate(3, clock, rate=4))
    clock.advance(hours=1)
    behind, expected = await page_of(app, client_of), await page_of(honest, client_of)
    assert versions(behind) != versions(expected)
    watched = versions(behind)
    for _ in range(10):
        clock.advance(minutes=1)
        now = clock().isoformat()
        appeared = versions(await page_of(app, client_of)) - watched
        watched |= appeared
        assert all(updated < now.replace("+00:00", "Z") for _, updated in appeared)
    assert versions(expected) <= watched | versions(await page_of(app, client_of))


@pytest.mark.anyio
async def test_calm_shows_what_was_late_and_the_truth_stands_still(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("late:1h,429"))
    honest = create_app(Estate(3, clock, rate=4))
    clock.advance(hours=1)
    assert app.state.simulator.status()["waiting"] > 0
    app.state.simulator.calm()
    assert app.state.simulator.status()["waiting"] == 0
    settled = versions(await page_of(app, client_of))
    assert settled == versions(await page_of(honest, client_of))
    clock.advance(hours=5)
    assert versions(await page_of(app, client_of)) == settled
    app.state.simulator.resume()
    clock.advance(hours=2)
    assert app.state.simulator.status()["alerts"] > len(settled)


@pytest.mark.anyio
async def test_equal_times_are_shared_by_alerts_that_follow_closely(clock: Any, client_of: Any) -> None:
    shared = []
    for vices in ("", "equal:10m"):
        app = create_app(Estate(3, clock, rate=4), Faults.parse(vices))
        began = clock.now
        clock.advance(hours=3)
        live = [one for one in await page_of(app, client_of) if one["attributes"]["updatedAt"] > f"{began:%FT%T}"]
        times = Counter(one["attributes"]["updatedAt"] for one in live)
        shared.append(max(times.values()))
        assert len({one["id"] for one in live}) == len(live)
        assert all(one["attributes"]["createdAt"] <= one["attributes"]["updatedAt"] for one in live)
        clock.now = began
    assert shared[0] == 1
    assert shared[1] > 3


@pytest.mark.anyio
async def test_an_alert_keeps_its_created_time_under_every_vice(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("equal:5m,late:0.3:20m"))
    created: dict[str, str] = {}
    for _ in range(40):
        clock.advance(minutes=10)
        for one in await page_of(app, client_of):
            assert created.setdefault(one["id"], one["attributes"]["createdAt"]) == one["attributes"]["createdAt"]


@pytest.mark.anyio
async def test_a_repeated_record_is_a_copy(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("repeat"))
    page = await page_of(app, client_of)
    truth = {one["id"] for one in app.state.simulator.truth()}
    assert {one["id"] for one in page} == truth
    assert len(page) == len(truth) + VICES["repeat"].amount
    assert len({json.dumps(one) for one in page}) == len(truth)


@pytest.mark.anyio
async def test_a_reordered_page_holds_the_same_records(clock: Any, client_of: Any) -> None:
    straight, shuffled = [
        await page_of(create_app(Estate(3, clock, rate=4), Faults.parse(vices)), client_of) for vices in ("", "reorder")
    ]
    assert straight != shuffled
    assert sorted(straight, key=lambda one: str(one["id"])) == sorted(shuffled, key=lambda one: str(one["id"]))


@pytest.mark.anyio
async def test_a_burst_comes_at_one_moment(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("burst:300"))
    before = len(app.state.simulator.truth())
    page = await page_of(app, client_of)
    assert len(page) == before + 300
    oldest = datetime.fromisoformat(page[299]["attributes"]["createdAt"])
    assert clock().astimezone(UTC) - oldest < timedelta(seconds=1)
    assert len(await page_of(app, client_of)) == before + 300


def reads_of_poison(body: bytes) -> dict[str, int]:
    """How often each sort of poison stands in a page, seen as bytes."""
    return {
        "lone-surrogate": body.count(rb"\ud800"),
        "not-a-number": body.count(b'"score":NaN'),
        "huge-integer": body.count(b"9" * 5000),
        "deep-nesting": body.count(b'{"a":' * 2000),
    }


@pytest.mark.anyio
async def test_poison_stands_between_good_records_and_is_told_beside_the_truth(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("poison:6"))
    async with client_of(app) as vendor:
        body = (await vendor.get("/alerts", params=ALL)).content
    truth = {one["id"] for one in app.state.simulator.truth()}
    assert set(reads_of_poison(body).values()) == {1}
    for one in truth:
        assert f'"id":"{one}"'.encode() in body
    poison = {one["id"] for one in app.state.simulator.poison()}
    assert poison.isdisjoint(truth)
    assert sum(f'"id":"{one}"'.encode() in body for one in poison) == 4
    records = body.count(b'"relationships":')
    assert records == len(truth) + 6, "four with ids of their own, one without an id, one with an id told twice"


@pytest.mark.anyio
async def test_a_duplicate_id_is_an_older_version(clock: Any, client_of: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("poison:12"))
    async with client_of(app) as vendor:
        body = (await vendor.get("/alerts", params={**ALL, "page[limit]": "20"})).text
    harmless = body.replace("9" * 5000, "9").replace('{"a":' * 2000 + "1" + "}" * 2000, "1")
    page = json.loads(harmless)["data"]
    truth = {one["id"]: one["updatedAt"] for one in app.state.simulator.truth()}
    copies = Counter(one["id"] for one in page if one.get("id") in truth)
    (twice, *_) = [alert_id for alert_id, times in copies.items() if times == 2]
    times = {one["attributes"]["updatedAt"] for one in page if one.get("id") == twice}
    assert len(times) == 2
    assert max(times) == truth[twice]


@pytest.mark.anyio
async def test_the_control_endpoint_tells_the_truth_through_every_vice(clock: Any) -> None:
    app = create_app(Estate(3, clock, rate=4), Faults.parse("5xx"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://vendor.test/_sim") as control:
        lines = (await control.get("/truth")).text.splitlines()
        assert [json.loads(line) for line in lines] == app.state.simulator.truth()
        assert len((await control.get("/poison")).text.splitlines()) == len(app.state.simulator.poison())
        before = (await control.get("/status")).json()
        after = (await control.post("/burst", json={"alerts": 40})).json()
        assert after["alerts"] == before["alerts"] + 40
        assert (await control.post("/burst", json={"alerts": 0})).status_code == 400
        assert (await control.post("/faults", json={"vices": "late,equal"})).json()["vices"] == ["late", "equal"]
        refused = await control.post("/faults", json={"vices": "latte"})
        assert (refused.status_code, "did you mean 'late'" in refused.text) == (400, True)
        assert (await control.post("/calm")).json()["calm"] is True
        assert (await control.post("/resume")).json()["calm"] is False


ANSWERS = [vice.name for vice in VICES.values() if vice.place is Place.ANSWER]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ANSWERS)
async def test_without_a_socket_every_vice_still_spoils_the_answer(name: str, clock: Any, client_of: Any) -> None:
    amount = ":2" if VICES[name].amount else ""
    app = create_app(Estate(3, clock, alerts=20), Faults.parse(f"{name}:10ms{amount}"))
    async with client_of(app) as vendor:
        honest = (await vendor.get("http://vendor.test/_sim/status")).status_code
        async with vendor.stream("GET", "/alerts") as answer:
            body = b"".join([piece async for piece in answer.aiter_raw()])
    assert honest == 200
    whole = answer.status_code == 200 and body.endswith(b"}") and body.startswith(b'{"data":[')
    assert whole == (name in {"slow", "trickle"})


def test_every_vice_and_every_drift_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert [name for name in (*VICES, *DRIFTS) if f"`{name}`" not in text] == []
