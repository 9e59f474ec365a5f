"""Joins everything: settings → places, store, sources, pollers, deliveries, server. The only module that names concrete parts.

What is costly to import (the MCP SDK: about a second; the HTTP client and the simulator: a fifth of one) is imported where
it is used, so that ``xdr-mcp --help``, ``alerts`` and ``status`` answer at once.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from pydantic import BaseModel, SecretStr

from xdr_mcp import __version__, rebuild, telemetry
from xdr_mcp.alert import Change
from xdr_mcp.delivery import Delivery, lease_name
from xdr_mcp.errors import LeaseLost, SettingsError, StoreUnusable, XdrMcpError
from xdr_mcp.interfaces import ContextSource, Health, Memory, SinkState, Source, SourceType, Store, Triage, utc_now
from xdr_mcp.lease import TTL, holder_name
from xdr_mcp.places import Places, places
from xdr_mcp.planning import Pace
from xdr_mcp.poller import Poller, PollReport, read_again
from xdr_mcp.proposal import AuditEntry, AuditRow, Verification, verify
from xdr_mcp.query import Query, matches
from xdr_mcp.retention import Policy, Retention
from xdr_mcp.settings import Choice, Configuration, Settings, SourceName, load
from xdr_mcp.sinks.archive import Archive
from xdr_mcp.sinks.archived import ArchivedChanges, Tell
from xdr_mcp.triage import Approvals

if TYPE_CHECKING:  # a second to import
    from xdr_mcp.server import XdrServer
    from xdr_mcp.server.web import HttpOptions

log = logging.getLogger(__name__)

PROBE_PAUSE: Final = 2.0
"""Seconds before a server over stdio begins to poll: some assistants start one only to look at it, and end it at once."""

FOLLOWED_AT_ONCE: Final = 500
AUDITED_AT_ONCE: Final = 1_000
QUIET: Final = 30.0
"""Seconds to wait for a change before looking again anyway: a missed wake-up costs this, never data."""

Work = Callable[[], Coroutine[Any, Any, None]]
Progress = Callable[[PollReport], None]


SWITCH_INTERVAL: Final = 0.0005
"""Seconds that a thread may keep Python's lock while others wait, a tenth of the default: while a page is made ready in one
thread, the event loop answers and the thread that writes to the disk goes on."""

SINKS: Final = (Archive.name,)
"""The sinks that are fed."""


_DISABLED: Final = "correct the setting and start again; docs/configuration.md has every one"


def _silent(_: PollReport) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Setup:
    """What every command starts from."""

    configuration: Configuration
    places: Places
    trouble: telemetry.Counter

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings


def set_up(given: Mapping[str, Mapping[str, Any]] | None = None, *, alone: bool = False, quiet: bool = False) -> Setup:
    """Read the settings and start logging; touches no store and no network.

    ``given`` and ``alone`` are as for ``settings.load``. With ``quiet`` only errors are logged, unless debugging was asked
    for: the command's result says it all.

    Raises:
        SettingsError: a setting is wrong.
    """
    configuration = load(given, alone=alone)
    settings = configuration.settings
    level = "error" if quiet and settings.log_level != "debug" else settings.log_level
    trouble = telemetry.configure(level, settings.log_format)
    if settings.http_token:
        telemetry.hide(settings.http_token.get_secret_value())
    for choice in configuration.choices:
        log.debug("%s=%s (%s)", choice.variable, choice.shown, choice.origin)
    return Setup(configuration, places(configuration), trouble)


def pace(settings: Settings) -> Pace:
    """How often, and how far back, the settings say."""
    return Pace(
        interval=settings.poll_interval,
        initial_lookback=settings.initial_lookback,
        shortest_look_back=settings.shortest_look_back,
        longest_look_back=settings.longest_look_back,
        rescan_every=settings.rescan_every,
        rescan_span=settings.rescan_span,
    )


def policy(settings: Settings) -> Policy:
    """What the store keeps, as the settings say."""
    return Policy(age=settings.keep, alerts=settings.keep_alerts, size=settings.keep_bytes)


# ---------------------------------------------------------------- the parts


def suit_python() -> None:
    """Fit Python to threads that share its lock, and to objects that come and go by the thousand beside modules that stay."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what is loaded by now need not be looked through for cycles again and again


@asynccontextmanager
async def keeping(setup: Setup) -> AsyncIterator[Store]:
    """The store, made where it is not there yet, and the folders beside it.

    Raises:
        SettingsError: a folder cannot be made. StoreUnusable: the store cannot be opened.
    """
    from xdr_mcp.store import open_store  # noqa: PLC0415 (see the module's docstring)

    suit_python()
    if setup.places.moved:
        log.warning("%s", setup.places.moved)
    setup.places.make()
    log.info("store: %s; archive: %s", setup.places.store, setup.places.alerts)
    async with open_store(setup.places.store) as store:
        yield store


@asynccontextmanager
async def looking(setup: Setup) -> AsyncIterator[Store]:
    """The store, to ask it: makes nothing, calls nobody.

    Raises:
        StoreUnusable: there is none yet, or it cannot be opened.
    """
    from xdr_mcp.store import open_store  # noqa: PLC0415 (see the module's docstring)

    if not setup.places.store.exists():
        raise StoreUnusable(
            f"there is no store at {setup.places.store} yet; `xdr-mcp poll` makes one, and XDR_DATA_DIR says where it lies"
        )
    async with open_store(setup.places.store) as store:
        yield store


def source_type(source: SourceName) -> SourceType:
    """The vendor's module behind a configured source.

    Raises:
        SettingsError: there is no such type, or what it needs is not installed.
    """
    from xdr_mcp.sources import source_types  # noqa: PLC0415 (see the module's docstring)

    return source_types()[source.type]


@asynccontextmanager
async def open_source(setup: Setup, source: SourceName, memory: Memory) -> AsyncGenerator[Source]:
    """One source, connected lazily; its secrets are blotted out of log lines from now on.

    Raises:
        SettingsError: an option is missing or wrong, or there is no such source type.
    """
    kind = source_type(source)
    options, choices = setup.configuration.options(source, kind.Options)
    for choice in choices:
        log.debug("%s=%s (%s)", choice.variable, choice.shown, choice.origin)
    async with kind.open(source.name, options, memory) as opened:
        if not opened.idle_reason:  # the dummy credential is no secret, and is to be told
            _hide_secrets(options)
        yield opened


def _hide_secrets(options: BaseModel) -> None:
    for name in type(options).model_fields:
        if isinstance(value := getattr(options, name), SecretStr):
            telemetry.hide(value.get_secret_value())


def chosen_settings(setup: Setup) -> list[Choice]:
    """Every setting in force, the sources' own included as far as they can be read."""
    choices = list(setup.configuration.choices)
    for source in setup.settings.sources:
        with suppress(SettingsError):  # told by who opens the source
            choices += setup.configuration.options(source, source_type(source).Options)[1]
    return choices


def warn_of_unknown(setup: Setup) -> None:
    """Log a line for each variable and key that nothing reads."""
    for line in unknown_settings(setup):
        log.warning("%s", line)


def unknown_settings(setup: Setup) -> list[str]:
    """A line for each variable and key that nothing reads; none where a source's type, and so what it reads, is not known."""
    try:
        options = [(source, source_type(source).Options) for source in setup.settings.sources]
    except SettingsError:  # told by who opens the source
        return []
    return setup.configuration.unknown(options)


# ---------------------------------------------------------------- headless polling


async def poll_once(setup: Setup, progress: Progress = _silent, *, since: datetime | None = None) -> list[PollReport]:
    """Read everything that is due from every source, and archive it. One source's failure does not stop the others.

    With ``since``, history begins there from now on, for whoever polls.

    Raises:
        SettingsError, SourceError, StoreError, SinkError: the first failure; further ones are logged.
    """
    warn_of_unknown(setup)
    reports: list[PollReport] = []
    failures: list[XdrMcpError] = []
    async with keeping(setup) as store:
        name = holder_name()
        delivery = Delivery(_archive(setup), store, holder=name)
        async with anyio.create_task_group() as beside:
            beside.start_soon(delivery.run)
            for source in setup.settings.sources:
                try:
                    async with open_source(setup, source, store.memory(source.name)) as opened:
                        poller = Poller(opened, store, pace=pace(setup.settings), holder=name, progress=progress)
                        if since is not None:
                            await poller.reach_back(since)
                        reports.append(await poller.once())
                except XdrMcpError as error:
                    failures.append(error)
            beside.cancel_scope.cancel()
        try:
            await delivery.drain()
            await _retention(setup, store, name).once()
        except XdrMcpError as error:
            failures.append(error)
    for failure in failures[1:]:
        log.error("%s", failure)
    if failures:
        raise failures[0]
    return reports


async def poll(setup: Setup, progress: Progress = _silent) -> None:
    """Poll every source and feed the archive, for ever.

    Raises:
        SettingsError, StoreUnusable: nothing could be started. Once running, every failure is told and retried.
    """
    if not setup.settings.poll_enabled:
        raise SettingsError("XDR_POLL_ENABLED is false, so there is nothing to poll; set it to true, or leave it out")
    warn_of_unknown(setup)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(keeping(setup))
        opened = [
            await stack.enter_async_context(open_source(setup, source, store.memory(source.name)))
            for source in setup.settings.sources
        ]
        await _together(_filling(setup, store, opened, progress))


async def rebuild_store(setup: Setup, folder: Path, left_out: Tell, progress: rebuild.Progress) -> rebuild.Rebuilt:
    """Put back into the store what an archive tells; ``left_out`` is told of every file that is not whole.

    Raises:
        SettingsError: there is no such archive, or the store holds other alerts.
        StoreError: the store cannot be used, or somebody polls into it.
    """
    if not await anyio.Path(folder).is_dir():
        raise SettingsError(f"--from {folder}: there is no such folder")
    async with keeping(setup) as store:
        with closing(ArchivedChanges(folder, left_out)) as archived:
            rebuilt = await rebuild.rebuild_store(archived, store, progress)
        if await anyio.Path(folder).samefile(setup.places.alerts):  # what lies there need not be delivered there
            await store.move(Archive.name, rebuilt.last_seq)
    return rebuilt


async def rebuild_archive(setup: Setup, left_out: Tell, progress: rebuild.Progress) -> int:
    """Write what the archive lacks of everything stored; how many changes that is. Damaged files are told, not replaced.

    Raises:
        StoreError: there is no store, it cannot be used, or another process feeds the archive. SinkError: nor can the folder.
    """
    async with looking(setup) as store:
        delivery = Delivery(_archive(setup), store, holder=holder_name())
        delivered = await delivery.redeliver(lambda number: progress(f"{number:,} changes archived"))
    with closing(ArchivedChanges(setup.places.alerts, left_out)) as archived:
        await rebuild.scan(archived, progress)
    return delivered


async def forget_sink(setup: Setup, sink: str) -> SinkState:
    """Drop the position and dead letters of a sink that is no more, and say where it stood.

    Raises:
        SettingsError: it is fed still, or was never known.
        StoreError: there is no store, it cannot be used, or another process feeds the sink.
    """
    if sink in SINKS:
        raise SettingsError(f"{sink} is a sink of this program and is fed; only one that is no more can be forgotten")
    async with looking(setup) as store:
        known = {state.sink: state for state in await store.sinks()}
        if sink not in known:
            raise SettingsError(
                f"no sink {sink!r} was ever fed from this store; known are {', '.join(known) or 'none'}"
            )
        lease = await store.acquire(lease_name(sink), holder_name(), TTL)
        if lease is None:
            raise LeaseLost(f"another process feeds {sink} still; stop it first")
        await store.forget_sink(sink, lease)
        await store.release(lease)
        return known[sink]


def _filling(setup: Setup, store: Store, sources: list[Source], progress: Progress = _silent) -> list[Work]:
    """What fills the store and what follows it durably, each to be run for ever."""
    name = holder_name()
    pollers = [Poller(source, store, pace=pace(setup.settings), holder=name, progress=progress) for source in sources]
    works: list[Work] = [*(poller.run for poller in pollers), Delivery(_archive(setup), store, holder=name).run]
    if setup.settings.triage != "off":
        works.append(Approvals(store, writable(sources), holder=name).run)
    return [*works, _retention(setup, store, name).run] if policy(setup.settings) else works


def _retention(setup: Setup, store: Store, holder: str) -> Retention:
    return Retention(
        store,
        policy(setup.settings),
        read_again=partial(read_again, store, pace(setup.settings)),
        sinks=SINKS,
        holder=holder,
    )


def _archive(setup: Setup) -> Archive:
    return Archive(setup.places.alerts, version=__version__)


async def _together(works: list[Work]) -> None:
    async with anyio.create_task_group() as group:
        for work in works:
            group.start_soon(work)


# ---------------------------------------------------------------- serving


async def serve_stdio(setup: Setup) -> None:
    """Serve one assistant over stdin and stdout, and poll beside, until it leaves or a signal comes.

    Raises:
        SettingsError, StoreUnusable: the server could not be started.
    """
    async with AsyncExitStack() as stack:
        with _starting():
            from xdr_mcp.server.stdio import serve_stdio  # noqa: PLC0415 (see the module's docstring)

            server = await stack.enter_async_context(serving(setup, pause=PROBE_PAUSE))
        await serve_stdio(server)


@contextmanager
def _starting() -> Iterator[None]:
    """Collect no garbage while a thousand classes are made: it would find none, and take a tenth of the time to start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def serve_http(setup: Setup, ready: Callable[[str], None]) -> None:
    """Serve any number of assistants over HTTP, and poll beside, until a signal comes. ``ready`` is told the URL.

    Raises:
        SettingsError, StoreUnusable: the server could not be started.
    """
    from xdr_mcp.server.web import serve_http  # noqa: PLC0415 (see the module's docstring)

    options = http_options(setup.settings)
    async with serving(setup) as server:
        await serve_http(server, options, ready=ready)


def http_options(settings: Settings) -> HttpOptions:
    """Where to listen and whom to let in, as the settings say.

    Raises:
        SettingsError: others could reach the server and nothing keeps them out.
    """
    from xdr_mcp.server.web import HttpOptions  # noqa: PLC0415 (see the module's docstring)

    options = HttpOptions(
        host=settings.http_host,
        port=settings.http_port,
        allowed_hosts=settings.http_allowed_hosts,
        allowed_origins=settings.http_allowed_origins,
        token=settings.http_token.get_secret_value() if settings.http_token else "",
        unauthenticated=settings.http_unauthenticated,
        stale_after=max(timedelta(minutes=15), 3 * settings.poll_interval),
    )
    try:
        return options.checked()
    except SettingsError as error:
        names = "XDR_HTTP_HOST, XDR_HTTP_ALLOWED_HOSTS, XDR_HTTP_TOKEN, XDR_HTTP_UNAUTHENTICATED"
        raise SettingsError(f"{error} ({names})") from error


@asynccontextmanager
async def serving(setup: Setup, *, pause: float = 0.0) -> AsyncIterator[XdrServer]:
    """The server, with what fills the store to run beside it: begun ``pause`` seconds later.

    A source that is not configured rightly does not take the server down: what is stored can still be asked for.
    """
    from xdr_mcp.server import build_server  # noqa: PLC0415 (see the module's docstring)

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(keeping(setup))
        sources = _Sources(setup, store, stack)
        if not setup.settings.poll_enabled:
            log.info("XDR_POLL_ENABLED is false: following what other processes save")
        if setup.settings.triage != "off":
            await sources.open()  # whether one can be written to decides whether there is a tool that proposes
        yield build_server(
            store,
            version=__version__,
            cursor_key=_cursor_key(setup.places.data),
            facts=lambda: status_facts(setup) | setup.trouble.told(),
            contexts=sources.contexts,
            connect=sources.open if setup.settings.poll_enabled else None,
            background=[_later(pause, sources.fill_store)] if setup.settings.poll_enabled else [],
            approvals=_proposing(setup, store, sources.opened),
        )


class _Sources:
    """A server's sources, opened when they are first needed: an assistant's first question does not wait for an HTTP client."""

    def __init__(self, setup: Setup, store: Store, stack: AsyncExitStack) -> None:
        self._setup = setup
        self._store = store
        self._stack = stack
        self._open = False
        self._opening = anyio.Lock()
        self.opened: list[Source] = []
        self.contexts: dict[str, ContextSource] = {}
        """Those that can tell more about an alert, by name."""

    async def open(self) -> None:
        """Connect to all that are configured rightly, lazily; once."""
        async with self._opening:
            if self._open:
                return
            polled = self._setup.settings.poll_enabled
            async with AsyncExitStack() as stack:
                self.opened = await _open_configured(self._setup, self._store, stack, polled=polled)
                self._stack.push_async_exit(stack.pop_all())
            self._open = True  # not before: an opening that failed is tried again
            self.contexts |= {source.name: source for source in self.opened if isinstance(source, ContextSource)}

    async def fill_store(self) -> None:
        """Poll, and feed what follows, for ever."""
        warn_of_unknown(self._setup)
        await self.open()
        await _together(_filling(self._setup, self._store, self.opened))


async def _open_configured(setup: Setup, store: Store, stack: AsyncExitStack, *, polled: bool) -> list[Source]:
    """The sources that are configured rightly here; of the others a line is logged, and where they are ``polled`` it is kept."""
    opened: list[Source] = []
    for source in setup.settings.sources:
        try:
            opened.append(await stack.enter_async_context(open_source(setup, source, store.memory(source.name))))
        except SettingsError as error:
            if polled:
                await _report_disabled(store, source, str(error))
            lack = "is not polled" if polled else "cannot be written to"
            log.error("%s %s: %s", source.name, lack, error)  # noqa: TRY400 (the message says all; no traceback)
    return opened


async def _report_disabled(store: Store, source: SourceName, reason: str) -> None:
    """Tell why nobody polls a source, unless another process does."""
    known = {state.source: state for state in await store.states()}
    if source.name not in known or known[source.name].lease is None:
        health = Health(state="disabled", last_error=reason, remedy=_DISABLED, last_error_at=utc_now())
        await store.report(source.name, health, None)


# ---------------------------------------------------------------- writing back


def writable(sources: list[Source]) -> dict[str, Triage]:
    """The sources that can be written to, by name."""
    return {source.name: triage for source in sources if (triage := getattr(source, "triage", None)) is not None}


def _proposing(setup: Setup, store: Store, sources: list[Source]) -> Approvals | None:
    """Where an assistant's proposals go, where that is wanted and can come to something."""
    if setup.settings.triage == "off":
        return None
    if not (vendors := writable(sources)):
        log.warning("XDR_TRIAGE is %s, but no source can be written to: see docs/triage.md", setup.settings.triage)
        return None
    return Approvals(store, vendors, holder=holder_name())


@asynccontextmanager
async def deciding(setup: Setup, *, calling: bool) -> AsyncIterator[Approvals]:
    """The proposals, for a person to decide on; with ``calling`` the vendors can be asked and told, lazily.

    Raises:
        SettingsError: the vendors are to be called, and XDR_TRIAGE is off. StoreUnusable: there is no store.
    """
    if calling and setup.settings.triage == "off":
        raise SettingsError(
            "XDR_TRIAGE is off, so nothing is written to any vendor; set XDR_TRIAGE=approve (docs/triage.md)"
        )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(looking(setup))
        sources = await _open_configured(setup, store, stack, polled=False) if calling else []
        yield Approvals(store, writable(sources), holder=holder_name())


async def check_audit(setup: Setup, noted: str) -> tuple[tuple[AuditEntry, ...], Verification]:
    """The log of proposals, as far as it can be read, and what checking it found.

    Raises:
        StoreUnusable: there is no store.
    """
    async with looking(setup) as store:
        rows: list[AuditRow] = []
        while more := await store.audit(rows[-1].seq if rows else 0, AUDITED_AT_ONCE):
            rows += more
        proposals = await store.proposals(limit=sys.maxsize)
    found = verify(rows, proposals, noted)
    return tuple(row.entry for row in rows[: found.rows]), found


def _later(pause: float, work: Work) -> Work:
    async def begin() -> None:
        await anyio.sleep(pause)
        await work()

    return begin


def _cursor_key(folder: Path) -> bytes:
    """The key that signs cursors: one for all processes on a store, so that any of them takes another's cursor."""
    path = folder / "cursor.key"
    temporary = folder / f".cursor.key-{os.getpid()}"
    if not path.exists():
        temporary.touch(mode=0o600)
        temporary.write_bytes(secrets.token_bytes(32))
        try:
            os.link(temporary, path)  # takes what is whole, and the first
        except FileExistsError:  # another process was faster
            pass
        except OSError:  # a file system without links
            temporary.replace(path)
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


def status_facts(setup: Setup) -> dict[str, Any]:
    """What ``status`` tells beside what the store knows."""
    facts: dict[str, Any] = {"store": str(setup.places.store), "archive": str(setup.places.alerts)}
    if kept := str(policy(setup.settings)):
        facts["keeps"] = kept
    return facts | ({"note": setup.places.moved} if setup.places.moved else {})


async def follow(store: Store, query: Query, after: int, tell: Callable[[Change], None]) -> None:
    """Tell, for ever, of each change with a seq above ``after`` whose alert matches; whatever process saves it."""
    while True:
        for change in await store.changes(after, FOLLOWED_AT_ONCE):
            after = change.seq
            if matches(query, change.alert):
                tell(change)
        await store.wait(after, QUIET)
