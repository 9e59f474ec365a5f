"""Whether memory grows with the number of alerts: read, stored and archived by ``xdr-mcp serve``, which is asked meanwhile.

Run it as ``python bench/memory.py --alerts 10000,100000``. Poller and server are one process; the simulator and who asks are others.
The server is asked for a page and for a count every second until it has read everything, and some more after that; then
``xdr-mcp poll --once`` must find nothing new, and a fresh process asks five queries. The peak is the kernel's own count for the process
(``ru_maxrss``), not a sample; it cannot fall below this script's, which therefore imports nothing heavy. Needs a POSIX
system, the extra ``test`` (psutil), and disk for about 15 KB an alert under the folder given by ``--folder``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.reach import Reach

TOKEN = "simulator-token"  # noqa: S105 (opens a simulation only)
PAGE = 25
MEBIBYTE = 1024 * 1024
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Ended:
    """A process that is over."""

    output: str
    peak: int
    """Bytes of memory that it held at most."""
    seconds: float


@dataclass(frozen=True)
class Measured:
    """All figures for one number of alerts."""

    alerts: int
    serve: Ended
    resident: int
    """Bytes that the server held when it had read everything and was asked some more."""
    seconds: float
    """Until all was stored."""
    again: Ended
    store: int
    archive: int
    """Bytes on disk."""
    ask: Ended

    @property
    def queries(self) -> dict[str, dict[str, Any]]:
        """What the asker told, by query."""
        told: dict[str, dict[str, Any]] = json.loads(self.ask.output)
        return told


@contextmanager
def started(*arguments: str, folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of Python's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDR_")}
    with subprocess.Popen(  # noqa: S603 (this interpreter, and what is written here)
        [sys.executable, *arguments], cwd=folder, env=kept | variables, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def reaped(process: subprocess.Popen[str], began: float) -> Ended:
    """Wait for its end; its failure is this script's."""
    assert process.stdout
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{process.args!r} ended with {process.returncode}")
    return Ended(output, used.ru_maxrss * MAXRSS_UNIT, time.monotonic() - began)


def ended(*arguments: str, folder: Path, **variables: str) -> Ended:
    """Run a program of Python's to its end."""
    began = time.monotonic()
    with started(*arguments, folder=folder, **variables) as process:
        return reaped(process, began)


def on_disk(folder: Path) -> int:
    """Bytes of disk that the files below a folder take."""
    return sum(entry.stat().st_blocks * 512 for entry in folder.rglob("*") if entry.is_file())


# ---------------------------------------------------------------- the simulated vendor


@contextmanager
def vendor(alerts: int) -> Iterator[str]:
    """A simulated XDR that holds so many alerts of the last 24 hours; gives its URL."""
    command = [sys.executable, __file__, "--simulate", str(alerts)]
    with subprocess.Popen(  # noqa: S603 (as above)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def simulate(alerts: int) -> None:
    import anyio.to_thread  # noqa: PLC0415 (the measuring process is to stay small)

    from xdr_mcp.simulator import Estate, create_app, running  # noqa: PLC0415 (as above)

    estate = Estate(1, rate=0, stories=False)
    estate.bulk(alerts)
    async with running(create_app(estate)) as url:
        print(url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)  # until whoever measures is gone


# ---------------------------------------------------------------- the server, and who asks it meanwhile


def serve(alerts: int, folder: Path, data: Path, settings: dict[str, str]) -> tuple[Ended, int, float]:
    """Have everything read by a server that is asked meanwhile: its end, its memory before that, and the seconds until all was stored."""
    arguments = ("-m", "xdr_mcp", "serve", "--http", "--port", "0", "--data-dir", str(data))
    began = time.monotonic()
    with started(*arguments, folder=folder, **settings) as server:
        assert server.stdout
        url, listening = server.stdout.readline().split()[-1], time.monotonic()
        try:
            watched = ended(__file__, "--watch", url, "--alerts", str(alerts), folder=folder)
            resident = resident_of(server.pid)
        finally:
            server.terminate()
        return reaped(server, began), resident, float(watched.output) - listening


def resident_of(pid: int) -> int:
    """Bytes that a process holds now."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 (the measuring process is small until here)

    resident: int = psutil.Process(pid).memory_info().rss
    return resident


async def watch(url: str, alerts: int) -> None:
    """Ask until so many alerts are stored, and twenty times more. Prints when they were, on the clock all processes share."""
    import anyio  # noqa: PLC0415 (as above)
    from mcp import Client  # noqa: PLC0415

    async with Client(url) as client:
        more = 20
        while more:
            page = await client.call_tool("filter_alerts", {"query": "severity>=high", "limit": PAGE})
            counted = await client.call_tool("count_alerts", {"by": ["severity"]})
            if page.is_error or counted.is_error:
                sys.exit(f"{page.content} {counted.content}")
            if (counted.structured_content or {})["total"] < alerts:
                await anyio.sleep(1)
            else:
                if more == 20:
                    print(time.monotonic())
                more -= 1


# ---------------------------------------------------------------- asking


async def ask(store_file: str, rounds: int) -> None:
    """Time what a tool does for a page: find the first rows, and count all. Prints milliseconds as JSON."""
    from xdr_mcp.interfaces import utc_now  # noqa: PLC0415 (as above)
    from xdr_mcp.query import Query, parse  # noqa: PLC0415
    from xdr_mcp.store import open_store  # noqa: PLC0415

    async with open_store(store_file) as store:
        newest = (await store.find(Query(), 1)).alerts[0]
        told: dict[str, dict[str, Any]] = {}
        for text in representative(newest):
            query = parse(text, now=utc_now())
            times = []
            for _ in range(rounds):
                began = time.perf_counter()
                await store.find(query, PAGE)
                matching = await store.count(query)
                times.append((time.perf_counter() - began) * 1000)
            cuts = quantiles(times, n=100, method="inclusive")
            told[text] = {"matching": matching, "first": times[0], "p50": cuts[49], "p99": cuts[98]}
    print(json.dumps(told))


def representative(alert: Any) -> list[str]:
    """What an analyst asks: everything, the worst of today, one machine, a word, and several things at once."""
    host = next(entity.value for entity in alert.entities if entity.kind == "host")
    return [
        "",
        "severity>=high and not status:resolved since:-1h",
        f'host:"{host}"',
        '"powershell"',
        f'technique:T1059* and severity>=medium and not host:"{host}" since:-12h',
    ]


# ---------------------------------------------------------------- the measurement


def measure(alerts: int, page: int, rounds: int, folder: Path) -> Measured:
    data = folder / "data"
    with vendor(alerts) as url:
        settings = {
            "XDR_BASE_URL": url,
            "XDR_AUTH_TOKEN": TOKEN,
            "XDR_MAX_ALERTS_PER_POLL": str(page),
            "XDR_REQUESTS_PER_MINUTE": "1000000",
            "XDR_INITIAL_LOOKBACK": "25h",
            "XDR_LOG_LEVEL": "warning",
        }
        served, resident, seconds = serve(alerts, folder, data, settings)
        again = ended("-m", "xdr_mcp", "poll", "--once", "--data-dir", str(data), folder=folder, **settings)
    if " 0 new, 0 changed" not in again.output:
        sys.exit(f"something was read twice: {again.output}")
    asked = ended(__file__, "--ask", str(data / "xdr-mcp.db"), "--rounds", str(rounds), folder=folder)
    return Measured(alerts, served, resident, seconds, again, on_disk(data), on_disk(folder / "alerts"), asked)


def report(page: int, figures: list[Measured]) -> None:
    print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; ",
        end="",
    )
    print(f"{page} alerts a request\n")
    row("", *(f"{each.alerts:,} alerts" for each in figures), "ratio of the last to the first")
    row("---", *("--:" for _ in figures), "--:")
    line(figures, "peak memory of `serve` while it reads and is asked, MB", lambda each: each.serve.peak / MEBIBYTE)
    line(figures, "memory of `serve` afterwards, MB", lambda each: each.resident / MEBIBYTE)
    line(figures, "peak memory of a `poll --once` that archives the rest, MB", lambda each: each.again.peak / MEBIBYTE)
    line(figures, "peak memory of the process that asks, MB", lambda each: each.ask.peak / MEBIBYTE)
    line(figures, "time until all is read and stored, s", lambda each: each.seconds)
    line(figures, "alerts a second", lambda each: each.alerts / each.seconds)
    line(figures, "store on disk, KB an alert", lambda each: each.store / each.alerts / 1024)
    line(figures, "archive on disk, KB an alert", lambda each: each.archive / each.alerts / 1024)
    print()
    row("query: 25 rows and the count, ms: p50 / p99 (matching)", *(f"{each.alerts:,} alerts" for each in figures))
    row("---", *("--:" for _ in figures))
    for texts in zip(*(each.queries for each in figures), strict=True):
        cells = [each.queries[text] for each, text in zip(figures, texts, strict=True)]
        told = (f"{cell['p50']:.1f} / {cell['p99']:.1f} ({cell['matching']:,})" for cell in cells)
        row(f"`{texts[0]}`" if texts[0] else "everything", *told)


def judge(figures: list[Measured]) -> None:
    reach = Reach()
    peaks = [each.serve.peak / MEBIBYTE for each in figures]
    reach.at_most("poller and server together, peak", 140, max(peaks), " MB")
    if len(figures) > 1:
        what = f"their peak, {figures[-1].alerts:,} alerts against {figures[0].alerts:,}"
        reach.at_most(what, 1.15, peaks[-1] / peaks[0], " times")
    reach.tell()


def line(figures: list[Measured], name: str, value: Callable[[Measured], float]) -> None:
    values = [value(each) for each in figures]
    row(name, *(f"{each:,.0f}" if each >= 100 else f"{each:.1f}" for each in values), f"{values[-1] / values[0]:.2f}")


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", default="10000,100000", help="how many, by comma")
    parser.add_argument("--page", type=int, default=100, help="alerts a request")
    parser.add_argument("--rounds", type=int, default=100, help="how often each query is asked")
    parser.add_argument("--folder", help="where to work; a temporary one otherwise")
    parser.add_argument("--simulate", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.simulate or asked.ask or asked.watch:
        import anyio  # noqa: PLC0415 (the measuring process is to stay small)

        if asked.simulate:
            anyio.run(simulate, asked.simulate)
        elif asked.watch:
            anyio.run(watch, asked.watch, int(asked.alerts))
        else:
            anyio.run(ask, asked.ask, asked.rounds)
        return
    figures = []
    for number in map(int, asked.alerts.split(",")):
        with tempfile.TemporaryDirectory(prefix="xdr-mcp-bench-", dir=asked.folder) as folder:
            figures.append(measure(number, asked.page, asked.rounds, Path(folder)))
    report(asked.page, figures)
    judge(figures)


if __name__ == "__main__":
    main()
