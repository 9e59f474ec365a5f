from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from mcp import Client, MCPError
from serving import BOUND, ERAS, NOON, a_server, an_alert, report, save, subscribe, unsubscribe, watching

from xdr_mcp.alert import Change, Status
from xdr_mcp.errors import StoreError
from xdr_mcp.interfaces import SourceState, Store
from xdr_mcp.server import XdrServer, build_server
from xdr_mcp.server.notifications import PER_CONNECTION, WIDEST
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio
both_eras = pytest.mark.parametrize("era", ERAS)

RECENT = "xdr://alerts/recent"
STATUS = "xdr://status"
FAR_OFF = 3_600.0
AT_ONCE = 0.0


def search(query: str) -> str:
    return f"xdr://alerts/search?q={quote(query)}"


async def until_nobody_watches(server: XdrServer) -> None:
    with anyio.fail_after(BOUND):
        while len(server.notifier.watches):
            await anyio.lowlevel.checkpoint()


@both_eras
async def test_each_uri_is_told_of_what_it_shows_and_of_nothing_else(era: str, tmp_path: Path) -> None:
    first, second = an_alert(1), an_alert(2)
    encoded, plain = f"xdr://alerts/{quote(first.id, safe='')}", f"xdr://alerts/{second.id}"
    hit, miss = search("host:web-01*"), search("host:db*")
    async with (
        a_server(tmp_path, window=AT_ONCE) as (server, store),
        watching(server.mcp, era, [encoded, plain, hit, miss, RECENT]) as (_, updates),
    ):
        await save(store, first)
        assert {await updates.next() for _ in range(3)} == {RECENT, encoded, hit}
        await save(store, second)
        assert {await updates.next() for _ in range(2)} == {RECENT, plain}
        assert updates.waiting() == []


@both_eras
async def test_a_search_is_told_when_an_alert_leaves_it(era: str, tmp_path: Path) -> None:
    async with (
        a_server(tmp_path, an_alert(1)) as (server, store),
        watching(server.mcp, era, [search("status:new")]) as (_, updates),
    ):
        await save(store, an_alert(1, status=Status.RESOLVED, updated=NOON))
        assert await updates.next() == search("status:new")


@both_eras
async def test_everybody_is_told_once_under_the_name_they_used(era: str, tmp_path: Path) -> None:
    spaced, other = search("host:web* severity>=high"), search("host:web*  severity>=high").replace("%20", " ")
    async with (
        a_server(tmp_path, window=AT_ONCE) as (server, store),
        watching(server.mcp, era, [spaced, RECENT]) as (_, one),
        watching(server.mcp, era, [spaced, other]) as (_, two),
    ):
        await save(store, an_alert(1))
        assert {await one.next() for _ in range(2)} == {spaced, RECENT}
        assert {await two.next() for _ in range(2)} == {spaced, other}
        assert one.waiting() + two.waiting() == []


class _Observed:
    """A store that tells how often the sources' states were read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked = anyio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def states(self) -> tuple[SourceState, ...]:
        states = await self._store.states()
        self._looked.set()
        return states

    async def looked(self, times: int) -> None:
        """Return after so many more looks."""
        for _ in range(times):
            self._looked = anyio.Event()
            with anyio.fail_after(BOUND):
                await self._looked.wait()


@both_eras
async def test_status_is_told_when_a_source_changes_state_and_not_at_each_poll(era: str, tmp_path: Path) -> None:
    async with open_store(tmp_path / "xdr.db") as store:
        observed = _Observed(store)
        server = build_server(observed, version="0", cursor_key=b"k", window=AT_ONCE)  # type: ignore[arg-type]
        await report(store, "ok", last_success=NOON)
        async with server.running(), watching(server.mcp, era, [STATUS]) as (_, updates):
            await report(store, "ok", last_success=NOON, last_attempt=NOON)
            await observed.looked(2)
            assert updates.waiting() == []
            await report(store, "failing", last_error="timed out")
            assert await updates.next() == STATUS


@both_eras
async def test_a_storm_is_told_once_at_once_and_once_at_the_end_of_its_window(era: str, tmp_path: Path) -> None:
    last = an_alert(60)
    uri = f"xdr://alerts/{last.id}"
    async with (
        a_server(tmp_path, window=FAR_OFF) as (server, store),
        watching(server.mcp, era, [RECENT, search("host:web*"), uri]) as (_, updates),
    ):
        await save(store, an_alert(1))
        assert {await updates.next(), await updates.next()} == {RECENT, search("host:web*")}
        for number in range(2, 60):
            await save(store, an_alert(number))
        await save(store, last)
        assert await updates.next() == uri
        assert updates.waiting() == []


@both_eras
async def test_the_end_of_a_storm_is_not_missed(era: str, tmp_path: Path) -> None:
    async with (
        a_server(tmp_path, window=0.05) as (server, store),
        watching(server.mcp, era, [RECENT]) as (_, updates),
    ):
        for number in range(1, 4):
            await save(store, an_alert(number))
            assert await updates.next() == RECENT


@both_eras
async def test_while_a_storm_lasts_it_is_told_less_and_less_often_and_what_comes_after_it_at_once(
    era: str, tmp_path: Path
) -> None:
    async with (
        a_server(tmp_path, window=0.02) as (server, store),
        watching(server.mcp, era, [RECENT]) as (_, updates),
    ):
        (watch,) = server.notifier.watches
        widths = {watch.widened}
        number = 0
        with anyio.fail_after(BOUND):
            while watch.widened < WIDEST or not watch.waiting:
                number += 1
                await save(store, an_alert(number))
                widths.add(watch.widened)
            assert {1, WIDEST} <= widths <= {1, 2, 4, WIDEST}
            while any(watch.waiting for watch in server.notifier.watches):  # the last of the storm is told, too
                await updates.next()
        watch.told_at -= 60  # as though a minute had been quiet
        updates.waiting()
        await save(store, an_alert(9_999))
        assert await updates.next() == RECENT
        assert watch.widened == 1


@both_eras
async def test_who_leaves_is_forgotten(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _):
        async with watching(server.mcp, era, [RECENT, STATUS, search("host:web*")]):
            assert len(server.notifier.watches) == 3
        await until_nobody_watches(server)


async def test_unsubscribing_ends_it(tmp_path: Path) -> None:
    async with (
        a_server(tmp_path, window=AT_ONCE) as (server, store),
        watching(server.mcp, "legacy", [RECENT, search("host:web*")]) as (client, updates),
    ):
        await unsubscribe(client, RECENT)
        await unsubscribe(client, RECENT)
        await unsubscribe(client, "xdr://never/subscribed")
        await save(store, an_alert(1))
        assert await updates.next() == search("host:web*")
        assert updates.waiting() == []


async def _watch(client: Client, era: str, uris: Sequence[str]) -> None:
    if era == "legacy":
        for uri in uris:
            await subscribe(client, uri)
    else:
        async with client.listen(resource_subscriptions=list(uris)):
            pass


@both_eras
@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (search("hst:web*"), "no field 'hst'"),
        (search("severity>="), "severity"),
        ("xdr://nothing", "Unknown resource"),
        ("xdr://alerts/nosource", "Unknown resource"),
        ("file:///etc/passwd", "Unknown resource"),
    ],
)
async def test_what_cannot_be_watched_is_refused_with_the_reason(
    era: str, uri: str, reason: str, tmp_path: Path
) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        with pytest.raises(MCPError, match=reason) as refused:
            await _watch(client, era, [uri])
        assert refused.value.code == -32602
        assert len(server.notifier.watches) == 0


@both_eras
async def test_one_client_watches_only_so_much(era: str, tmp_path: Path) -> None:
    uris = [f"xdr://alerts/xdr/{number}" for number in range(PER_CONNECTION + 1)]
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        with pytest.raises(MCPError, match=f"{PER_CONNECTION} resources"):
            await _watch(client, era, uris)


@both_eras
async def test_both_eras_are_told_that_resources_can_be_watched(era: str, tmp_path: Path) -> None:
    async with a_server(tmp_path) as (server, _), Client(server.mcp, mode=era) as client:
        resources = client.server_capabilities.resources
    assert resources is not None
    assert resources.subscribe


async def test_streams_end_in_order_when_the_server_stops(tmp_path: Path) -> None:
    async with (
        a_server(tmp_path) as (server, _),
        Client(server.mcp) as client,
        client.listen(resource_subscriptions=[RECENT]) as stream,
    ):
        server.end_streams()
        with anyio.fail_after(BOUND):
            assert [event async for event in stream] == []


class _Stumbling:
    """A store whose journal cannot be read a few times."""

    def __init__(self, store: Store, failures: int) -> None:
        self._store = store
        self.failures = failures

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        if self.failures:
            self.failures -= 1
            raise StoreError("The disk hiccuped")
        return await self._store.changes(after, limit)


async def test_a_store_that_fails_for_a_while_costs_time_but_no_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(tmp_path / "xdr.db") as store:
        stumbling = _Stumbling(store, failures=2)
        server = build_server(stumbling, version="0", cursor_key=b"k")  # type: ignore[arg-type]
        async with server.running(), watching(server.mcp, "auto", [search("host:web*")]) as (client, updates):
            await save(store, an_alert(1))
            assert await updates.next() == search("host:web*")
            assert stumbling.failures == 0
            assert not (await client.call_tool("list_alerts", {})).is_error
    assert "Following the store failed (1 in a row)" in caplog.text


class _Slow:
    """A store that answers ``last_seq`` late, with what is true by then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked = anyio.Event()
        self.go_on = anyio.Event()
        self.go_on.set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def last_seq(self) -> int:
        self.asked.set()
        await self.go_on.wait()
        return await self._store.last_seq()


async def test_a_change_saved_just_after_the_first_subscription_is_not_stepped_over(tmp_path: Path) -> None:
    async with open_store(tmp_path / "xdr.db") as store:
        slow = _Slow(store)
        server = build_server(slow, version="0", cursor_key=b"k")  # type: ignore[arg-type]
        async with server.running():
            slow.asked, slow.go_on = anyio.Event(), anyio.Event()
            await save(store, an_alert(1))
            with anyio.fail_after(BOUND):
                await slow.asked.wait()
            async with watching(server.mcp, "auto", [search("host:web-02*")]) as (_, updates):
                await save(store, an_alert(2))
                slow.go_on.set()
                assert await updates.next() == search("host:web-02*")


async def test_a_task_beside_the_server_that_fails_is_started_again_and_hurts_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []
    again = anyio.Event()

    async def stumble() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise RuntimeError("fell over")
        again.set()

    async with a_server(tmp_path, background=[stumble]) as (server, store):
        with anyio.fail_after(BOUND):
            await again.wait()
        async with watching(server.mcp, "auto", [RECENT]) as (_, updates):
            await save(store, an_alert(1))
            assert await updates.next() == RECENT
    assert runs == [0, 1]
    assert "A task beside the server failed" in caplog.text


async def test_tasks_beside_the_server_run_once_however_many_clients_and_end_with_it(tmp_path: Path) -> None:
    started: list[str] = []

    async def beside() -> None:
        started.append("started")
        try:
            await anyio.sleep_forever()
        finally:
            started.append("ended")

    async with a_server(tmp_path, background=[beside]) as (server, _):
        async with Client(server.mcp), Client(server.mcp, mode="legacy") as client:
            await client.call_tool("list_alerts", {})
        assert started == ["started"]
    assert started == ["started", "ended"]


async def test_a_client_alone_brings_the_server_up_and_down(tmp_path: Path) -> None:
    async with open_store(tmp_path / "xdr.db") as store:
        server = build_server(store, version="0", cursor_key=b"k")
        async with watching(server.mcp, "legacy", [RECENT]) as (_, updates):
            await save(store, an_alert(1))
            assert await updates.next() == RECENT


async def test_a_change_saved_by_another_process_is_told_too(tmp_path: Path) -> None:
    async with (
        a_server(tmp_path) as (server, _),
        watching(server.mcp, "auto", [RECENT]) as (_, updates),
        open_store(tmp_path / "xdr.db") as elsewhere,
    ):
        await save(elsewhere, an_alert(1))
        assert await updates.next() == RECENT
