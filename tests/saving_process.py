"""A process that saves pages into a store, for the tests of sharing and of sudden death: it is told what to do on stdin.

``save N`` saves page N and answers ``saved N`` or ``lost N``; ``run`` saves one page after the other until it is killed.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import msgspec

from xdr_mcp.alert import Alert
from xdr_mcp.errors import LeaseLost
from xdr_mcp.interfaces import Lease, Page, Record, Store
from xdr_mcp.store import open_store

PAGE_SIZE = 40
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def page(source: str, number: int) -> Page:
    """The same every time, so that reading it again tells nothing."""
    return Page(tuple(_record(source, number, part) for part in range(PAGE_SIZE)), START)


def _record(source: str, number: int, part: int) -> Record:
    moment = START + timedelta(seconds=number)
    alert = Alert(source=source, vendor_id=f"{number}-{part}", title="alert", created=moment, updated=moment)
    return Record(alert, msgspec.json.encode({"id": alert.vendor_id, "filling": "x" * 2_000}))


async def _save(store: Store, source: str, number: int, lease: Lease) -> None:
    try:
        await store.save(source, page(source, number), lease)
    except LeaseLost:
        print("lost", number, flush=True)  # noqa: T201 (it is what the test reads)
    else:
        print("saved", number, flush=True)  # noqa: T201


async def _main(path: Path, source: str) -> None:
    async with open_store(path) as store:
        lease = await store.acquire(f"poll:{source}", source, timedelta(seconds=9))
        assert lease is not None
        print("ready", flush=True)  # noqa: T201
        for line in sys.stdin:
            command, _, number = line.strip().partition(" ")
            if command == "run":
                for endless in range(sys.maxsize):
                    await _save(store, source, endless, lease)
            await _save(store, source, int(number), lease)


if __name__ == "__main__":
    anyio.run(_main, Path(sys.argv[1]), sys.argv[2])
