"""Reading and saving overlap, in order and within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import pytest

from xdr_mcp.overlap import SAVES, read_and_save, side_by_side

pytestmark = pytest.mark.anyio

BOUND = 5


class Vendor:
    """Yields numbers for pages, and notes that each was read."""

    def __init__(self, pages: int, failure: Exception | None = None) -> None:
        self.read: list[int] = []
        self.closed = False
        self._pages = pages
        self._failure = failure

    async def pages(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self._pages):
                self.read.append(number)
                yield number
            if self._failure:
                raise self._failure
        finally:
            self.closed = True


class Disk:
    """Saves when it is told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.saved: list[int] = []
        self.most = 0
        self.busy = 0
        self.go_on = anyio.Event()

    async def save(self, page: int) -> None:
        self.begun.append(page)
        self.busy += 1
        self.most = max(self.most, self.busy)
        await self.go_on.wait()
        await anyio.lowlevel.checkpoint()
        self.busy -= 1
        self.saved.append(page)


async def test_a_save_that_fails_after_reading_failed_is_what_is_told() -> None:
    vendor, disk = Vendor(1, ValueError("the vendor is down")), Disk()

    async def save(page: int) -> None:
        await disk.save(page)
        raise OSError("the disk is full")

    async def finish_the_save() -> None:
        while not vendor.closed:
            await anyio.lowlevel.checkpoint()
        disk.go_on.set()

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish_the_save)
            with pytest.raises(OSError, match="the disk is full"):
                await read_and_save(vendor.pages(), save)


async def test_the_next_pages_are_read_while_the_first_is_saved_but_not_too_many() -> None:
    vendor, disk = Vendor(10), Disk()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_and_save, vendor.pages(), disk.save)
            await anyio.wait_all_tasks_blocked()
            assert disk.begun == list(range(SAVES))
            assert vendor.read == list(range(SAVES + 1))
            disk.go_on.set()
    assert disk.begun == disk.saved == list(range(10))
    assert disk.most == SAVES
    assert vendor.closed


async def test_a_failure_of_the_vendor_is_raised_when_all_that_was_read_is_saved() -> None:
    vendor, disk = Vendor(3, ValueError("the vendor fails")), Disk()
    disk.go_on.set()
    with anyio.fail_after(BOUND), pytest.raises(ValueError, match="the vendor fails"):
        await read_and_save(vendor.pages(), disk.save)
    assert disk.saved == [0, 1, 2]


async def test_a_page_that_cannot_be_saved_ends_the_reading() -> None:
    vendor = Vendor(1_000_000)

    async def save(page: int) -> None:
        await anyio.lowlevel.checkpoint()
        if page == 1:
            raise OSError("the disk is full")

    with anyio.fail_after(BOUND), pytest.raises(OSError, match="the disk is full"):
        await read_and_save(vendor.pages(), save)
    assert len(vendor.read) < 10
    assert vendor.closed


async def test_who_is_cancelled_leaves_nothing_running() -> None:
    vendor, disk = Vendor(10), Disk()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_and_save, vendor.pages(), disk.save)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert vendor.closed
    assert disk.saved == []


async def test_works_that_are_done_side_by_side_each_come_to_their_end_and_the_first_failure_is_told() -> None:
    failed = anyio.Event()
    ended = []

    async def fail() -> None:
        failed.set()
        raise LookupError("the first")

    async def end() -> None:
        await failed.wait()
        ended.append("it did")
        raise ValueError("the second")

    with anyio.fail_after(5), pytest.raises(LookupError, match="the first"):
        await side_by_side(end, fail)
    assert ended == ["it did"]
