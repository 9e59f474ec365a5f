"""Processes that a test starts, and that never outlive it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteReceiveStream, Process
from serving import BOUND


@asynccontextmanager
async def a_process(*command: str) -> AsyncIterator[Process]:
    """A process with pipes for all three streams; killed at the end if it still runs."""
    async with await anyio.open_process(command) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def receive(stream: ByteReceiveStream | None) -> bytes:
    """What comes next out of a process."""
    assert stream
    return await stream.receive()


async def ended_in_order(process: Process) -> None:
    """The process ends within the bound, with 0, having unwound everything, and without a word of complaint."""
    with anyio.fail_after(BOUND):
        assert await process.wait() == 0
        assert process.stderr
        told = b"".join([chunk async for chunk in process.stderr]).decode()
    assert told.splitlines()[-1] == "ended in order"
    assert "Traceback" not in told
    assert "ERROR" not in told
