"""A process that delivers to an archive again and again, each time killed one call later, until it gets through unharmed.

``archiving_process.py <template> <folder>`` copies the template, which holds ``store.db`` and perhaps ``alerts/``, to
``<folder>/1``, delivers there in a child that is killed ahead of the first call, goes on with the second, and so on; the last
one was not killed. Beside each lies what a power loss at its end might have taken. It prints the names of all calls.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import anyio
import msgspec
from disk_edge import DiskEdge
from power_loss import a_power_loss_disk

from xdr_mcp.delivery import Delivery
from xdr_mcp.lease import holder_name
from xdr_mcp.sinks.archive import Archive
from xdr_mcp.store import open_store

FLAT_LIMIT = 3
"""So few that the later files go to folders of their own."""


def archive_of(folder: Path) -> Archive:
    """The archive in a folder, as a new process sees it."""
    return Archive(folder / "alerts", version="1", flat_limit=FLAT_LIMIT)


async def deliver(folder: Path, archive: Archive, edge: DiskEdge | None = None) -> None:
    """Deliver everything; ``edge`` is in place while it is done."""
    async with open_store(folder / "store.db") as store:
        delivery = Delivery(archive, store, holder=holder_name())
        with edge.in_place() if edge else nullcontext():
            await delivery.drain()


def _deliver_until(folder: Path, last: int) -> None:
    def note_losses() -> None:
        (folder / "unsynced.json").write_bytes(msgspec.json.encode(edge.unsynced))

    def kill(number: int, _name: str) -> None:
        if number == last:
            note_losses()
            os.kill(os.getpid(), signal.SIGKILL)

    edge = DiskEdge(folder / "alerts", kill)
    anyio.run(deliver, folder, archive_of(folder), edge)
    note_losses()
    sys.stdout.write("\n".join(edge.calls))
    sys.stdout.flush()


def _main(template: Path, into: Path) -> None:
    for last in range(1, 1_000):
        folder = into / str(last)
        shutil.copytree(template, folder)
        child = os.fork()
        if child == 0:
            try:
                _deliver_until(folder, last)
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended == 0:
            return
        assert ended == -signal.SIGKILL, ended
    raise AssertionError("it never got through")


if __name__ == "__main__":
    with a_power_loss_disk():  # its power stays on: nothing here waits for the store's syncs
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
