"""What is done every so often goes on, whatever becomes of it."""

from __future__ import annotations

import logging
from datetime import timedelta

import anyio
import pytest

from xdr_mcp.errors import StoreError
from xdr_mcp.recurring import keep_doing

log = logging.getLogger("upkeep")


@pytest.mark.anyio
async def test_work_that_fails_is_told_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = [StoreError("the disk is full"), ZeroDivisionError("no one foresaw this")]
    done = anyio.Event()

    async def work() -> None:
        if failures:
            raise failures.pop(0)
        done.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(keep_doing, "upkeep", work, timedelta(0), log)
            await done.wait()
            group.cancel_scope.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        "upkeep: the disk is full (it is tried again)",
        "upkeep failed unexpectedly; it is tried again",
    ]
    assert "no one foresaw this" in caplog.text
