"""Commands that look: ``alerts``, ``show`` and ``status`` ask the store and call nobody; ``doctor`` tries things."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from msgspec import structs
from rich.text import Text

from xdr_mcp.alert import Alert, Change
from xdr_mcp.app import status_facts
from xdr_mcp.cli.options import common, settled
from xdr_mcp.cli.signals import run_service, run_task
from xdr_mcp.cli.terminal import (
    SEVERITY_STYLE,
    ago,
    alert_line,
    alert_table,
    console,
    entry_text,
    moment,
    plain,
    rough_seconds,
    say,
    say_facts,
    say_json,
)
from xdr_mcp.errors import XdrMcpError
from xdr_mcp.following import follow
from xdr_mcp.interfaces import Position, SourceState, Store, utc_now
from xdr_mcp.opening import looking
from xdr_mcp.proposal import UNDECIDED
from xdr_mcp.query import Query, guide, parse
from xdr_mcp.setup import Setup, chosen_settings
from xdr_mcp.sinks.archive import Archive

if TYPE_CHECKING:
    from xdr_mcp.doctor import Finding

_PAGE: Final = 500
_TELLING_SKEW: Final = 2.0
"""Seconds; the vendor's clock is read to the second, so less may be nothing."""


class NoSuchAlert(XdrMcpError):
    """No alert with this id is in the store."""


def _alerts_help() -> str:
    language = "\n\n".join(guide().splitlines())
    return cleandoc(_ALERTS_HELP) + f"\n\n\b\nThe query language\n------------------\n\n{language}"


# \b keeps click from joining the lines that follow it
_ALERTS_HELP: Final = """
    Print alerts that match QUERY, newest first.

    In a terminal they are a table. Piped, each is a line of tab-separated columns: created, severity, status, id, title,
    whom it is about, techniques; --follow puts what happened first. With --json each is a JSON object on its own line.

    Put the query in single quotes, because > and * mean something to the shell:

    \b
      xdr-mcp alerts 'severity>=high and not status:resolved'
      xdr-mcp alerts 'host:web* since:-24h' --limit 20
      xdr-mcp alerts 'technique:T1059* or "lateral movement"' --json
      xdr-mcp alerts 'user:alice*' --follow
"""


class QueryCommand(click.Command):
    """A command whose argument may look like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what to do with a query that begins with a minus."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "A query that begins with - goes after --, as in: xdr-mcp alerts -- '-status:resolved'"
            raise click.UsageError(f"{error.format_message()}\n{hint}", ctx) from error


@click.command(cls=QueryCommand, help=_alerts_help())
@click.argument("query", nargs=-1)
@click.option("--limit", type=click.IntRange(min=1), help="Most alerts to print.  [default: 50; 10 with --follow]")
@click.option("--follow", "-f", is_flag=True, help="Go on: print alerts as they arrive or change. Ctrl-C ends it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@common
def alerts(  # noqa: D103 (its help is made above)
    query: tuple[str, ...], limit: int | None, data_dir: Path | None, *, follow: bool, as_json: bool, debug: bool
) -> None:
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    asked = parse(" ".join(query), now=utc_now())
    if follow:
        run_service(lambda: _follow(setup, asked, limit or 10, as_json=as_json))
    else:
        run_task(lambda: _list(setup, asked, limit or 50, as_json=as_json))


async def _list(setup: Setup, query: Query, limit: int, *, as_json: bool) -> None:
    async with looking(setup) as store:
        found = await _newest(store, query, limit)
        if as_json:
            for alert in found:
                say_json(alert)
        elif sys.stdout.isatty():
            if found:
                console().print(alert_table(found))
            total = await store.count(query)
            say(f"{len(found)} of {total} alerts" + ("; --limit shows more" if len(found) < total else ""))
        else:
            for alert in found:
                say(alert_line(alert))
        _warn_of_blindness(await store.states())


async def _newest(store: Store, query: Query, limit: int) -> list[Alert]:
    found: list[Alert] = []
    after: Position | None = None
    while len(found) < limit:
        page = await store.find(query, min(_PAGE, limit - len(found)), after)
        found.extend(page.alerts)
        after = page.next
        if after is None:
            break
    return found


def _warn_of_blindness(states: tuple[SourceState, ...]) -> None:
    """An empty list from a source that is not read means something else than an empty list. On stderr: it is no result."""
    for state in states:
        if state.health.state != "ok":
            why = plain(state.health.last_error) or "see `xdr-mcp status`"
            click.echo(f"{plain(state.source)} is {state.health.state}: {why}", err=True)


async def _follow(setup: Setup, query: Query, limit: int, *, as_json: bool) -> None:
    async with looking(setup) as store:
        position = await store.last_seq()
        for alert in reversed(await _newest(store, query, limit)):
            _print_known(alert, as_json=as_json)
        await follow(store, query, position, partial(print_change, as_json=as_json))


def _print_known(alert: Alert, *, as_json: bool) -> None:
    _print_entry("known", alert, alert.created, {"change": None}, as_json=as_json)


def print_change(change: Change, *, as_json: bool = False) -> None:
    """Print a change as it is told live."""
    told = {"change": change.kind, "seq": change.seq, "revision": change.revision}
    _print_entry(change.kind, change.alert, change.saved, told, as_json=as_json)


def _print_entry(kind: str, alert: Alert, when: datetime, told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(told | msgspec.to_builtins(alert))
    elif sys.stdout.isatty():
        out = console()
        out.print(entry_text(kind, alert, when, out.width))
    else:
        say(f"{kind}\t{alert_line(alert)}")
    sys.stdout.flush()  # who reads a pipe wants each line now


# ---------------------------------------------------------------- show


@click.command()
@click.argument("alert_id", metavar="ID")
@click.option("--raw", is_flag=True, help="Print the vendor's own record, byte for byte, and nothing else.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the alert, its record and its provenance as one JSON object."
)
@common
def show(alert_id: str, data_dir: Path | None, *, raw: bool, as_json: bool, debug: bool) -> None:
    """Print one alert in full.

    ID is as `alerts` prints it (xdr/0d5c1f6e-…); the source's name may be left out. --raw is what the vendor sent, byte for
    byte where it goes to a file or to another program; a terminal is shown it on one line, with escapes.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    run_task(lambda: _show(setup, alert_id, raw=raw, as_json=as_json))


async def _show(setup: Setup, alert_id: str, *, raw: bool, as_json: bool) -> None:
    async with looking(setup) as store:
        change = await _get(store, alert_id)
    if raw:
        _say_raw(change.raw)
    elif as_json:
        say_json({**msgspec.to_builtins(structs.replace(change, raw=b"")), "raw": _decoded(change.raw)})
    else:
        _print_alert(change)


async def _get(store: Store, alert_id: str) -> Change:
    for candidate in (alert_id, *(f"{state.source}/{alert_id}" for state in await store.states())):
        if (change := await store.get(candidate)) is not None:
            return change
    raise NoSuchAlert(f"there is no alert {alert_id!r} in the store; `xdr-mcp alerts` prints the ids")


def _say_raw(raw: bytes) -> None:
    """The bytes as they came; for a terminal, which they could steer, with escapes."""
    if sys.stdout.isatty():
        say(plain(raw.decode("utf-8", "backslashreplace")))
    else:
        sys.stdout.buffer.write(raw + b"\n")


def _decoded(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "backslashreplace")


def _print_alert(change: Change) -> None:
    alert = change.alert
    out = console()
    out.print(Text.assemble((plain(alert.title), "bold")))
    say_facts(_facts(change))
    for heading, lines in _lists(alert).items():
        if lines:
            out.print(Text(f"\n{heading}", "bold"))
            for line in lines:
                out.print(f"  {line}")
    if alert.description:
        out.print(Text("\nDescription", "bold"))
        for line in alert.description.splitlines():
            out.print(f"  {plain(line)}")
    out.print(Text(f"\nThe vendor's own record: xdr-mcp show --raw {plain(alert.id)}", "dim"))


def _facts(change: Change) -> dict[str, str | Text]:
    alert = change.alert
    rule = " ".join(part for part in (alert.rule_name, f"({alert.rule_id})" if alert.rule_id else "") if part)
    texts = {
        "id": alert.id,
        "status": alert.status.replace("_", " "),
        "verdict": "" if alert.verdict == "unknown" else alert.verdict.replace("_", " "),
        "risk score": "" if alert.risk_score is None else str(alert.risk_score),
        "confidence": "" if alert.confidence is None else str(alert.confidence),
        "created": moment(alert.created),
        "updated": moment(alert.updated),
        "activity": " to ".join(dict.fromkeys(moment(seen) for seen in (alert.first_seen, alert.last_seen) if seen)),
        "product": " ".join(part for part in (alert.vendor, alert.product) if part),
        "tenant": alert.tenant,
        "rule": rule,
        "category": alert.category,
        "assignee": alert.assignee,
        "events": str(alert.count) if alert.count > 1 else "",
        "console": alert.url,
        "revision": f"{change.revision}, saved {moment(change.saved)}",
    }
    return {"severity": Text(alert.severity, SEVERITY_STYLE[alert.severity])} | {
        name: plain(text) for name, text in texts.items()
    }


def _lists(alert: Alert) -> dict[str, list[str]]:
    attacks = [(attack.tactic, attack.tactic_name, attack.technique, attack.technique_name) for attack in alert.attacks]
    return {
        "ATT&CK": [" ".join(plain(part) for part in parts if part) for parts in attacks],
        "About": [f"{entity.kind:<9} {plain(entity.value)}" for entity in alert.entities],
        "Labels": [plain(label) for label in alert.labels],
        "The vendor advises": [plain(action) for action in alert.recommended_actions],
    }


# ---------------------------------------------------------------- status


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts and monitoring.")
@common
def status(data_dir: Path | None, *, as_json: bool, debug: bool) -> None:
    """Print how polling goes.

    For each source its state, how far it was read, gaps, lag, how far each poll looks back, the last error with what to do
    about it, and who polls; and how far the archive is behind. `xdr-mcp doctor` goes further: it tries things and says what to do.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    run_task(lambda: _status(setup, as_json=as_json))


async def _status(setup: Setup, *, as_json: bool) -> None:
    async with looking(setup) as store:
        states = await store.states()
        newest, sinks = await store.last_seq(), await store.sinks()
        waiting = len(await store.proposals(*UNDECIDED))
    taken = {sink.sink: sink.position for sink in sinks}
    told = status_facts(setup) | {
        "changes": newest,
        "archive_behind": newest - taken.get(Archive.name, 0),
        "dead_letters": sum(sink.dead_letters for sink in sinks),
        "proposals": waiting,
    }
    if as_json:
        sources = [
            msgspec.to_builtins(state) | {"gaps": msgspec.to_builtins(state.gaps), "health": _health(state)}
            for state in states
        ]
        say_json(told | {"sources": sources, "sinks": sinks})
    else:
        _print_status(told, states)


def _health(state: SourceState) -> dict[str, Any]:
    """The health with nothing left out: monitoring likes fields that are always there."""
    return {name: msgspec.to_builtins(getattr(state.health, name)) for name in state.health.__struct_fields__}


def _print_status(told: dict[str, Any], states: tuple[SourceState, ...]) -> None:
    out = console()
    say_facts({name.replace("_", " "): str(value) for name, value in told.items()})
    if not states:
        out.print("\nNo source was ever polled into this store: `xdr-mcp poll` does it")
    now = utc_now()
    for state in states:
        out.print(
            Text.assemble(
                "\n", (plain(state.source), "bold"), " ", (state.health.state, _STATE_STYLE[state.health.state])
            )
        )
        say_facts(_source_facts(state, now))


_STATE_STYLE: Final = {
    "ok": "green",
    "starting": "yellow",
    "failing": "red",
    "development": "yellow",
    "disabled": "yellow",
}


def _source_facts(state: SourceState, now: datetime) -> dict[str, str | Text]:
    health = state.health
    lag = f"{rough_seconds(state.lag_p50)} half the time, {rough_seconds(state.lag_p99)} at most in 99 of 100"
    return {
        "alerts": f"{state.alerts}" + (f", {state.quarantined} records quarantined" if state.quarantined else ""),
        "read up to": ago(state.coverage[-1].end if state.coverage else None, now),
        "gaps": "; ".join(f"{moment(gap.start)} to {moment(gap.end)}" for gap in state.gaps),
        "last success": ago(health.last_success, now),
        "last error": f"{plain(health.last_error)} ({ago(health.last_error_at, now)})" if health.last_error else "",
        "remedy": plain(health.remedy) if health.last_error else "",
        "failures": str(health.failures) if health.failures else "",
        "lag": lag if state.lag_p50 is not None else "",
        "look-back": rough_seconds(health.look_back) if health.look_back is not None else "",
        "clock skew": f"{health.clock_skew:+.0f}s" if abs(health.clock_skew) >= _TELLING_SKEW else "",
        "polled by": plain(state.lease.holder) if state.lease else "nobody now",
    }


# ---------------------------------------------------------------- doctor


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the settings in force and every finding.")
@common
def doctor(data_dir: Path | None, *, as_json: bool, debug: bool) -> None:
    """Find out what is wrong and what to do.

    Looks at the configuration, the disk, the store, the archive, and each source: its options, whether it can be reached and
    takes the credential, its clock and limits, how polling goes. Makes one small request to each source and changes nothing.
    Ends with 1 when something fails; warnings do not count.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    failed = run_task(lambda: _doctor(setup, as_json=as_json))
    sys.exit(1 if failed else 0)


async def _doctor(setup: Setup, *, as_json: bool) -> bool:
    from xdr_mcp.doctor import Outcome, examine  # noqa: PLC0415 (it alone needs the sources)

    if not as_json:
        _print_choices(setup)
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _print_finding(finding)

    await examine(setup, tell)
    counts = {outcome: sum(finding.outcome is outcome for finding in findings) for outcome in Outcome}
    if as_json:
        choices = [vars(choice) for choice in chosen_settings(setup)]
        say_json({"settings": choices, "findings": findings, "counts": counts})
    else:
        say("\n" + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return counts[Outcome.FAIL] > 0


def _print_choices(setup: Setup) -> None:
    out = console()
    out.print(Text("Settings that were chosen", "bold"))
    chosen = {
        choice.variable: f"{choice.shown}  ({choice.origin})"
        for choice in chosen_settings(setup)
        if choice.origin != "default"
    }
    say_facts({name: plain(value) for name, value in chosen.items()} or {"none": "all are as by default"})
    say()


_OUTCOME_STYLE: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def _print_finding(finding: Finding) -> None:
    style = _OUTCOME_STYLE[finding.outcome]
    line = Text.assemble((f"{finding.outcome:<5}", style), f"{plain(finding.part)}: {plain(finding.tried)}: ")
    out = console()
    out.print(line.append("\n     ".join(map(plain, finding.found.splitlines()))))
    if finding.remedy:
        out.print(Text(f"     → {plain(finding.remedy)}", style))
