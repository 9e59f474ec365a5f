"""What was tried, what is wrong, what to do: every part looked at by itself, so that one fault does not hide another.

Looks, and changes nothing that lasts: no store is made, the only calls are each source's own cheapest one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from enum import StrEnum
from math import ceil
from pathlib import Path
from typing import Final

import anyio.to_thread
import apsw
from msgspec import Struct

from xdr_mcp import app
from xdr_mcp.errors import SettingsError, SourceError, StoreError, StoreUnusable
from xdr_mcp.interfaces import Limits, Memory, SinkState, Source, SourceState, Store, utc_now
from xdr_mcp.opening import looking, open_source
from xdr_mcp.settings import SourceName
from xdr_mcp.setup import Setup, chosen_settings, unknown_settings
from xdr_mcp.sinks.archive import Archive
from xdr_mcp.store.sqlite.file import open_reader, refuse_sqlite

LITTLE_SPACE: Final = 1024**3
NO_SPACE: Final = 100 * 1024**2
LARGE_WAL: Final = 256
"""MiB."""
WRONG_CLOCK: Final = 30.0
"""Seconds between the vendor's clock and ours from which on something is wrong with one of them."""
FAR_BEHIND: Final = 10_000
"""Changes that the archive may still have to write without that being told as a fault."""


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True, kw_only=True):
    """How one check ended."""

    part: str
    """``configuration``, ``disk``, ``store``, ``archive``, or a source's name."""
    tried: str
    outcome: Outcome
    found: str
    remedy: str = ""


Tell = Callable[[Finding], None]


class _Check:
    """Something that is tried; says how it ended, once or more often."""

    def __init__(self, tell: Tell, part: str, tried: str) -> None:
        self._tell = tell
        self._part = part
        self._tried = tried

    def ok(self, found: str) -> None:
        self._end(Outcome.OK, found)

    def warn(self, found: str, remedy: str) -> None:
        self._end(Outcome.WARN, found, remedy)

    def fail(self, found: str, remedy: str) -> None:
        self._end(Outcome.FAIL, found, remedy)

    def _end(self, outcome: Outcome, found: str, remedy: str = "") -> None:
        self._tell(Finding(part=self._part, tried=self._tried, outcome=outcome, found=found, remedy=remedy))


async def examine(setup: Setup, tell: Tell) -> None:
    """Make every check, from the ground up; ``tell`` is given each finding as it is made."""
    _check_configuration(setup, tell)
    _check_disk("XDR_DATA_DIR", setup.places.data, tell)
    _check_disk("XDR_ALERTS_DIR", setup.places.alerts, tell)
    _check_sqlite(tell)
    async with AsyncExitStack() as stack:
        store = await _open_store(setup, stack, tell)
        for source in setup.settings.sources:
            await _check_source(setup, source, store, tell)


# ---------------------------------------------------------------- configuration


def _check_configuration(setup: Setup, tell: Tell) -> None:
    settings = setup.settings
    choices = chosen_settings(setup)
    chosen = [choice for choice in choices if choice.origin != "default"]
    check = _Check(tell, "configuration", "read the settings")
    check.ok(f"{len(chosen)} of {len(choices)} were chosen, the others are as by default")
    for line in unknown_settings(setup):
        check.warn(line, "correct its name, or remove it")
    if setup.places.moved:
        check.warn(setup.places.moved, "set XDR_DATA_DIR and XDR_ALERTS_DIR, if that is not where they should lie")
    if not settings.poll_enabled:
        check.warn("XDR_POLL_ENABLED is false", "make sure that another process polls")


# ---------------------------------------------------------------- disk


def _check_disk(variable: str, folder: Path, tell: Tell) -> None:
    check = _Check(tell, "disk", f"write to {folder}")
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"doctor")
    except OSError as error:
        check.fail(error.strerror or str(error), f"point {variable} at a folder that can be written")
        return
    free = shutil.disk_usage(place).free
    told = (
        f"{'can be written' if place == folder else 'is not there yet and can be made'}; {free / 1024**3:.1f} GiB free"
    )
    if free < NO_SPACE:
        check.fail(told, "free some space on this disk")
    elif free < LITTLE_SPACE:
        check.warn(told, "free some space on this disk")
    else:
        check.ok(told)
    if variable == "XDR_DATA_DIR" and place == folder and os.name == "posix" and folder.stat().st_mode & 0o077:
        check.warn("other users of this machine can look into it", f"chmod 700 {folder}")


# ---------------------------------------------------------------- store


def _check_sqlite(tell: Tell) -> None:
    version = apsw.sqlite_lib_version()
    check = _Check(tell, "store", "check SQLite's version")
    try:
        refuse_sqlite(version)
    except StoreUnusable as error:
        check.fail(str(error), "upgrade apsw")
    else:
        check.ok(f"{version} is free of the WAL-reset bug")


async def _open_store(setup: Setup, stack: AsyncExitStack, tell: Tell) -> Store | None:
    """The store, looked at; None when there is none that later checks could ask."""
    path = setup.places.store
    check = _Check(tell, "store", f"open {path}")
    if not path.exists():
        check.warn("it is not there yet", "start `xdr-mcp poll` or `xdr-mcp serve`: they make it")
        return None
    try:
        store = await stack.enter_async_context(looking(setup))
        check.ok("opens")
        if not await anyio.to_thread.run_sync(_check_integrity, path, tell):
            return None
        _check_log(path, tell)
        await _check_archive(store, tell)
    except StoreError as error:
        check.fail(str(error), "do as it says; alerts can be read again from the vendors, and from the archive")
        return None
    return store


def _check_log(path: Path, tell: Tell) -> None:
    check = _Check(tell, "store", "measure the write-ahead log")
    log = path.with_name(f"{path.name}-wal")
    size = log.stat().st_size / 1024**2 if log.exists() else 0.0
    if size > LARGE_WAL:
        check.warn(f"{size:.0f} MiB", "some process keeps a snapshot open: restart the servers one by one")
    else:
        check.ok(f"{size:.1f} MiB")


async def _check_archive(store: Store, tell: Tell) -> None:
    check = _Check(tell, "archive", "compare it with the store")
    behind = await store.last_seq() - await store.position(Archive.name)
    if behind > FAR_BEHIND:
        check.warn(
            f"{behind} changes behind", "is `xdr-mcp poll` or `xdr-mcp serve` running? Its log says what it waits for"
        )
    else:
        check.ok(f"{behind} changes still to write" if behind else "up to date")
    await _check_dead_letters(store, tell)
    _check_sinks(await store.sinks(), tell)


async def _check_dead_letters(store: Store, tell: Tell) -> None:
    check = _Check(tell, "archive", "look for changes that a sink refused")
    if letters := await store.dead_letters(1):
        newest, number = letters[0], sum(state.dead_letters for state in await store.sinks())
        told = f"{number}, the newest by {newest.sink}, change {newest.seq}: {newest.reason}"
        check.warn(told, "mend the reason; the alerts are in the store nevertheless")
    else:
        check.ok("none")


def _check_sinks(states: Sequence[SinkState], tell: Tell) -> None:
    check = _Check(tell, "store", "look for sinks that are no more")
    gone = [state for state in states if state.sink not in app.SINKS]
    for state in gone:
        check.warn(
            f"{state.sink} took what came up to change {state.position}, and is fed no longer: "
            "retention keeps all that came later for it",
            f"if it does not come back: xdr-mcp forget-sink {state.sink}",
        )
    if not gone:
        check.ok("none")


def _check_integrity(path: Path, tell: Tell) -> bool:
    check = _Check(tell, "store", "check its integrity (PRAGMA quick_check)")
    try:
        connection = open_reader(path)
        try:
            told, version = str(connection.pragma("quick_check", 1)), connection.pragma("user_version")
        finally:
            connection.close()
    except (apsw.Error, StoreError) as error:
        told, version = str(error), 0
    if told == "ok":
        check.ok(f"sound; format {version}")
        return True
    check.fail(
        told, "stop every xdr-mcp process, move the file and its -wal and -shm away, restore a copy or start anew"
    )
    return False


# ---------------------------------------------------------------- sources


async def _check_source(setup: Setup, source: SourceName, store: Store | None, tell: Tell) -> None:
    check = _Check(tell, source.name, f"read its options ({source.prefix}…)")
    memory: Memory = store.memory(source.name) if store else _Forgetful()
    try:
        async with open_source(setup, source, memory) as opened:
            check.ok("complete")
            await _check_reach(opened, setup, tell)
    except SettingsError as error:
        check.fail(str(error), "docs/configuration.md has every setting")
    states = {state.source: state for state in await store.states()} if store else {}
    _check_polling(source.name, states.get(source.name), setup, tell)


async def _check_reach(source: Source, setup: Setup, tell: Tell) -> None:
    check = _Check(tell, source.name, "make the cheapest call with the credential")
    if source.idle_reason:
        check.warn(source.idle_reason, "set a real token to poll")
        return
    try:
        check.ok(await source.check())
    except SourceError as error:
        check.fail(str(error), error.remedy)
        return
    skew = (source.vendor_now() - utc_now()).total_seconds()
    check = _Check(tell, source.name, "compare the vendor's clock with ours")
    if abs(skew) > WRONG_CLOCK:
        check.warn(f"it differs by {skew:+.0f}s", "keep this machine's clock right by NTP")
    else:
        check.ok(f"they agree within {max(1.0, abs(skew)):.0f}s")
    _check_limits(source.name, source.limits, setup.settings.poll_interval, tell)


def _check_limits(name: str, limits: Limits, interval: timedelta, tell: Tell) -> None:
    check = _Check(tell, name, "compare the poll interval with the vendor's limits")
    polls = timedelta(days=1) / interval
    told = f"{limits.page_size} alerts a request, {limits.per_minute} requests a minute"
    if limits.per_day is None:
        check.ok(f"{polls:.0f} polls a day; {told}")
    elif polls > limits.per_day:
        slower = ceil(timedelta(days=1).total_seconds() / limits.per_day)
        check.warn(
            f"{polls:.0f} polls a day, and {limits.per_day} requests are allowed", f"set XDR_POLL_INTERVAL={slower}s"
        )
    else:
        check.ok(f"{polls:.0f} polls a day of {limits.per_day} requests; {told}")


class _Forgetful:
    """The memory of a source while there is no store."""

    async def recall(self, key: str) -> str | None:  # noqa: ARG002 (the seam's)
        return None

    async def remember(self, key: str, value: str) -> None:
        pass

    async def amend(self, key: str, change: Callable[[str | None], str]) -> str:  # noqa: ARG002 (the seam's)
        return change(None)


# ---------------------------------------------------------------- polling


def _check_polling(name: str, state: SourceState | None, setup: Setup, tell: Tell) -> None:
    check = _Check(tell, name, "see how polling goes")
    if state is None:
        check.warn("it was never polled into this store", "start `xdr-mcp poll` or `xdr-mcp serve`")
        return
    _check_progress(check, state, setup)
    check = _Check(tell, name, "look for gaps in what was read")
    if state.gaps:
        gaps = ", ".join(f"{gap.start:%Y-%m-%d %H:%M:%S} to {gap.end:%Y-%m-%d %H:%M:%S}" for gap in state.gaps)
        check.warn(gaps, "none is needed: the next poll reads them again")
    else:
        check.ok("none")
    _check_lag(_Check(tell, name, "measure the time from the vendor's change to our saving it"), state, setup)
    if state.quarantined:
        check = _Check(tell, name, "look for records in quarantine")
        check.warn(f"{state.quarantined} could not be taken and are kept with their bytes", "the log says why of each")


def _check_lag(check: _Check, state: SourceState, setup: Setup) -> None:
    back = state.health.look_back
    reads = f"; each poll reads back {back:.0f}s" if back is not None else ""
    if state.lag_p50 is None or state.lag_p99 is None:
        check.ok(f"nothing was measured yet{reads}")
        return
    told = f"{state.lag_p50:.0f}s half the time, at most {state.lag_p99:.0f}s in 99 of 100{reads}"
    longest = setup.settings.longest_look_back
    if (state.lag_p999 or 0) > longest.total_seconds():
        check.warn(
            f"{told}; one in 1,000 took longer than {state.lag_p999:.0f}s, and no poll looks back so far",
            "set XDR_LONGEST_LOOK_BACK and XDR_RESCAN_SPAN beyond it, or find out why the vendor is late",
        )
    else:
        check.ok(told)


def _check_progress(check: _Check, state: SourceState, setup: Setup) -> None:
    health = state.health
    reached = (
        f"read up to {state.coverage[-1].end:%Y-%m-%d %H:%M:%S} UTC" if state.coverage else "nothing read whole yet"
    )
    told = f"{reached}; polled by {state.lease.holder if state.lease else 'nobody now'}"
    patience = 3 * setup.settings.poll_interval + timedelta(minutes=5)
    if health.state == "failing":
        check.fail(
            f"{health.failures} failures in a row, the last: {health.last_error}; {told}",
            health.remedy or "do as the error says",
        )
    elif health.state in {"development", "disabled"}:
        check.warn(f"{health.last_error or health.state}; {reached}", health.remedy or "set a real token to poll")
    elif state.lease is None:
        check.warn(told, "start `xdr-mcp poll` or `xdr-mcp serve`")
    elif health.last_success is None or utc_now() - health.last_success > patience:
        check.warn(f"no poll ended well for a while; {told}", "a long first read takes its time; else see the log")
    else:
        check.ok(told)
