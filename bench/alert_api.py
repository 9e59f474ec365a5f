"""An alert API that is never the bottleneck: pages cut from records made beforehand, over a socket, in a process of its own.

It speaks as much of the XDR Alert Management API as reading a list takes: ``page[limit]``, ``page[offset]``, ``sort`` by
``updatedAt`` and bounds on it. Records are the simulator's bulk alerts (heavy-tailed sizes, median 2 KB, 99th percentile 30 KB);
each has an id, times and a hash of its own. Alert 0 is the newest; the same number of alerts is the same alerts at every run.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from urllib.parse import parse_qs, urlsplit

from xdr_mcp.simulator.bulk import BulkRevision, Catalogue
from xdr_mcp.simulator.company import Company

SHAPES = 4_096
"""Records made beforehand; an alert is one of them with its own id and times."""
SPAN = 20 * 3_600_000
"""Milliseconds over which the alerts are spread; the newest is a few minutes old."""


class Records:
    """So many alerts, newest first, without their bytes being kept."""

    def __init__(self, alerts: int) -> None:
        self.alerts = alerts
        self._newest = time.time_ns() // 1_000_000 - 300_000
        self._step = max(1, SPAN // max(alerts, 1))
        catalogue = Catalogue(1, Company(1))
        self._shapes = [_shape(catalogue, index) for index in range(min(SHAPES, max(alerts, 1)))]

    def updated(self, index: int) -> int:
        """Epoch milliseconds."""
        return self._newest - index * self._step

    def until(self, moment: int) -> int:
        """How many alerts are newer than this, epoch milliseconds."""
        return min(self.alerts, max(0, -(-(self._newest - moment) // self._step)))

    def page(self, indices: range) -> bytes:
        """Some records, joined by commas."""
        shapes, count = self._shapes, len(self._shapes)
        newest, step = self._newest, self._step
        parts: list[bytes] = []
        for index in indices:
            mixed = index * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF  # neighbours get ids far apart, as UUIDs are
            seconds, milliseconds = divmod(newest - index * step, 1000)
            values = (
                b"%08x-%04x-4%03x-8%03x-%012x"
                % (mixed >> 32, mixed >> 16 & 0xFFFF, mixed >> 4 & 0xFFF, mixed & 0xFFF, index),
                b"%016x" % mixed * 4,
                b"%b.%03dZ" % (_second(seconds), milliseconds),
            )
            pieces, gaps = shapes[index % count]
            parts.append(pieces % tuple([values[gap] for gap in gaps]))
        return b",".join(parts)


_seconds: dict[int, bytes] = {}


def _second(seconds: int) -> bytes:
    if seconds not in _seconds:
        _seconds[seconds] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()
    return _seconds[seconds]


def _shape(catalogue: Catalogue, index: int) -> tuple[bytes, list[int]]:
    """A record as a format of its bytes, and what its gaps hold: 0 the id, 1 the hash, 2 a time."""
    identity = "5eed5eed-0000-4000-8000-000000000000"
    stamp = 981_173_106_000
    text = catalogue.write(BulkRevision(identity, 1, stamp, stamp, index, catalogue)).replace(b"%", b"%%")
    plain = identity.encode()
    found = (plain, plain.replace(b"-", b"") * 2, b"2001-02-03T04:05:06.000Z")
    gaps = [found.index(gap) for gap in re.findall(b"|".join(found), text)]
    return re.sub(b"|".join(found), b"%b", text), gaps


class Api(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        while b"\r\n\r\n" in self._asked:
            head, _, self._asked = self._asked.partition(b"\r\n\r\n")
            body = self._answer(parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query))
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            self._transport.write(body)

    def _answer(self, query: dict[str, list[str]]) -> bytes:
        records = self._records
        first, last = 0, records.alerts
        for bound, value in json.loads(query.get("filter[updatedAt]", ["{}"])[0]).items():
            moment = _milliseconds(value)
            if bound == "gte":
                last = min(last, records.until(moment - 1))
            elif bound == "lte":
                first = records.until(moment)
        total = max(0, last - first)
        offset = int(query.get("page[offset]", ["0"])[0])
        indices = range(first, first + total)
        if query.get("sort", [""])[0] == "updatedAt":
            indices = indices[::-1]
        page = indices[offset : offset + int(query.get("page[limit]", ["10"])[0])]
        return b'{"data":[%b],"meta":{"totalRecords":%d}}' % (records.page(page), total)


def _milliseconds(stamp: str) -> int:
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return int(time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone) * 1000 + int(fraction or 0)


async def main(alerts: int) -> None:
    """Print the URL, and serve until stdin ends."""
    loop = asyncio.get_running_loop()
    records = Records(alerts)
    server = await loop.create_server(lambda: Api(records), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
