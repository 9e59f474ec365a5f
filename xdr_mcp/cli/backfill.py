"""``backfill``: read further back than the first poll did."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from xdr_mcp import app
from xdr_mcp.cli.options import common, settled
from xdr_mcp.cli.run import ALERTS_DIR
from xdr_mcp.cli.signals import run_task
from xdr_mcp.cli.terminal import poll_progress, say
from xdr_mcp.errors import SettingsError
from xdr_mcp.interfaces import utc_now
from xdr_mcp.poller import LeaseHeld
from xdr_mcp.settings import parse_duration


@click.command()
@click.option("--since", metavar="TIME", required=True, help="How far back: 30d, 12h, 2026-01-31 or 2026-01-31T08:00Z.")
@ALERTS_DIR
@common
def backfill(since: str, alerts_dir: Path | None, data_dir: Path | None, *, debug: bool) -> None:
    """Read further back than the first poll did.

    History begins at the time given from now on: what is missing between it and what was read already is read, newest
    first, in pieces that are remembered, so that an interrupted backfill is taken up where it stopped, by this command or by
    whoever polls. Nothing is told twice. When another process polls already, that one reads it.
    """
    setup = settled(debug=debug, alerts_dir=alerts_dir, data_dir=data_dir)
    begin = parse_since(since, utc_now())
    try:
        with poll_progress() as progress:
            reports = run_task(lambda: app.poll_once(setup, progress, since=begin))
    except LeaseHeld:
        say(f"another process polls already; it reads back to {begin:%Y-%m-%d %H:%M} UTC from its next poll on")
        return
    for report in reports:
        say(str(report))


def parse_since(text: str, now: datetime) -> datetime:
    """A duration before ``now``, or an ISO 8601 time (UTC unless it says otherwise).

    Raises:
        SettingsError: it is neither, or not in the past.
    """
    try:
        begin = now - parse_duration(text)
    except (ValueError, OverflowError):
        try:
            begin = datetime.fromisoformat(text)
        except ValueError:
            raise SettingsError(f"--since {text}: write it like 30d, 12h, 2026-01-31 or 2026-01-31T08:00Z") from None
        begin = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
    if begin >= now:
        raise SettingsError(f"--since {text}: that is not in the past")
    return begin.astimezone(UTC)
