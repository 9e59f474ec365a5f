from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from model_vendor import ManualClock

from xdr_mcp.errors import LeaseLost, StoreUnusable, Unavailable
from xdr_mcp.interfaces import Lease, Store
from xdr_mcp.lease import TTL, holder_died, holder_name, run_while_held
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

T = TypeVar("T")
NAME = [sys.executable, "-c", "from xdr_mcp.lease import holder_name; print(holder_name())"]


def dead_holder() -> str:
    """The name of a process that has ended."""
    return subprocess.run(NAME, capture_output=True, text=True, check=True).stdout.strip()


def test_a_process_that_ended_on_this_machine_is_known_to_be_dead() -> None:
    assert holder_died(dead_holder())


@pytest.mark.parametrize(
    "holder",
    [
        pytest.param(holder_name(), id="a living process"),
        pytest.param(dead_holder().replace(socket.gethostname(), "elsewhere", 1), id="another machine"),
        pytest.param(f"{socket.gethostname()}:{os.getpid()}:abc", id="another namespace"),
        pytest.param("anything", id="a name of another form"),
        pytest.param("", id="no name"),
    ],
)
def test_any_doubt_counts_as_alive(holder: str) -> None:
    assert not holder_died(holder)


async def test_a_dead_holder_is_replaced_before_its_lease_has_run_out(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", clock=ManualClock()) as store:
        first = await store.acquire("poll:model", dead_holder(), TTL)
        assert first is not None
        second = await store.acquire("poll:model", holder_name(), TTL)
        assert second is not None
        assert second.token > first.token


async def test_work_under_a_lease_returns_what_it_returns_and_gives_the_lease_up(tmp_path: Path) -> None:
    async def work() -> str:
        return "done"

    async with open_store(tmp_path / "store.db") as store:
        assert await _held(store, work) == "done"
        assert await store.acquire("job", "another", TTL) is not None


async def test_what_the_work_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    async def work() -> None:
        raise Unavailable("down")

    async with open_store(tmp_path / "store.db") as store:
        with pytest.raises(Unavailable, match="down"):
            await _held(store, work)
        assert await store.acquire("job", "another", TTL) is not None


async def test_work_is_stopped_when_the_lease_is_lost(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_store(tmp_path / "store.db", clock=clock) as store:

        async def work() -> None:
            clock.advance(seconds=2 * TTL.total_seconds())
            assert await store.acquire("job", "another", TTL) is not None
            await anyio.sleep_forever()

        with anyio.fail_after(5), pytest.raises(LeaseLost, match="job"):
            await _held(store, work)


async def test_a_store_that_stumbles_over_a_renewal_costs_no_lease(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", clock=ManualClock()) as store:
        stumbling = StumblingStore(store, failures=2)
        with anyio.fail_after(5):
            await _held(stumbling, stumbling.renewed.wait)  # type: ignore[arg-type]
        assert stumbling.failures == 0


async def test_a_lease_is_renewed_while_it_holds(tmp_path: Path) -> None:
    ttl = timedelta(seconds=3)
    async with open_store(tmp_path / "store.db") as store:
        watched = StumblingStore(store, failures=0)
        lease = await watched.acquire("job", "test:1:a", ttl)
        assert lease is not None
        with anyio.fail_after(ttl.total_seconds()):
            await run_while_held(watched, lease, watched.renewed.wait, ttl=ttl)  # type: ignore[arg-type]


async def test_a_lease_that_was_lost_and_had_again_is_another_lease(tmp_path: Path) -> None:
    """Under the same name, but somebody else may have written in between."""
    async with open_store(tmp_path / "store.db", clock=ManualClock()) as store:

        async def work() -> None:
            lease = await store.acquire("job", "test:1:a", TTL)
            assert lease is not None
            await store.release(lease)
            assert await store.acquire("job", "test:1:a", TTL) is not None
            await anyio.sleep_forever()

        with anyio.fail_after(5), pytest.raises(LeaseLost, match="job"):
            await _held(store, work)


class StumblingStore:
    """A store that fails to renew a few times."""

    def __init__(self, store: Store, failures: int) -> None:
        self._store = store
        self.failures = failures
        self.renewed = anyio.Event()
        self._taken = False

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        if self._taken and self.failures:
            self.failures -= 1
            raise StoreUnusable("the disk hiccuped")
        if self._taken:
            self.renewed.set()
        self._taken = True
        return await self._store.acquire(name, holder, ttl)

    async def release(self, lease: Lease) -> None:
        await self._store.release(lease)


async def _held(store: Store, work: Callable[[], Awaitable[T]]) -> T:
    lease = await store.acquire("job", "test:1:a", TTL)
    assert lease is not None
    return await run_while_held(store, lease, work, ttl=timedelta(milliseconds=30))
