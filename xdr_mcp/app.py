"""Joins everything that was set up and opened: store, sources, pollers, deliveries, retention, triage, server.

What is costly to import (the MCP SDK: about a second; the HTTP client and the simulator: a fifth of one) is imported where
it is used, so that ``xdr-mcp --help``, ``alerts`` and ``status`` answer at once.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from xdr_mcp import __version__, rebuild
from xdr_mcp.delivery import Delivery, lease_name
from xdr_mcp.errors import LeaseLost, SettingsError, XdrMcpError
from xdr_mcp.history import History, read_again
from xdr_mcp.interfaces import SinkState, Source, Store
from xdr_mcp.lease import TTL, holder_name
from xdr_mcp.opening import SourcesOnDemand, keeping, looking, open_source
from xdr_mcp.planning import Pace
from xdr_mcp.poller import Poller
from xdr_mcp.reading import PollReport
from xdr_mcp.retention import Policy, Retention
from xdr_mcp.settings import Settings
from xdr_mcp.setup import Setup, warn_of_unknown
from xdr_mcp.sinks.archive import Archive
from xdr_mcp.sinks.archived import ArchivedChanges, Tell
from xdr_mcp.tidying import Tidying
from xdr_mcp.triage import Approvals
from xdr_mcp.write_back import proposing, writable

if TYPE_CHECKING:  # a second to import
    from xdr_mcp.server import XdrServer
    from xdr_mcp.server.web import HttpOptions

log = logging.getLogger(__name__)

PROBE_PAUSE: Final = 2.0
"""Seconds before a server over stdio begins to poll: some assistants start one only to look at it, and end it at once."""

SINKS: Final = (Archive.name,)
"""The sinks that are fed."""

Work = Callable[[], Coroutine[Any, Any, None]]
Progress = Callable[[PollReport], None]


def _silent(_: PollReport) -> None:
    """No progress is shown."""


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
                            await History(store.memory(source.name)).reach_back(since)
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
    delivery, tidying = Delivery(_archive(setup), store, holder=name), Tidying(store)
    works: list[Work] = [*(poller.run for poller in pollers), delivery.run, tidying.run]
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


async def _fill(setup: Setup, store: Store, sources: SourcesOnDemand) -> None:
    """Poll, and feed what follows, for ever."""
    warn_of_unknown(setup)
    await sources.open()
    await _together(_filling(setup, store, sources.opened))


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
        sources = SourcesOnDemand(setup, store, stack)
        if not setup.settings.poll_enabled:
            log.info("XDR_POLL_ENABLED is false: following what other processes save")
        if setup.settings.triage != "off":
            await sources.open()  # whether one can be written to decides whether there is a tool that proposes
        yield build_server(
            store,
            version=__version__,
            cursor_key=setup.places.cursor_key(),
            facts=lambda: status_facts(setup) | setup.trouble.told(),
            contexts=sources.contexts,
            connect=sources.open if setup.settings.poll_enabled else None,
            background=[_later(pause, partial(_fill, setup, store, sources))] if setup.settings.poll_enabled else [],
            approvals=proposing(setup, store, sources.opened),
        )


def _later(pause: float, work: Work) -> Work:
    async def begin() -> None:
        await anyio.sleep(pause)
        await work()

    return begin


def status_facts(setup: Setup) -> dict[str, Any]:
    """What ``status`` tells beside what the store knows."""
    facts: dict[str, Any] = {"store": str(setup.places.store), "archive": str(setup.places.alerts)}
    if kept := str(policy(setup.settings)):
        facts["keeps"] = kept
    return facts | ({"note": setup.places.moved} if setup.places.moved else {})
