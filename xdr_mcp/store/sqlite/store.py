"""The store in one SQLite file, shared by any number of processes on one machine.

Every method is one transaction or one snapshot; what it promises is told in ``interfaces.Store``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import anyio
import apsw
import msgspec
from anyio.lowlevel import checkpoint

from xdr_mcp.interfaces import (
    DeadLetter,
    Forgotten,
    Found,
    Grouped,
    Health,
    Keep,
    Lease,
    Page,
    Position,
    Saved,
    SinkState,
    SourceState,
    Window,
)
from xdr_mcp.query import facets, keyword
from xdr_mcp.store.sqlite import proposals, retention, revisions, sources
from xdr_mcp.store.sqlite.bell import Bell
from xdr_mcp.store.sqlite.counting import grouped
from xdr_mcp.store.sqlite.file import explained
from xdr_mcp.store.sqlite.glance import Glance, TooLong, look_often, short, short_count, short_summary
from xdr_mcp.store.sqlite.keys import microseconds, moment
from xdr_mcp.store.sqlite.listing import asked, counted, listed
from xdr_mcp.store.sqlite.past import seq_at
from xdr_mcp.store.sqlite.restoring import restore_changes
from xdr_mcp.store.sqlite.saving import heads_of, save_page
from xdr_mcp.store.sqlite.tidying import merge_some
from xdr_mcp.store.sqlite.versions import Prepared, make_forms, prepare
from xdr_mcp.store.sqlite.vocabulary import known_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from xdr_mcp.alert import Change, KeptChange
    from xdr_mcp.interfaces import Clock
    from xdr_mcp.proposal import AuditNote, AuditRow, Proposal, ProposalState
    from xdr_mcp.query import Query
    from xdr_mcp.store.sqlite.database import Database

TURN = 0.001
"""Seconds of reading on the event loop after which others have a turn before the next read; a turn costs more than most reads."""

_T = TypeVar("_T")


class SqliteStore:
    """``interfaces.Store`` over a ``Database`` that is open."""

    def __init__(self, database: Database, path: Path, clock: Clock) -> None:
        self._database = database
        self._path = path
        self._clock = clock
        self._lags = sources.Lags()
        self._last_save = anyio.Event()
        self._last_save.set()
        self._glance = Glance(path)
        self._glanced = 0.0
        """Since the last turn of the event loop."""
        self._newest = 0
        self._bell = Bell(self._look)

    # -- the poller's side

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> Lease | None:
        """See ``Store.acquire``."""
        return await self._database.write(
            lambda connection: sources.acquire(connection, name, holder, self._clock(), ttl)
        )

    async def release(self, lease: Lease) -> None:
        """See ``Store.release``."""
        await self._database.write(lambda connection: sources.release(connection, lease))

    async def save(self, source: str, page: Page, lease: Lease) -> Saved:
        """See ``Store.save``."""
        before, done = self._last_save, anyio.Event()
        self._last_save = done
        try:
            try:
                prepared = await self._prepare(page)
            finally:  # pages are written in the order they came, whichever of them fails or is cancelled
                with anyio.CancelScope(shield=True):
                    await before.wait()
            return await self._database.write(lambda connection: self._save(connection, source, prepared, lease))
        finally:  # it may be saved though the caller was cancelled
            done.set()
            self._bell.ring()

    async def _prepare(self, page: Page) -> Prepared:
        prepared = await self._database.compute(lambda: prepare(page))
        uids = {version.uid for version in prepared.versions}
        heads = await self._database.read(lambda connection: heads_of(connection, uids))
        known = {(uid, head.updated, head.digest) for uid, head in heads.items()}
        await self._database.compute(lambda: make_forms(prepared.versions, known))
        return prepared

    def _save(self, connection: apsw.Connection, source: str, prepared: Prepared, lease: Lease) -> Saved:
        sources.fence(connection, lease)
        now = self._clock()  # not before the lock was had, so that times of saving follow seq
        return save_page(connection, prepared, source=source, lease=lease.name, now=now)

    async def cover(self, source: str, window: Window, lease: Lease) -> None:
        """See ``Store.cover``."""

        def work(connection: apsw.Connection) -> None:
            sources.fence(connection, lease)
            sources.cover(connection, sources.source_id(connection, source, lease.name), window)

        await self._database.write(work)

    async def uncover(self, source: str, window: Window, lease: Lease) -> None:
        """See ``Store.uncover``."""

        def work(connection: apsw.Connection) -> None:
            sources.fence(connection, lease)
            sources.uncover(connection, sources.source_id(connection, source, lease.name), window)

        await self._database.write(work)

    async def report(self, source: str, health: Health, lease: Lease | None) -> None:
        """See ``Store.report``."""

        def work(connection: apsw.Connection) -> None:
            if lease is not None:
                sources.fence(connection, lease)
            number = sources.source_id(connection, source, lease.name if lease else None)
            connection.execute("UPDATE sources SET health = ? WHERE id = ?", (msgspec.json.encode(health), number))

        await self._database.write(work)

    def memory(self, source: str) -> SourceMemory:
        """See ``Store.memory``."""
        return SourceMemory(self._database, source)

    # -- what an archive kept

    async def restore(self, changes: Sequence[Change]) -> int:
        """See ``Store.restore``."""
        try:
            return await self._database.write(lambda connection: restore_changes(connection, changes))
        finally:
            self._bell.ring()

    # -- what need not be kept for ever

    async def forget(
        self, keep: Keep, needed: Mapping[str, Sequence[Window]], sinks: Sequence[str], lease: Lease
    ) -> Forgotten:
        """See ``Store.forget``."""
        return await retention.forget(self._database, keep, needed, sinks, lease)

    async def tidy(self) -> bool:
        """See ``Store.tidy``."""
        return await self._database.write(merge_some)

    # -- the asker's side

    async def get(self, alert_id: str, as_of: datetime | None = None) -> Change | None:
        """See ``Store.get``."""
        if (uid := _uid(alert_id)) is None:
            return None
        if as_of is None:
            return await self._glance_at(lambda connection: revisions.change_at(connection, uid, None))
        return await self._database.read(
            lambda connection: revisions.change_at(connection, uid, seq_at(connection, as_of))
        )

    async def revisions(self, alert_id: str, limit: int) -> tuple[Change, ...]:
        """See ``Store.revisions``."""
        if (uid := _uid(alert_id)) is None:
            return ()
        return await self._database.read(lambda connection: revisions.changes_of(connection, uid, limit))

    async def find(
        self,
        query: Query,
        limit: int,
        after: Position | None = None,
        as_of: datetime | None = None,
        most: int | None = None,
    ) -> Found:
        """See ``Store.find``."""

        def page(connection: apsw.Connection) -> Found:
            return listed(connection, asked(connection, query, as_of), limit, after, most)

        def glance(connection: apsw.Connection) -> Found:
            question = asked(connection, query, walking=True)
            if question.where.lists > 1:
                look_often(connection)
            return listed(connection, question, limit, after, most)

        if as_of is None and short(query.root, limit, most):
            return await self._glance_at(glance, page)
        return await self._database.read(page)

    async def count(self, query: Query, as_of: datetime | None = None, most: int | None = None) -> int:
        """See ``Store.count``."""
        read = self._glance_at if as_of is None and short_count(query.root) else self._database.read
        return await read(lambda connection: counted(connection, asked(connection, query, as_of), most))

    async def count_by(self, query: Query, by: Sequence[str], limit: int, as_of: datetime | None = None) -> Grouped:
        """See ``Store.count_by``."""
        chosen = facets(by)
        read = self._glance_at if as_of is None and short_summary(query.root, chosen) else self._database.read
        return await read(lambda connection: grouped(connection, asked(connection, query, as_of), chosen, limit))

    async def values(self, field: str, prefix: str, limit: int) -> tuple[str, ...]:
        """See ``Store.values``."""
        name = keyword(field)
        return await self._database.read(lambda connection: known_values(connection, name, prefix, limit))

    async def states(self) -> tuple[SourceState, ...]:
        """See ``Store.states``."""

        def work(connection: apsw.Connection) -> tuple[SourceState, ...]:
            return sources.states(connection, self._clock(), self._lags)

        def glance(connection: apsw.Connection) -> tuple[SourceState, ...]:
            if not self._lags.current(connection):
                raise TooLong
            return work(connection)

        return await self._glance_at(glance, work)

    # -- the followers' side

    async def changes(self, after: int, limit: int) -> tuple[Change, ...]:
        """See ``Store.changes``."""
        return await self._database.read(lambda connection: revisions.changes_after(connection, after, limit))

    async def kept_changes(self, after: int, limit: int) -> tuple[KeptChange, ...]:
        """See ``Store.kept_changes``."""
        return await self._database.read(lambda connection: revisions.kept_changes_after(connection, after, limit))

    async def last_seq(self) -> int:
        """See ``Store.last_seq``."""
        return await self._glance_at(revisions.newest_seq)

    async def wait(self, after: int, timeout: float) -> bool:  # noqa: ASYNC109 (a time-out is an answer here)
        """See ``Store.wait``."""
        return await self._bell.wait(after, timeout)

    # -- what a person decides on

    async def propose(self, proposal: Proposal) -> Proposal:
        """See ``Store.propose``."""
        return await self._database.write(lambda connection: proposals.propose(connection, proposal, self._clock()))

    async def proposal(self, number: int) -> Proposal | None:
        """See ``Store.proposal``."""
        return await self._database.read(lambda connection: proposals.by_number(connection, number))

    async def proposals(self, *states: ProposalState, limit: int = 100) -> tuple[Proposal, ...]:
        """See ``Store.proposals``."""
        return await self._database.read(lambda connection: proposals.in_states(connection, states, limit))

    async def decide(self, proposal: Proposal, was: ProposalState, note: AuditNote) -> Proposal:
        """See ``Store.decide``."""
        return await self._database.write(
            lambda connection: proposals.decide(connection, proposal, was, note, self._clock())
        )

    async def audit(self, after: int, limit: int) -> tuple[AuditRow, ...]:
        """See ``Store.audit``."""
        return await self._database.read(lambda connection: proposals.audit_after(connection, after, limit))

    # -- durable readers

    async def position(self, sink: str) -> int:
        """See ``Store.position``."""
        return await self._database.read(
            lambda connection: connection.execute("SELECT seq FROM positions WHERE sink = ?", (sink,)).get or 0
        )

    async def move(self, sink: str, seq: int) -> None:
        """See ``Store.move``."""
        await self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO positions (sink, seq) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
                (sink, seq),
            )
        )

    async def bury(self, letter: DeadLetter) -> None:
        """See ``Store.bury``."""
        await self._database.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO dead_letters (sink, seq, reason, at) VALUES (?, ?, ?, ?)",
                (letter.sink, letter.seq, letter.reason, microseconds(letter.at)),
            )
        )

    async def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """See ``Store.dead_letters``."""

        def work(connection: apsw.Connection) -> tuple[DeadLetter, ...]:
            rows = connection.execute(
                "SELECT sink, seq, reason, at FROM dead_letters ORDER BY at DESC, id DESC LIMIT ?", (limit,)
            )
            return tuple(DeadLetter(sink=sink, seq=seq, reason=reason, at=moment(at)) for sink, seq, reason, at in rows)

        return await self._database.read(work)

    async def sinks(self) -> tuple[SinkState, ...]:
        """See ``Store.sinks``."""

        def work(connection: apsw.Connection) -> tuple[SinkState, ...]:
            rows = connection.execute(
                "SELECT sink, max(seq), sum(letters) FROM ("
                "SELECT sink, seq, 0 AS letters FROM positions UNION ALL SELECT sink, 0, 1 FROM dead_letters"
                ") GROUP BY sink ORDER BY sink"
            )
            return tuple(SinkState(sink=sink, position=seq, dead_letters=letters) for sink, seq, letters in rows)

        return await self._database.read(work)

    async def forget_sink(self, sink: str, lease: Lease) -> None:
        """See ``Store.forget_sink``."""

        def work(connection: apsw.Connection) -> None:
            sources.fence(connection, lease)
            for table in ("positions", "dead_letters"):
                connection.execute(f"DELETE FROM {table} WHERE sink = ?", (sink,))  # noqa: S608 (named just above)

        await self._database.write(work)

    async def _glance_at(
        self, work: Callable[[apsw.Connection], _T], otherwise: Callable[[apsw.Connection], _T] | None = None
    ) -> _T:
        """What ``work`` reads in some microseconds, here.

        While somebody has the file locked, or when it takes longer, in a thread: by ``otherwise``, where there is another way.
        """
        if self._glanced > TURN:
            await checkpoint()
        if not self._glanced:
            asyncio.get_running_loop().call_soon(self._turned)
        began = perf_counter()
        try:
            with explained(self._path), suppress(apsw.BusyError, TooLong):
                return self._glance(work)
        finally:
            self._glanced += perf_counter() - began
        return await self._database.read(otherwise or work)

    def _turned(self) -> None:
        self._glanced = 0.0

    def _look(self) -> int:
        """The newest seq, as far as it can be seen without waiting."""
        with explained(self._path), suppress(apsw.BusyError):
            self._newest = self._glance(revisions.newest_seq)
        return self._newest

    def close(self) -> None:
        """Let go of what is not the database's own; who still waits is told."""
        self._glance.close()
        self._bell.ring()


class SourceMemory:
    """``interfaces.Memory`` of one source."""

    def __init__(self, database: Database, source: str) -> None:
        self._database = database
        self._source = source

    async def recall(self, key: str) -> str | None:
        """See ``Memory.recall``."""
        return await self._database.read(lambda connection: self._recall(connection, key))

    async def remember(self, key: str, value: str) -> None:
        """See ``Memory.remember``."""
        await self._database.write(lambda connection: self._remember(connection, key, value))

    async def amend(self, key: str, change: Callable[[str | None], str]) -> str:
        """See ``Memory.amend``."""

        def work(connection: apsw.Connection) -> str:
            value = change(self._recall(connection, key))
            self._remember(connection, key, value)
            return value

        return await self._database.write(work)

    def _recall(self, connection: apsw.Connection, key: str) -> str | None:
        found = connection.execute("SELECT value FROM memory WHERE source = ? AND key = ?", (self._source, key))
        return None if (value := found.get) is None else str(value)

    def _remember(self, connection: apsw.Connection, key: str, value: str) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO memory (source, key, value) VALUES (?, ?, ?)", (self._source, key, value)
        )


def _uid(alert_id: str) -> bytes | None:
    try:
        return revisions.uid_of(alert_id)
    except UnicodeEncodeError:  # a lone surrogate: no alert has such an id
        return None
