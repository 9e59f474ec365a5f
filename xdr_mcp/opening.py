"""The store and the sources, opened as the settings say and closed by who opened them.

What is costly to import (SQLite, the HTTP client) is imported when the first of them is opened.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import anyio
from pydantic import BaseModel, SecretStr

from xdr_mcp import telemetry
from xdr_mcp.errors import SettingsError, StoreUnusable
from xdr_mcp.interfaces import ContextSource, Health, Memory, Source, Store, utc_now
from xdr_mcp.settings import SourceName
from xdr_mcp.setup import Setup, source_type

log = logging.getLogger(__name__)

SWITCH_INTERVAL: Final = 0.0005
"""Seconds that a thread may keep Python's lock while others wait, a tenth of the default: while a page is made ready in one
thread, the event loop answers and the thread that writes to the disk goes on."""

_LARGE: Final = 512 * 1_024
"""Bytes of memory from which it is mapped by itself: more than asyncio sets aside for each reading of a connection, a quarter of
a megabyte, of which a request fills a hundredth. To map and unmap that took a tenth of a tool call."""
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
"""From glibc's ``malloc.h``."""

_DISABLED: Final = "correct the setting and start again; docs/configuration.md has every one"


# ---------------------------------------------------------------- the store


def suit_python() -> None:
    """Fit Python to threads that share its lock, and to objects that come and go by the thousand beside modules that stay."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    if sys.platform == "linux":
        _suit_heap()
    gc.freeze()  # what is loaded by now need not be looked through for cycles again and again


def _suit_heap() -> None:
    """Fit glibc to pages that one thread makes and another throws away; a C library of another name has no such settings.

    Of a heap for each thread, much stays empty and is never given back; so is the place of a large page in a heap, where a
    mapping of its own is given back at once.
    """
    try:
        import ctypes  # noqa: PLC0415 (a Python that was built without libffi has none, and serves as well)
    except ImportError:
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


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


# ---------------------------------------------------------------- the sources


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


class SourcesOnDemand:
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
                self.opened = await open_configured(self._setup, self._store, stack, polled=polled)
                self._stack.push_async_exit(stack.pop_all())
            self._open = True  # not before: an opening that failed is tried again
            self.contexts |= {source.name: source for source in self.opened if isinstance(source, ContextSource)}


async def open_configured(setup: Setup, store: Store, stack: AsyncExitStack, *, polled: bool) -> list[Source]:
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
