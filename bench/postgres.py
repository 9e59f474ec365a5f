"""The same alerts in PostgreSQL, for ``query.py`` to ask: a cluster of its own in a folder, on a socket there, as anybody would tune it.

The tables hold what the questions ask and no more (three indexes and two narrow tables of values), so that whatever is unfair is in
PostgreSQL's favour: no revisions, no journal, no tallies, one field of text. The server gets a gigabyte of shared buffers, where
the store's reader has 8 MB. Questions go through psycopg on one connection, binary and prepared.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw

from xdr_mcp.alert import EntityKind
from xdr_mcp.store.sqlite.revisions import alert_of

SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "random_page_cost": "1.1",
    "synchronous_commit": "off",
    "jit": "off",  # it costs more than these questions
    "max_parallel_workers_per_gather": "0",  # one processor for each who is asked
}
SCHEMA = """
CREATE TABLE alerts (
  key bigint NOT NULL, id text NOT NULL, seq bigint NOT NULL, created bigint NOT NULL,
  severity smallint NOT NULL, status smallint NOT NULL, words tsvector NOT NULL, body bytea NOT NULL, raw bytea NOT NULL
);
CREATE TABLE hosts (host text NOT NULL, key bigint NOT NULL);
CREATE TABLE techniques (technique text NOT NULL, key bigint NOT NULL);
"""
INDEXES = """
ALTER TABLE alerts ADD PRIMARY KEY (key);
CREATE UNIQUE INDEX ON alerts (id);
CREATE INDEX ON alerts (key, severity, status, created);
CREATE INDEX ON alerts USING gin (words);
ALTER TABLE hosts ADD PRIMARY KEY (host, key);
ALTER TABLE techniques ADD PRIMARY KEY (technique, key);
"""

Ask = Callable[["Postgres"], list[Any]]
Row = tuple[object, ...]


class Postgres:
    """One connection."""

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor(binary=True)
        self._pid = connection.info.backend_pid

    def rows(self, sql: str, *parameters: str | int) -> list[Any]:
        rows: list[Any] = self._cursor.execute(sql, parameters, prepare=True).fetchall()
        return rows

    def worked(self) -> float:
        """Processor seconds of the process that serves this connection (``clock_getcpuclockid(3)``); Linux has a clock for each."""
        return time.clock_gettime(~self._pid << 3 | 2)


def rows(sql: str, *parameters: str | int) -> Ask:
    """Whatever it says."""
    return lambda postgres: postgres.rows(sql, *parameters)


def alerts_of(sql: str, *parameters: str | int) -> Ask:
    """The alerts whose bodies it selects."""
    return lambda postgres: [alert_of(body) for (body,) in postgres.rows(sql, *parameters)]


def missing(folder: Path) -> str:
    """What is to be seen to first; empty when nothing is."""
    if sys.platform != "linux":
        return "no other system tells the processor time of each of its processes as Linux does"
    if not _programs():
        return "its server is not installed (Debian and Ubuntu: apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return 'psycopg is not installed (.venv/bin/python -m pip install "psycopg[binary]")'
    if os.geteuid() == 0 and not _user():
        return "its server refuses to run as root, and there is no user named postgres or nobody"
    user = _user() if os.geteuid() == 0 else None
    if user and subprocess.run(["/usr/bin/test", "-x", folder], user=user, check=False, cwd="/").returncode:  # noqa: S603 (what is written here)
        return f"its server refuses to run as root, and {user} cannot go into {folder}"
    return ""


def _programs() -> Path | None:
    """The folder of the server's programs, which Debian keeps off the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else versions[-1:]
    return found[0].resolve().parent if found else None


def _user() -> str | None:
    import pwd  # noqa: PLC0415 (POSIX only)

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


@contextmanager
def running(folder: Path, store: apsw.Connection) -> Iterator[Postgres]:
    """A server whose cluster is in the folder, filled with the store's alerts unless an earlier run did that and none came since."""
    user = _user() if os.geteuid() == 0 else None
    folder.mkdir(exist_ok=True)
    if user:
        shutil.chown(folder, user)
    programs, data = _programs(), folder / "data"
    assert programs
    with TemporaryDirectory(prefix="xdr-mcp-pg-") as sockets:  # a socket's path is short
        if user:
            shutil.chown(sockets, user)
        if not (data / "PG_VERSION").exists():
            made = ["--username=bench", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]
            subprocess.run(  # noqa: S603 (what is written here)
                [programs / "initdb", f"--pgdata={data}", *made],
                user=user,
                check=True,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
        options = [option for name, value in SETTINGS.items() for option in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(  # noqa: S603 (as above)
                [programs / "postgres", "-D", data, "-k", sockets, *options], user=user, stdout=log, stderr=log, cwd="/"
            )
        try:
            with _connected(sockets, server) as connection:
                _fill(connection, store)
                yield Postgres(connection)
        finally:
            server.terminate()
            server.wait()


def _connected(sockets: str, server: subprocess.Popen[bytes]) -> Any:
    psycopg: Any = importlib.import_module("psycopg")
    for _ in range(100):
        try:
            return psycopg.connect(f"host={sockets} user=bench dbname=postgres", autocommit=True)
        except psycopg.OperationalError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not start; its folder has a log")


def _fill(connection: Any, store: apsw.Connection) -> None:
    if connection.execute("SELECT to_regclass('filled')").fetchone()[0]:
        (held,) = connection.execute("SELECT count(*) FROM alerts").fetchone()
        if held == store.execute("SELECT count(*) FROM alerts").get:
            return
    connection.execute("DROP TABLE IF EXISTS alerts, hosts, techniques, filled")
    connection.execute(SCHEMA)
    heads = store.execute(
        "SELECT a.key, a.seq, a.created, a.severity, a.status, c.body, c.raw"
        " FROM alerts AS a CROSS JOIN changes AS c ON c.seq = a.seq ORDER BY a.key"
    )
    while page := list(islice(heads, 5_000)):
        alerts: list[Row] = []
        hosts: list[Row] = []
        techniques: list[Row] = []
        for key, seq, created, severity, status, body, raw in page:
            alert = alert_of(body)
            words = " ".join(sorted({*f"{alert.title} {alert.description}".split()}))
            alerts.append((key, alert.id, seq, created, severity, status, words, body, raw))
            named = {entity.value for entity in alert.entities if entity.kind is EntityKind.HOST}
            hosts += [(host, key) for host in named]
            techniques += [(each, key) for each in {attack.technique for attack in alert.attacks}]
        for table, copied in (("alerts", alerts), ("hosts", hosts), ("techniques", techniques)):
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for row in copied:
                    copy.write_row(row)
    connection.execute(INDEXES)
    connection.execute("VACUUM ANALYZE")
    connection.execute("CREATE TABLE filled ()")
