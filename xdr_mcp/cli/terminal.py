"""What people see in a terminal: tables, lines and progress.

Titles and names are written by attackers. Every one goes through ``plain``, and rich's markup is off throughout.
rich is imported where something is drawn with it: a server that an assistant starts draws nothing, and is to answer at once.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from xdr_mcp.alert import Alert, ChangeKind, EntityKind, Severity
from xdr_mcp.reading import PollReport
from xdr_mcp.untrusted import escaped as plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

__all__ = ["plain"]

SEVERITY_STYLE: Final = {
    Severity.UNKNOWN: "dim",
    Severity.INFORMATIONAL: "cyan",
    Severity.LOW: "green",
    Severity.MEDIUM: "yellow",
    Severity.HIGH: "red",
    Severity.CRITICAL: "bold white on red",
}
CHANGE_STYLE: Final[dict[str, str]] = {
    ChangeKind.CREATED: "bold",
    ChangeKind.UPDATED: "",
    ChangeKind.CLOSED: "green",
    ChangeKind.REOPENED: "bold yellow",
}
_ABOUT: Final = (EntityKind.HOST, EntityKind.USER, EntityKind.EMAIL, EntityKind.RESOURCE, EntityKind.IP)
_MOST_ABOUT: Final = 2


def console(*, stderr: bool = False) -> Console:
    """A console on the stream as it is now: nothing that is printed is taken for markup, and only a terminal wraps lines."""
    from rich.console import Console  # noqa: PLC0415 (see the module's docstring)

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not stream.isatty())


def program() -> str:
    """What to type to run this program: its name where the shell finds it, otherwise where it lies."""
    beside = Path(sys.executable).with_name("xdr-mcp")
    return "xdr-mcp" if shutil.which("xdr-mcp") or not beside.exists() else str(beside)


def say(text: str = "") -> None:
    """Print a line of the result."""
    click.echo(text)


def say_json(value: object) -> None:
    """Print a value as one line of JSON; what is not ASCII is escaped, so that it cannot steer a terminal either."""
    click.echo(json.dumps(msgspec.to_builtins(value)))


# ---------------------------------------------------------------- alerts


def alert_table(alerts: list[Alert]) -> Table:
    """Alerts in the order given, two lines each: the title, and below it what to search for and to copy."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 (see the module's docstring)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=False)
    for heading, options in _COLUMNS:
        table.add_column(heading, **options)
    for alert in alerts:
        table.add_row(
            moment(alert.created),
            Text(alert.severity, SEVERITY_STYLE[alert.severity]),
            Text(alert.status.replace("_", " "), "dim" if alert.status.closed else ""),
            Text.assemble(plain(alert.title), "\n", (_below(alert), "dim")),
        )
    return table


_COLUMNS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("Created", {"no_wrap": True}),
    ("Severity", {"no_wrap": True}),
    ("Status", {"no_wrap": True}),
    ("Alert", {"overflow": "fold"}),
)


def alert_line(alert: Alert) -> str:
    """An alert as tab-separated columns: created, severity, status, id, title, what it is about, techniques."""
    created = alert.created.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    columns = (created, alert.severity, alert.status, alert.id, alert.title, *(_about(alert), _techniques(alert)))
    return "\t".join(map(plain, columns))


def entry_text(kind: str, alert: Alert, when: datetime, width: int) -> Text:
    """An alert as it is told live: when, what happened to it, the alert; two lines where one is too narrow for it."""
    from rich.text import Text  # noqa: PLC0415 (see the module's docstring)

    line = Text.assemble(
        (f"{moment(when):<16}  ", "dim"),
        (f"{kind:<8}  ", CHANGE_STYLE.get(kind, "dim")),
        (f"{alert.severity:<13}", SEVERITY_STYLE[alert.severity]),
        f"  {plain(alert.title)}",
    )
    below = Text(_below(alert), "dim")
    between = "  " if line.cell_len + 2 + below.cell_len <= width else "\n    "
    return Text.assemble(line, between, below)


def moment(when: datetime | None) -> str:
    """A time in the reader's own zone; the date is left out today."""
    if when is None:
        return "never"
    local = when.astimezone()
    today = local.date() == datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def ago(when: datetime | None, now: datetime) -> str:
    """How long ago, roughly."""
    return "never" if when is None else f"{rough(max(now - when, timedelta(0)))} ago"


def rough(duration: timedelta) -> str:
    """A duration in its largest fitting unit: ``42s``, ``5min``, ``3h``, ``12d``."""
    seconds = duration.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds:.1f}s"


def rough_seconds(seconds: float | None) -> str:
    """The same, from seconds."""
    return "unknown" if seconds is None else rough(timedelta(seconds=max(seconds, 0)))


def _below(alert: Alert) -> str:
    return " · ".join(part for part in (_about(alert), _techniques(alert), plain(alert.id)) if part)


def _about(alert: Alert) -> str:
    """Where it happened and to whom, or the nearest thing that is known."""
    named = [next(iter(alert.values_of(kind)), "") for kind in _ABOUT]
    once = {value.casefold(): value for value in reversed(named) if value}  # a mail address is often the user, too
    told = [value for value in named if once.get(value.casefold()) is value]
    return ", ".join(map(plain, told[:_MOST_ABOUT]))


def _techniques(alert: Alert) -> str:
    return " ".join(plain(technique) for technique in alert.techniques)


def say_facts(pairs: Mapping[str, str | Text]) -> None:
    """Print names and values, one pair a line; an empty value is left out, and only a terminal wraps a long one."""
    told = {name: value for name, value in pairs.items() if value}
    width = max(map(len, told), default=0)
    if not sys.stdout.isatty():
        for name, value in told.items():
            say(f"{name:<{width}}  {value}")
        return
    from rich.table import Table  # noqa: PLC0415 (see the module's docstring)

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in told.items():
        table.add_row(name, value)
    console().print(table)


# ---------------------------------------------------------------- progress


@contextmanager
def poll_progress() -> Iterator[Callable[[PollReport], None]]:
    """Shows how far each source was read, live on stderr where that is a terminal; log lines pass above it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with _progress() as progress:
        tasks: dict[str, Any] = {}

        def show(report: PollReport) -> None:
            if report.source not in tasks:
                tasks[report.source] = progress.add_task("", total=None)
            progress.update(tasks[report.source], description=str(report))

        yield show


@contextmanager
def task_progress() -> Iterator[Callable[[str], None]]:
    """Shows how far a piece of work has come, live on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with _progress() as progress:
        task = progress.add_task("", total=None)
        yield lambda text: progress.update(task, description=text)


def _progress() -> Progress:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 (see the module's docstring)

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    return Progress(*columns, console=console(stderr=True), transient=True, refresh_per_second=4)
