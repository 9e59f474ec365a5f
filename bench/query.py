"""What a question costs in the store: asked through ``Store``, against hand-written SQL on the same file, taking turns.

Run it as ``python bench/query.py --alerts 100000 --keep FOLDER``; ``--keep`` leaves the store behind and uses it again. Each
question is asked many times with other values each time; of the times the median and the 99th percentile are told, and also the
processor's, which other programs on the machine do not lengthen. The hand-written SQL is what one would write who knows
the tables; alerts that it finds are decoded, too. Where PostgreSQL is installed, the same alerts are asked for there as well
(``postgres.py``). With ``--busy``, then the same while another process, and while this one, saves as fast as it can.
Needs 8 KB of disk an alert, and with PostgreSQL 6 more.
"""

from __future__ import annotations

import argparse
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from statistics import quantiles
from typing import Any

import anyio
import apsw

from bench import postgres
from bench.postgres import Postgres
from bench.reach import Reach
from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status
from xdr_mcp.interfaces import Found, Page, Position, Record, Store
from xdr_mcp.opening import suit_python
from xdr_mcp.query import Query, matches, parse
from xdr_mcp.store import open_store
from xdr_mcp.store.sqlite.file import open_reader
from xdr_mcp.store.sqlite.keys import moment
from xdr_mcp.store.sqlite.revisions import alert_of, uid_of

END = datetime(2026, 11, 25, tzinfo=UTC)
"""The newest alert is created a second before."""
SPAN = timedelta(days=30)
PAGE = 1_000
CHANGED = 20
"""One alert in so many has a second revision."""
HOSTS, USERS, WORDS = 5_000, 3_000, 4_000
TECHNIQUES = tuple(f"T{number}" for number in range(1_001, 1_061))
SEVERITIES = (*[Severity.LOW] * 50, *[Severity.MEDIUM] * 30, *[Severity.HIGH] * 15, *[Severity.CRITICAL] * 5)
STATUSES = (*[Status.NEW] * 30, *[Status.IN_PROGRESS] * 10, *[Status.RESOLVED] * 60)


# ---------------------------------------------------------------- a store to ask


def skewed(draw: random.Random, number: int, skew: int = 3) -> int:
    """A number below ``number``; small ones come often."""
    return int(number * draw.random() ** skew)


def a_host(draw: random.Random) -> int:
    """The noisiest of the 5,000 has 1.4 % of all alerts."""
    return skewed(draw, HOSTS, 2)


def made(number: int, alerts: int, revision: int = 1) -> Record:
    """An alert of a company of 5,000 hosts; its record's size is heavy-tailed: median 2 KB, 99th percentile 30 KB."""
    draw = random.Random(number)  # noqa: S311 (no secret)
    created = END - SPAN * (1 - number / alerts) - timedelta(seconds=1)
    status = Status.RESOLVED if revision > 1 else draw.choice(STATUSES)
    words = [f"word{skewed(draw, WORDS)}" for _ in range(40)]
    host, user = a_host(draw), skewed(draw, USERS, 2)
    alert = Alert(
        source="xdr",
        vendor_id=f"4f9a1c2e-0000-4000-8000-{number:012x}",
        title=" ".join(words[:6]),
        description=" ".join(words[6:]),
        created=created,
        updated=created + timedelta(minutes=revision),
        severity=draw.choice(SEVERITIES),
        status=status,
        risk_score=draw.randrange(101),
        product="Endpoint",
        vendor="Example",
        rule_id=f"rule-{number % 200}",
        rule_name=f"Rule number {number % 200}",
        attacks=(Attack(technique=TECHNIQUES[skewed(draw, len(TECHNIQUES))], tactic=f"TA{number % 14:04}"),),
        entities=(
            Entity(EntityKind.HOST, f"host-{host}.corp.example"),
            Entity(EntityKind.IP, f"10.{host >> 8}.{host & 255}.{draw.randrange(256)}"),
            Entity(EntityKind.USER, f"CORP\\user-{user}"),
            Entity(EntityKind.PROCESS, f"C:\\Windows\\tool-{skewed(draw, 300)}.exe"),
            Entity(EntityKind.HASH, draw.randbytes(32).hex()),
            Entity(EntityKind.COMMAND, f"tool.exe -enc {draw.randbytes(24).hex()}"),
        ),
        labels=(f"label-{number % 20}",),
    )
    size = min(int(draw.lognormvariate(7.6, 1.16)), 1_000_000)
    return Record(alert, b'{"id": "%d", "revision": %d, "evidence": "%s"}' % (number, revision, b"x" * size))


async def save(store: Store, records: Sequence[Record]) -> None:
    lease = await store.acquire("poll:xdr", "bench", timedelta(hours=1))
    assert lease
    await store.save("xdr", Page(tuple(records), datetime.now(UTC)), lease)


async def fill(path: Path, alerts: int) -> None:
    """Save them all, and a later revision of some; what was saved by an earlier run is not saved again."""
    async with open_store(path) as store:
        for start in range(await store.count(Query()) // PAGE * PAGE, alerts, PAGE):
            numbers = range(start, min(start + PAGE, alerts))
            await save(store, [made(number, alerts) for number in numbers])
            await save(store, [made(number, alerts, 2) for number in numbers if number % CHANGED == 0])
        while await store.tidy():  # as a server does when little is saved
            pass


# ---------------------------------------------------------------- the questions


Ours = Callable[[], Awaitable[object]]
Theirs = Callable[[apsw.Connection], list[Any]]
Asked = tuple[Ours, Theirs, postgres.Ask]
_BODIES = "SELECT c.body FROM postings CROSS JOIN alerts AS a ON a.key = postings.rowid CROSS JOIN changes AS c ON c.seq = a.seq"


FIVE = "severity, status, 24 h, technique, host: newest 20"
FIRST, DEEP = "page one of everything, 25 rows", "the page at half depth"
WORD = "a word: newest 20"
TALLIED = ("how many by severity", "how many by status", "how many by day")


@dataclass(frozen=True)
class Question:
    """``ask`` draws one of its kind: how we are asked, and how one would write it, here and in PostgreSQL."""

    name: str
    ask: Callable[[random.Random], Asked]
    seldom: bool = False
    """Written by hand it walks all alerts: asked in one round of twenty."""
    differs: bool = False
    """Written by hand it leaves out alerts that changed since."""


@dataclass
class Times:
    """Seconds that each answer took on the clock and of the processor."""

    clock: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)


@dataclass
class Compared:
    """Ours, the hand-written SQL on the same file, and PostgreSQL where it is installed."""

    ours: Times = field(default_factory=Times)
    theirs: Times = field(default_factory=Times)
    postgres: Times = field(default_factory=Times)


def rows(sql: str, *parameters: str | int) -> Theirs:
    """Whatever it says."""
    return lambda connection: connection.execute(sql, parameters).fetchall()


def alerts_of(sql: str, *parameters: str | int) -> Theirs:
    """The alerts whose bodies it selects."""
    return lambda connection: [alert_of(body) for (body,) in connection.execute(sql, parameters)]


class Questions:
    """What is asked of a store of so many alerts."""

    def __init__(self, store: Store, connection: apsw.Connection, alerts: int) -> None:
        self.store = store
        self.alerts = alerts
        self._keys = [connection.execute("SELECT max(key) FROM alerts").get]
        self._keys.append(
            connection.execute("SELECT key FROM alerts ORDER BY key LIMIT 1 OFFSET ?", (alerts // 2,)).get
        )
        self._day = connection.execute(
            "SELECT min(key) FROM alerts WHERE created >= ?", (int((END - timedelta(days=1)).timestamp()) * 1_000_000,)
        ).get
        self._seq = connection.execute("SELECT max(seq) FROM changes").get * 29 // 30
        self._then = moment(connection.execute("SELECT saved FROM changes WHERE seq >= ? LIMIT 1", (self._seq,)).get)

    def all(self) -> list[Question]:
        return [
            Question(FIVE, self.five),
            Question("severity, status, technique: newest 20", self.three),
            Question("host: newest 20", self.host),
            Question(FIRST, lambda draw: self.page(draw, 0)),
            Question(DEEP, lambda draw: self.page(draw, 1)),
            Question(WORD, self.word),
            Question("one alert by its id", self.get),
            Question(TALLIED[0], lambda _: self.by("severity", "severity"), seldom=True),
            Question(TALLIED[1], lambda _: self.by("status", "status"), seldom=True),
            Question(TALLIED[2], lambda _: self.by("created:day", "created / 86400000000"), seldom=True),
            Question("how many match severity and 24 h", self.count),
            Question("how many match a host", self.count_host),
            Question("how many match a technique, of at most 10,000", self.count_technique),
            Question("page one as of a day before, 25 rows", self.past, differs=True),
        ]

    def _find(self, text: str, match: str, ask: postgres.Ask, also: str = "") -> Asked:
        query = parse(text, now=END)
        sql = f"{_BODIES} WHERE postings MATCH ? {also} ORDER BY postings.rowid DESC LIMIT 20"
        return lambda: self.store.find(query, 20), alerts_of(sql, match), ask

    def five(self, draw: random.Random) -> Asked:
        host, technique = f"host-{a_host(draw)}.corp.example", TECHNIQUES[skewed(draw, len(TECHNIQUES))]
        text = f"severity>=high status:new since:-24h technique:{technique} host:{host}"
        also = f"AND postings.rowid >= {self._day} AND a.severity >= 4 AND a.status = 1"
        sql = (
            "SELECT a.body FROM hosts AS h JOIN techniques AS t USING (key) JOIN alerts AS a USING (key) WHERE h.host = %s"
            " AND t.technique = %s AND h.key >= %s AND a.severity >= 4 AND a.status = 1 ORDER BY h.key DESC LIMIT 20"
        )
        ask = postgres.alerts_of(sql, host, technique, self._day)
        return self._find(text, f'terms : ("technique:{technique.lower()}" AND "host:{host}")', ask, also)

    def three(self, draw: random.Random) -> Asked:
        technique = TECHNIQUES[skewed(draw, len(TECHNIQUES))]
        match = f'terms : "technique:{technique.lower()}"'
        ask = postgres.alerts_of(
            "SELECT a.body FROM techniques AS t JOIN alerts AS a USING (key) WHERE t.technique = %s"
            " AND a.severity >= 4 AND a.status = 1 ORDER BY t.key DESC LIMIT 20",
            technique,
        )
        also = "AND a.severity >= 4 AND a.status = 1"
        return self._find(f"severity>=high status:new technique:{technique}", match, ask, also)

    def host(self, draw: random.Random) -> Asked:
        host = f"host-{a_host(draw)}.corp.example"
        sql = (
            "SELECT a.body FROM hosts AS h JOIN alerts AS a USING (key) WHERE h.host = %s ORDER BY h.key DESC LIMIT 20"
        )
        return self._find(f"host:{host}", f'terms : "host:{host}"', postgres.alerts_of(sql, host))

    def word(self, draw: random.Random) -> Asked:
        word = f"word{skewed(draw, WORDS)}"
        sql = "SELECT body FROM alerts WHERE words @@ %s::tsquery ORDER BY key DESC LIMIT 20"
        return self._find(word, f"{{title description other}} : {word}", postgres.alerts_of(sql, word))

    def page(self, draw: random.Random, which: int) -> Asked:
        place = Position(END, self._keys[which] - draw.randrange(1_000_000))
        sql = "SELECT c.body FROM alerts AS a CROSS JOIN changes AS c ON c.seq = a.seq WHERE a.key < ? ORDER BY a.key DESC LIMIT 25"
        ask = postgres.alerts_of("SELECT body FROM alerts WHERE key < %s ORDER BY key DESC LIMIT 25", place.key)
        return lambda: self.store.find(Query(), 25, place), alerts_of(sql, place.key), ask

    def get(self, draw: random.Random) -> Asked:
        told = made(draw.randrange(self.alerts), self.alerts).alert.id
        sql = "SELECT c.body, c.raw FROM alerts AS a JOIN changes AS c ON c.seq = a.seq WHERE a.uid = ?"
        ask = postgres.rows("SELECT body, raw FROM alerts WHERE id = %s", told)
        return lambda: self.store.get(told), lambda connection: connection.execute(sql, (uid_of(told),)).fetchall(), ask

    def by(self, ours: str, column: str) -> Asked:
        sql = f"SELECT {column}, count(*) FROM alerts GROUP BY 1"  # noqa: S608 (our own words)
        return lambda: self.store.count_by(Query(), [ours], 50), rows(sql), postgres.rows(sql)

    def count(self, _: random.Random) -> Asked:
        query = parse("severity>=high since:-24h", now=END)
        sql = "SELECT count(*) FROM postings WHERE postings MATCH 'terms : (s4 OR s5)' AND rowid >= ?"
        ask = postgres.rows("SELECT count(*) FROM alerts WHERE severity >= 4 AND key >= %s", self._day)
        return lambda: self.store.count(query), rows(sql, self._day), ask

    def count_host(self, draw: random.Random) -> Asked:
        host = f"host-{a_host(draw)}.corp.example"
        query = parse(f"host:{host}", now=END)
        sql = "SELECT count(*) FROM postings WHERE postings MATCH ?"
        ask = postgres.rows("SELECT count(*) FROM hosts WHERE host = %s", host)
        return lambda: self.store.count(query), rows(sql, f'terms : "host:{host}"'), ask

    def count_technique(self, draw: random.Random) -> Asked:
        technique = TECHNIQUES[skewed(draw, len(TECHNIQUES))]
        query = parse(f"technique:{technique}", now=END)
        sql = "SELECT count(*) FROM (SELECT 1 FROM postings WHERE postings MATCH ? LIMIT 10001)"
        ask = postgres.rows(
            "SELECT count(*) FROM (SELECT 1 FROM techniques WHERE technique = %s LIMIT 10001) AS found", technique
        )
        match = f'terms : "technique:{technique.lower()}"'
        return lambda: self.store.count(query, most=10_000), rows(sql, match), ask

    def past(self, _: random.Random) -> Asked:
        sql = (
            "SELECT c.body FROM alerts AS a CROSS JOIN changes AS c ON c.seq = a.seq WHERE a.seq <= ?"
            " ORDER BY a.key DESC LIMIT 25"
        )
        ask = postgres.alerts_of("SELECT body FROM alerts WHERE seq <= %s ORDER BY key DESC LIMIT 25", self._seq)
        return lambda: self.store.find(Query(), 25, as_of=self._then), alerts_of(sql, self._seq), ask


# ---------------------------------------------------------------- measuring


class Asker:
    """Asks each question of all, in turns, and notes what it took."""

    def __init__(self, connection: apsw.Connection, server: Postgres | None = None) -> None:
        self._connection = connection
        self._server = server

    async def check(self, questions: Sequence[Question]) -> None:
        """All find the same alerts."""
        for number, question in product(range(5), questions):
            ours, theirs, ask = question.ask(random.Random(number))  # noqa: S311 (no secret)
            found = await ours()
            if not isinstance(found, Found) or question.differs:
                continue
            wanted = [alert.id for alert in found.alerts]
            told = [theirs(self._connection), *([ask(self._server)] if self._server else [])]
            if any([alert.id for alert in each] != wanted for each in told):
                sys.exit(f"not the same alerts: {question.name}")

    async def timed(self, questions: Sequence[Question], rounds: int) -> dict[str, Compared]:
        """Every question once a round, ours and the others' taking turns to be first."""
        times = {question.name: Compared() for question in questions}
        for number in range(rounds):
            for question in questions:
                ours, theirs, ask = question.ask(random.Random(number))  # noqa: S311 (no secret)
                told, walks = times[question.name], not question.seldom or number % 20 == 0
                if number % 2 == 0:
                    await self._ours(ours, told.ours)
                if walks:
                    self._theirs(theirs, told.theirs)
                    self._postgres(ask, told.postgres)
                if number % 2:
                    await self._ours(ours, told.ours)
        return times

    async def _ours(self, ours: Ours, into: Times) -> None:
        began, worked = time.perf_counter(), time.process_time()
        await ours()
        into.worked.append(time.process_time() - worked)
        into.clock.append(time.perf_counter() - began)

    def _theirs(self, theirs: Theirs, into: Times) -> None:
        began, worked = time.perf_counter(), time.process_time()
        theirs(self._connection)
        into.worked.append(time.process_time() - worked)
        into.clock.append(time.perf_counter() - began)

    def _postgres(self, ask: postgres.Ask, into: Times) -> None:
        if not self._server:
            return
        served = self._server.worked()
        began, worked = time.perf_counter(), time.process_time()
        ask(self._server)
        here, clock = time.process_time() - worked, time.perf_counter() - began
        into.worked.append(here + self._server.worked() - served)
        into.clock.append(clock)


def figures(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds."""
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [*seconds] * 99
    return cuts[49] * 1e3, cuts[98] * 1e3


def shown(seconds: Sequence[float]) -> str:
    """Median and 99th percentile, as a cell."""
    return "{:.2f} / {:.2f}".format(*figures(seconds)) if seconds else ""


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if not theirs:
        return ""
    one, other = figures(ours), figures(theirs)
    return f"{one[0] / other[0]:.1f} / {one[1] / other[1]:.1f}"


def tell(title: str, times: dict[str, Compared]) -> None:
    """What ours took on the clock; set against the others' by the processor's time, which no other program lengthens."""
    print(
        "\nMilliseconds, p50 / p99, on the clock and of the processor (PostgreSQL's: of its process and of who asks).\n"
    )
    heads = ("clock: ours", "SQL by hand", "PostgreSQL", "processor: ours", "SQL by hand", "PostgreSQL")
    print(f"| {' | '.join((title, *heads, 'ours / SQL by hand', 'ours / PostgreSQL'))} |\n| --- |{' --: |' * 8}")
    for name, each in times.items():
        told = (each.ours, each.theirs, each.postgres)
        cells = [shown(one.clock) for one in told] + [shown(one.worked) for one in told]
        cells += [ratio(each.ours.worked, other.worked) for other in told[1:]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def tell_busy(title: str, times: dict[str, Compared]) -> None:
    print(f"\n| {title} | ours, ms: p50 / p99 | SQL by hand |\n| --- | --: | --: |")
    for name, each in times.items():
        print(f"| {name} | {shown(each.ours.clock)} | {shown(each.theirs.clock)} |", flush=True)


def tell_matches(rounds: int) -> None:
    alerts = [made(number, rounds).alert for number in range(rounds)]
    print("\n| in memory, of the processor | µs an alert |\n| --- | --: |")
    for text in ("severity>=high status:new since:-24h technique:T1001 host:host-1", "word7"):
        query = parse(text, now=END)
        began = time.process_time()
        for alert in alerts:
            matches(query, alert)
        print(f"| `matches`: `{text}` | {(time.process_time() - began) / rounds * 1e6:.1f} |", flush=True)


async def tell_groups(store: Store, alerts: int) -> None:
    """What must be read from the alerts themselves."""
    print("\n| groups of values, of the processor | ms | µs an alert |\n| --- | --: | --: |")
    for text in ("since:-24h", "severity>=high since:-7d"):
        for field_name in ("host", "technique", "rule"):
            query = parse(text, now=END)
            began = time.process_time()
            total = (await store.count_by(query, [field_name], 10)).total
            took = time.process_time() - began
            print(
                f"| `{text}` by {field_name}: {total:,} of {alerts:,} | {took * 1e3:.0f} | {took / max(total, 1) * 1e6:.1f} |"
            )


# ---------------------------------------------------------------- while saving goes on


@contextmanager
def saving_process(path: Path, alerts: int) -> Iterator[None]:
    """Another process that saves as fast as it can."""
    arguments = [sys.executable, __file__, "--save-into", str(path), "--alerts", str(alerts)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (this very script)
        assert process.stdout
        process.stdout.readline()
        try:
            yield
        finally:
            process.terminate()


async def keep_saving(path: Path | Store, alerts: int, ready: Callable[[], object]) -> None:
    """Save new alerts until cancelled, those of a later month."""
    if isinstance(path, Path):
        async with open_store(path) as store:
            await keep_saving(store, alerts, ready)
        return
    pages = [[made(n, alerts) for n in range(alerts + p * PAGE, alerts + (p + 1) * PAGE)] for p in range(20)]
    ready()
    for number in range(10**6):
        # in a thread, so that making them does not hold the event loop up
        await save(path, await anyio.to_thread.run_sync(shifted, pages[number % len(pages)], number))


def shifted(page: Sequence[Record], number: int) -> list[Record]:
    """The same alerts under other ids."""
    from msgspec import structs  # noqa: PLC0415 (used here only)

    return [
        Record(structs.replace(record.alert, vendor_id=f"{record.alert.vendor_id}-{number}"), record.raw)
        for record in page
    ]


async def beside(
    store: Store, alerts: int, work: Callable[[], Awaitable[dict[str, Compared]]]
) -> tuple[dict[str, Compared], list[float]]:
    """The work while this process saves, and how late its event loop was, in seconds."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await anyio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)

    async with anyio.create_task_group() as group:
        ready = anyio.Event()
        group.start_soon(keep_saving, store, alerts, ready.set)
        group.start_soon(watch)
        await ready.wait()
        times = await work()
        group.cancel_scope.cancel()
    return times, late


async def measure(folder: Path, alerts: int, rounds: int, *, busy: bool) -> None:
    path = folder / f"query-{alerts}.db"
    began = time.monotonic()
    await fill(path, alerts)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {alerts:,} alerts, "
        f"{path.stat().st_size / alerts / 1e3:.1f} KB an alert, {rounds} of each question (ready in {time.monotonic() - began:.0f} s)"
    )
    with ExitStack() as stack:
        connection = stack.enter_context(closing(open_reader(path)))
        server = None
        if absent := postgres.missing(folder):
            print(f"PostgreSQL is left out: {absent}.")
        else:
            server = stack.enter_context(postgres.running(folder / f"postgres-{alerts}", connection))
        async with open_store(path) as store:
            asker, asked = Asker(connection, server), Questions(store, connection, alerts).all()
            await asker.check(asked)
            await asker.timed(asked, 7)  # warm; the server plans a statement anew five times
            times = await asker.timed(asked, rounds)
            tell(f"{alerts:,} alerts", times)
            tell_matches(2_000)
            await tell_groups(store, alerts)
            reach = Reach()
            judge(times, reach)
            if busy:
                short = [question for question in asked if not question.name.startswith("how many")]
                await measure_busy(store, path, short, rounds, reach)
            reach.tell()


async def measure_busy(store: Store, path: Path, questions: Sequence[Question], rounds: int, reach: Reach) -> None:
    alerts = await store.count(Query())
    with closing(open_reader(path)) as connection:
        asker = Asker(connection)

        async def work() -> dict[str, Compared]:
            return await asker.timed(questions, rounds)

        with saving_process(path, alerts):
            other = await work()
        tell_busy("while another process saves", other)
        this, late = await beside(store, alerts, work)
    tell_busy("while this process saves", this)
    print(f"\nlateness of its event loop: {figures(late)[0]:.2f} / {figures(late)[1]:.2f} ms")
    for place, times in (("another process", other), ("this process", this)):
        slowest = max(figures(each.ours.clock)[1] for each in times.values())
        reach.at_most(f"the slowest question while {place} saves, p99", 1, slowest, " ms")
    reach.at_most("lateness of the event loop while this process saves, p99", 5, figures(late)[1], " ms")


def judge(times: dict[str, Compared], reach: Reach) -> None:
    """The rows that are about the store at rest."""
    clock = {name: figures(each.ours.clock) for name, each in times.items()}
    five = times[FIVE]
    reach.at_most("five filters, newest 20: p99", 0.7, clock[FIVE][1], " ms")
    by_hand = figures(five.ours.worked)[0] / figures(five.theirs.worked)[0]
    reach.at_most("five filters, of the processor, against SQL by hand: p50", 2, by_hand, " times")
    if five.postgres.clock:
        ratios = {name: clock[name][0] / figures(each.postgres.clock)[0] for name, each in times.items()}
        slowest = max(ratios, key=lambda name: ratios[name])
        kept = sum(each <= 1 for each in ratios.values())
        what = (
            f"against PostgreSQL, p50: as fast on {kept} of {len(ratios)} questions, and where it is best ({slowest})"
        )
        reach.at_most(what, 1, ratios[slowest], " times")
    reach.at_most("the page at half depth against page one, p50", 1.5, clock[DEEP][0] / clock[FIRST][0], " times")
    reach.at_most("a word, newest 20: p99", 1, clock[WORD][1], " ms")
    reach.at_most(
        "counts by severity, status, day: the slowest p99", 0.5, max(clock[name][1] for name in TALLIED), " ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=300, help="times that each question is asked")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the store for the next run")
    parser.add_argument("--busy", action="store_true", help="ask while saving goes on, too: the store grows by it")
    parser.add_argument("--save-into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    suit_python()  # as the program does
    if options.save_into:
        anyio.run(keep_saving, options.save_into, options.alerts, lambda: print("ready", flush=True))
        return
    with tempfile.TemporaryDirectory(prefix="xdr-mcp-bench-") as temporary:
        Path(temporary).chmod(0o755)  # PostgreSQL runs as a user of its own where this is root
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        anyio.run(partial(measure, folder, options.alerts, options.rounds, busy=options.busy))


if __name__ == "__main__":
    main()
