from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import apsw
import pytest
from faulty_disk import FailOnce, a_faulty_disk
from model_vendor import START, record

from xdr_mcp.alert import KeptChange
from xdr_mcp.delivery import BATCH, MOST_UNFORESEEN, Delivery
from xdr_mcp.errors import ChangeRefused, LeaseLost, SinkError, StoreError
from xdr_mcp.interfaces import Page, Store
from xdr_mcp.lease import TTL
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio


class Receiver:
    """A destination that remembers what it took, refuses what it is told to, and fails when it is told to."""

    name = "receiver"

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refused: set[str] = set()
        self.failures = 0
        self.defect: set[str] = set()
        self.fail_once_at = ""
        self.arrived = anyio.Event()
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    async def send(self, changes: Sequence[KeptChange]) -> None:
        if self.failures:
            self.failures -= 1
            raise SinkError("the receiver is down")
        ids = {change.alert.vendor_id for change in changes}
        if ids & self.defect:
            raise ZeroDivisionError("a defect")
        if ids == {self.fail_once_at}:
            self.fail_once_at = ""
            raise SinkError("down at this one")
        if ids & self.refused:
            raise ChangeRefused("not this one")
        self.taken += [change.alert.vendor_id for change in changes]
        self.arrived.set()


@asynccontextmanager
async def filled_store(folder: Path, *vendor_ids: str) -> AsyncIterator[Store]:
    async with open_store(folder / "store.db") as store:
        await put(store, *vendor_ids)
        yield store


async def put(store: Store, *vendor_ids: str) -> None:
    lease = await store.acquire("poll:model", "test:1:a", TTL)
    assert lease is not None
    await store.save("model", Page(tuple(record(vendor_id, START) for vendor_id in vendor_ids), START), lease)


async def test_changes_arrive_once_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver()
    async with filled_store(tmp_path, "a", "b", "c") as store:
        assert await Delivery(receiver, store, holder="test:1:a").drain() == 3
        assert await Delivery(receiver, store, holder="test:1:a").drain() == 0
        await put(store, "d")
        assert await Delivery(receiver, store, holder="test:1:a").drain() == 1
    assert receiver.taken == ["a", "b", "c", "d"]


async def test_a_sink_that_fails_is_offered_the_same_changes_again(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.failures = 1
    async with filled_store(tmp_path, "a") as store:
        delivery = Delivery(receiver, store, holder="test:1:a")
        with pytest.raises(SinkError, match="the receiver is down"):
            await delivery.drain()
        assert await store.position("receiver") == 0
        assert await delivery.drain() == 1
    assert receiver.taken == ["a"]


async def test_a_change_that_is_refused_for_good_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.refused = {"b"}
    async with filled_store(tmp_path, "a", "b", "c") as store:
        await Delivery(receiver, store, holder="test:1:a").drain()
        (letter,) = await store.dead_letters()
        assert (letter.sink, letter.seq, letter.reason) == ("receiver", 2, "not this one")
        assert await store.position("receiver") == 3
    assert receiver.taken == ["a", "c"]


async def test_a_change_that_a_sink_stumbles_over_each_time_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.defect = {"b"}
    async with filled_store(tmp_path, "a", "b", "c") as store:
        delivery = Delivery(receiver, store, holder="test:1:a")
        for _ in range(MOST_UNFORESEEN - 1):
            with pytest.raises(ZeroDivisionError):
                await delivery.drain()
        assert await delivery.drain() == 3
        (letter,) = await store.dead_letters()
        assert (letter.seq, letter.reason) == (2, "ZeroDivisionError: a defect")
    assert receiver.taken == ["a", "c"]


async def test_a_sink_that_is_down_while_changes_are_offered_one_by_one_loses_none(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.refused = {"b"}
    receiver.fail_once_at = "c"
    async with filled_store(tmp_path, "a", "b", "c") as store:
        delivery = Delivery(receiver, store, holder="test:1:a")
        with pytest.raises(SinkError, match="down at this one"):
            await delivery.drain()
        assert await store.position("receiver") == 0
        await delivery.drain()
        assert [letter.seq for letter in await store.dead_letters()] == [2]
    assert set(receiver.taken) == {"a", "c"}


async def test_failures_of_long_ago_do_not_count_once_something_was_delivered(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.failures = 1
    async with filled_store(tmp_path, "a") as store:
        delivery = Delivery(receiver, store, holder="test:1:a")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(delivery.run)
                await receiver.arrived.wait()
                receiver.arrived = anyio.Event()
                await put(store, "b")
                await receiver.arrived.wait()  # so the batch before it is done with
                group.cancel_scope.cancel()
    assert delivery._failures == 0


async def test_delivery_does_not_wait_while_a_save_holds_up_its_position(tmp_path: Path) -> None:
    """In the time of one save the archive would otherwise take one batch."""
    ids = [str(number) for number in range(2 * BATCH + 1)]
    saving = apsw.Connection(str(tmp_path / "store.db"))

    class Hurried(Receiver):
        async def send(self, changes: Sequence[KeptChange]) -> None:
            if not self.taken:
                saving.execute("BEGIN IMMEDIATE")
            await super().send(changes)
            if len(self.taken) == len(ids):
                saving.execute("ROLLBACK")

    receiver = Hurried()
    async with filled_store(tmp_path, *ids) as store:
        with anyio.fail_after(5):
            assert await Delivery(receiver, store, holder="test:1:a").drain() == len(ids)
        assert await store.position("receiver") == len(ids)
    saving.close()
    assert receiver.taken == ids


async def test_a_position_that_cannot_be_moved_ends_delivery_with_the_reason(tmp_path: Path) -> None:
    receiver = Receiver()
    with a_faulty_disk() as disk:
        async with filled_store(tmp_path, *(str(number) for number in range(BATCH + 1))) as store:

            class Filling(Receiver):
                async def send(self, changes: Sequence[KeptChange]) -> None:
                    disk.before = FailOnce("write", 1, apsw.FullError)
                    await receiver.send(changes)

            delivery = Delivery(Filling(), store, holder="test:1:a")
            delivery._failures = 7
            with pytest.raises(StoreError, match="the disk is full"):
                await delivery.drain()
            assert delivery._failures == 7  # it is tried again ever more rarely
            disk.before = lambda _: None
            assert await Delivery(receiver, store, holder="test:1:a").drain() > 0
            assert await store.position("receiver") == BATCH + 1
    assert set(receiver.taken) == {str(number) for number in range(BATCH + 1)}


async def test_only_one_process_feeds_a_sink(tmp_path: Path) -> None:
    async with filled_store(tmp_path, "a") as store:
        lease = await store.acquire("deliver:receiver", "other:1:b", TTL)
        assert lease is not None
        with pytest.raises(LeaseLost, match="another process delivers to receiver"):
            await Delivery(Receiver(), store, holder="test:1:a").drain()


async def test_a_sink_is_told_each_time_that_it_is_this_process_that_feeds_it_from_now_on(tmp_path: Path) -> None:
    receiver, other = Receiver(), Receiver()
    async with filled_store(tmp_path, "a") as store:
        await Delivery(receiver, store, holder="test:1:a").drain()
        await put(store, "b")
        await Delivery(other, store, holder="other:1:b").drain()
        await put(store, "c")
        await Delivery(receiver, store, holder="test:1:a").drain()
    assert (receiver.begun, receiver.taken) == (2, ["a", "c"])


async def test_a_running_delivery_follows_what_is_saved(tmp_path: Path) -> None:
    receiver = Receiver()
    async with filled_store(tmp_path) as store:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(Delivery(receiver, store, holder="test:1:a").run)
                await put(store, "a")
                await receiver.arrived.wait()
                group.cancel_scope.cancel()
    assert receiver.taken == ["a"]


async def test_a_running_delivery_survives_a_failing_sink(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.failures = 1
    async with filled_store(tmp_path, "a") as store:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(Delivery(receiver, store, holder="test:1:a").run)
                await receiver.arrived.wait()
                group.cancel_scope.cancel()
    assert receiver.taken == ["a"]
