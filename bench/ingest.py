"""How fast alerts are taken in, end to end over HTTP: ours, the floor, and other people's programs, in turns.

Run it as ``python bench/ingest.py --alerts 10000,100000``. The API (``alert_api.py``) is a process of its own, and so is each
program that reads it, each time anew into an empty folder. Every program tells the wall and processor seconds from its first
request to the moment when all is stored; the table has medians, spreads and ratios.

- ``floor``: httpx, msgspec, one SQLite table of ids and bodies, 1,000 a commit; nothing else. What Python can do at best.
- ``ours``: the poller, the source and the store as ``xdr-mcp poll --once`` joins them, everything on but the archive.
- ``ours+archive``: the same with one durable file an alert.
- others: the programs in ``ingesters/``, where ``scripts/setup-ingesters`` installed what they need: each as somebody would write it
  who polls the API, incrementally, and at its best where that is a matter of settings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from bench.reach import Reach

HERE = Path(__file__).parent
INGESTERS = HERE / "ingesters"
ENVIRONMENTS = HERE.parent / ".venv-ingesters"
PAGE = 1_000
LARGE = 1024 * 1024
"""Bytes of a file that does not stay: there are few of them, and they are most of what was written, but in the archive."""


class Run(Struct):
    """One program's one run, as it told itself."""

    alerts: int
    seconds: float
    cpu: float
    """Processor seconds, all threads."""
    peak: float
    """Most memory held, MB."""


# ---------------------------------------------------------------- the floor


class Envelope(Struct):
    data: list[msgspec.Raw]


class Identified(Struct):
    id: str


async def floor(url: str, alerts: int, folder: Path) -> None:
    """As little as can be done: fetch, find the ids, keep the bodies."""
    import apsw  # noqa: PLC0415 (the measuring process is to stay small)
    import httpx  # noqa: PLC0415

    envelope, identified = msgspec.json.Decoder(Envelope).decode, msgspec.json.Decoder(Identified).decode
    database = apsw.Connection(str(folder / "floor.db"))
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"):
        database.execute(statement)
    database.execute("CREATE TABLE alerts (id TEXT PRIMARY KEY, body BLOB)")
    async with httpx.AsyncClient(base_url=url) as client:
        for offset in range(0, alerts, PAGE):
            answer = await client.get("/api/v1/alerts", params={"page[limit]": PAGE, "page[offset]": offset})
            records = [bytes(memoryview(record)) for record in envelope(answer.content).data]
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "INSERT OR IGNORE INTO alerts VALUES (?, ?)", [(identified(record).id, record) for record in records]
            )
            database.execute("COMMIT")
    told = database.execute("SELECT count(*) FROM alerts").get
    database.close()
    if told != alerts:
        raise RuntimeError(f"{told} alerts of {alerts} were stored")


# ---------------------------------------------------------------- ours


async def ours(url: str, alerts: int, folder: Path, *, archive: bool = False) -> None:
    """What ``xdr-mcp poll --once`` joins."""
    import anyio  # noqa: PLC0415 (as above)
    from pydantic import SecretStr  # noqa: PLC0415

    from xdr_mcp.delivery import Delivery  # noqa: PLC0415
    from xdr_mcp.opening import suit_python  # noqa: PLC0415 (as above)
    from xdr_mcp.planning import Pace  # noqa: PLC0415
    from xdr_mcp.poller import Poller  # noqa: PLC0415
    from xdr_mcp.sinks.archive import Archive  # noqa: PLC0415
    from xdr_mcp.sources.xdr import XdrSource  # noqa: PLC0415
    from xdr_mcp.sources.xdr.options import XdrOptions  # noqa: PLC0415
    from xdr_mcp.store import open_store  # noqa: PLC0415

    suit_python()
    options = XdrOptions(
        base_url=url, auth_token=SecretStr("token"), max_alerts_per_poll=PAGE, requests_per_minute=1_000_000_000
    )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(folder / "store.db"))
        source = await stack.enter_async_context(XdrSource.open("xdr", options, store.memory("xdr")))
        poller = Poller(source, store, pace=Pace(initial_lookback=timedelta(hours=24)), holder="bench")
        delivery = Delivery(Archive(folder / "alerts", version="bench"), store, holder="bench")
        async with anyio.create_task_group() as beside:
            if archive:
                beside.start_soon(delivery.run)
            report = await poller.once()
            beside.cancel_scope.cancel()
        if archive:
            await delivery.drain()
    if report.created != alerts:
        raise RuntimeError(f"{report.created} alerts of {alerts} were stored")
    files = sum(entry.suffix == ".json" for entry in (folder / "alerts").rglob("*"))
    if archive and files != alerts:
        raise RuntimeError(f"{files} alerts of {alerts} were archived")


async def ours_archive(url: str, alerts: int, folder: Path) -> None:
    """With one durable file an alert."""
    await ours(url, alerts, folder, archive=True)


OWN: dict[str, Callable[[str, int, Path], Awaitable[None]]] = {
    "floor": floor,
    "ours": ours,
    "ours+archive": ours_archive,
}


_PARTS = ("app", "delivery", "planning", "poller", "sinks.archive", "sources.xdr.options", "store.sqlite.store")
LOADED = {
    "floor": ("apsw", "httpx"),
    "ours": tuple(f"xdr_mcp.{part}" for part in _PARTS),
    "ours+archive": tuple(f"xdr_mcp.{part}" for part in _PARTS),
}
"""What each has loaded before its clock starts."""


def run_own(name: str, url: str, alerts: int, folder: Path) -> Run:
    """Run one of our own programs in this process."""
    import anyio  # noqa: PLC0415 (as above)

    for module in LOADED[name]:
        import_module(module)
    began, worked = time.perf_counter(), time.process_time()
    anyio.run(OWN[name], url, alerts, folder)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    return Run(alerts, seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# ---------------------------------------------------------------- the measurement


def others() -> list[str]:
    """Other people's programs that are installed."""
    return sorted(path.stem for path in INGESTERS.glob("*.py") if (ENVIRONMENTS / path.stem / "installed").exists())


@contextmanager
def api(alerts: int) -> Iterator[str]:
    """The API, in a process of its own; gives its URL."""
    with subprocess.Popen(  # noqa: S603 (this interpreter, and what is written here)
        [sys.executable, str(HERE / "alert_api.py"), str(alerts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()


def measured(name: str, url: str, alerts: int, parent: str) -> Run:
    """Run a program in a process of its own and in an empty folder, of which small files stay.

    ext4 without a journal looks at every inode that was freed within the last minutes before it makes a file: removing one
    run's files would cost the next run's up to 0.2 ms each. (So does a measurement that ended less than six minutes ago.)
    """
    if name in OWN:
        command = [sys.executable, __file__, "--run", name]
    else:
        command = [str(ENVIRONMENTS / name / "bin" / "python"), str(INGESTERS / f"{name}.py")]
    folder = tempfile.mkdtemp(dir=parent)
    ended = subprocess.run(  # noqa: S603 (what is written here)
        [*command, url, str(alerts), folder], capture_output=True, text=True, check=False, cwd=folder
    )
    if ended.returncode:
        sys.exit(f"{name} ended with {ended.returncode}: {ended.stderr[-2_000:]}")
    for path in Path(folder).rglob("*"):
        if path.is_file() and path.stat().st_size > LARGE:
            path.unlink()
    told = json.loads(ended.stdout.splitlines()[-1])
    if told["alerts"] != alerts:
        sys.exit(f"{name} took {told['alerts']} alerts of {alerts}")
    return Run(**told)


def table(alerts: int, runs: dict[str, list[Run]]) -> None:
    print(f"\n{alerts:,} alerts\n")
    row("", "alerts/s", "spread", "CPU µs an alert", "peak MB", "time / floor", "CPU / floor", "speed / airbyte")
    row("---", *["--:"] * 7)
    least, airbyte = _medians(runs["floor"]), runs.get("airbyte")
    for name, told in runs.items():
        seconds, cpu = _medians(told)
        speeds = sorted(alerts / run.seconds for run in told)
        against = f"{_medians(airbyte)[0] / seconds:.2f}" if airbyte else ""
        row(
            name,
            f"{alerts / seconds:,.0f}",
            f"{speeds[0]:,.0f} to {speeds[-1]:,.0f}",
            f"{cpu / alerts * 1e6:.0f}",
            f"{max(run.peak for run in told):.0f}",
            f"{seconds / least[0]:.2f}",
            f"{cpu / least[1]:.2f}",
            against,
        )


def judge(told: dict[int, dict[str, list[Run]]], reach: Reach) -> None:
    """The rows that these numbers of alerts can judge."""
    for alerts, runs in told.items():
        seconds = {name: _medians(each)[0] for name, each in runs.items()}
        if "ours" in seconds:
            reach.at_most(
                f"ours against the floor, {alerts:,} alerts: time", 2, seconds["ours"] / seconds["floor"], " times"
            )
        for name, wanted in (("ours", 4), ("ours+archive", 2)):
            if name in seconds and "airbyte" in seconds:
                what = f"{name} against airbyte, {alerts:,} alerts: speed"
                reach.at_least(what, wanted, seconds["airbyte"] / seconds[name], " times")
    fewest, most = min(told), max(told)
    if fewest < most and "ours" in told[most]:
        speeds = [alerts / _medians(told[alerts]["ours"])[0] for alerts in (fewest, most)]
        reach.at_least(f"speed of ours, {most:,} alerts against {fewest:,}", 0.8, speeds[1] / speeds[0], " times")


def _medians(runs: list[Run]) -> tuple[float, float]:
    return median(run.seconds for run in runs), median(run.cpu for run in runs)


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", default="10000,100000", help="how many, by comma")
    parser.add_argument("--rounds", type=int, default=3, help="how often each program runs")
    parser.add_argument("--only", help="names of programs beside the floor, by comma; all that are installed otherwise")
    parser.add_argument("--folder", help="where to work; a temporary folder otherwise")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        url, alerts, folder = asked.arguments
        print(json.dumps(asdict(run_own(asked.run, url, int(alerts), Path(folder)))))
        return
    names = list(dict.fromkeys(["floor", *asked.only.split(",")])) if asked.only else [*OWN, *others()]
    if absent := [name for name in names if name not in OWN and name not in others()]:
        parser.error(f"{', '.join(absent)} cannot be run: scripts/setup-ingesters installs other people's programs")
    print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; ",
        end="",
    )
    versions = [(ENVIRONMENTS / name / "installed").read_text().split()[0] for name in names if name not in OWN]
    print(", ".join([f"{PAGE:,} alerts a request, medians of {asked.rounds} rounds", *versions]))
    with tempfile.TemporaryDirectory(prefix="xdr-mcp-bench-", dir=asked.folder) as parent:
        told: dict[int, dict[str, list[Run]]] = {}
        for alerts in map(int, asked.alerts.split(",")):
            runs = told[alerts] = {name: [] for name in names}
            with api(alerts) as url:
                for _ in range(asked.rounds):
                    for name in names:
                        runs[name].append(measured(name, url, alerts, parent))
            table(alerts, runs)
    reach = Reach()
    judge(told, reach)
    reach.tell()


if __name__ == "__main__":
    main()
