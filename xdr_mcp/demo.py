"""A simulated vendor, by itself (``simulate``) or with all that follows it in one process (``demo``)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import anyio
from msgspec import Struct

from xdr_mcp import app
from xdr_mcp.alert import Change
from xdr_mcp.errors import SettingsError
from xdr_mcp.following import follow
from xdr_mcp.opening import looking
from xdr_mcp.query import Query
from xdr_mcp.settings import LOOPBACK, PRIMARY, Settings
from xdr_mcp.setup import Setup, set_up

DEMO_ALERTS: Final = 300


class Simulated(Struct, frozen=True, kw_only=True):
    """A simulated vendor; see ``xdr_mcp.simulator`` for what each of these means."""

    host: str = LOOPBACK
    port: int = 0
    token: str = "simulator-token"  # noqa: S105 (opens a simulation only)
    seed: int = 1
    speed: float = 1.0
    rate: float = 12.0
    history: timedelta = timedelta(hours=24)
    alerts: int | None = None
    stories: bool = True
    faults: str = ""
    drift: str = ""
    time_filter: Literal["supported", "rejected", "ignored"] = "supported"
    largest_page: int = 1000
    offset_cap: int | None = None


@asynccontextmanager
async def simulating(wanted: Simulated) -> AsyncIterator[str]:
    """Serve a simulated vendor while the block runs; gives its base URL.

    Raises:
        SettingsError: a fault or drift is not known, or the address cannot be had.
    """
    from xdr_mcp import simulator  # noqa: PLC0415 (a fifth of a second to import)

    try:
        estate = simulator.Estate(
            wanted.seed,
            speed=wanted.speed,
            rate=wanted.rate,
            history=wanted.history,
            alerts=wanted.alerts,
            stories=wanted.stories,
        )
        vendor = simulator.create_app(
            estate,
            simulator.Faults.parse(wanted.faults, seed=wanted.seed),
            auth=simulator.Auth((wanted.token,)),
            drift=wanted.drift,
            time_filter=wanted.time_filter,
            largest_page=wanted.largest_page,
            offset_cap=wanted.offset_cap,
        )
    except ValueError as error:  # its way to say that an argument makes no sense
        raise SettingsError(str(error)) from error
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(simulator.running(vendor, host=wanted.host, port=wanted.port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {wanted.host} port {wanted.port}: {error.strerror}") from error
        yield url


def free_port(wanted: int = Settings.model_fields["http_port"].default) -> int:
    """``wanted`` when nobody listens on it, otherwise 0: any free one."""
    with socket.socket() as probe:
        return 0 if probe.connect_ex((LOOPBACK, wanted)) == 0 else wanted


class Demo(Struct, frozen=True, kw_only=True):
    """Where a running demo can be reached."""

    url: str
    """The MCP server."""
    vendor: str
    """The simulated vendor's base URL."""
    data: Path
    """Its data directory, removed at the end."""
    alerts: int
    """How many alerts it begins with."""


async def demo(port: int, speed: float, ready: Callable[[Demo], None], tell: Callable[[Change], None]) -> None:
    """A simulated vendor, the poller and a server over HTTP, in a folder of its own that is removed at the end.

    ``ready`` is told where to go, ``tell`` of each change from then on. Needs no settings, and reads none.

    Raises:
        SettingsError: the port cannot be had.
    """
    with TemporaryDirectory(prefix="xdr-mcp-demo-") as folder:
        async with simulating(Simulated(speed=speed, alerts=DEMO_ALERTS)) as vendor:
            await _demo(_demo_setup(Path(folder), vendor, port), vendor, ready, tell)


def _demo_setup(folder: Path, vendor: str, port: int) -> Setup:
    own = {
        "sources": PRIMARY,
        "poll_interval": "1s",
        "data_dir": folder,
        "alerts_dir": folder / "alerts",
        "http_port": port,
        "triage": "approve",
    }
    xdr = {"base_url": vendor, "auth_token": Simulated().token, "requests_per_minute": 6000, "write_back": True}
    return set_up({"": own, PRIMARY: xdr}, alone=True, quiet=True)


async def _demo(setup: Setup, vendor: str, ready: Callable[[Demo], None], tell: Callable[[Change], None]) -> None:
    from xdr_mcp.server.web import serve_http  # noqa: PLC0415 (a second to import)

    await app.poll_once(setup)
    async with looking(setup) as store, app.serving(setup) as server, anyio.create_task_group() as group:
        begin, alerts = await store.last_seq(), await store.count(Query())

        def serving(url: str) -> None:
            ready(Demo(url=url, vendor=vendor, data=setup.places.data, alerts=alerts))
            group.start_soon(follow, store, Query(), begin, tell)

        await serve_http(server, app.http_options(setup.settings), ready=serving)
        group.cancel_scope.cancel()
