"""``forget-sink``: retention waits no longer for a sink that is no more."""

from __future__ import annotations

from pathlib import Path

import click

from xdr_mcp import app
from xdr_mcp.cli.options import common, settled
from xdr_mcp.cli.signals import run_task
from xdr_mcp.cli.terminal import plain, say


@click.command()
@click.argument("sink")
@common
def forget_sink(sink: str, data_dir: Path | None, *, debug: bool) -> None:
    """Forget how far a sink had come that is no more.

    Nothing is dropped by age, number or size that a sink has not taken, so one that will never take anything again keeps the
    store from staying small. `xdr-mcp doctor` names such sinks. The changes that it refused are forgotten, too. Alerts and the
    archive stay as they are. A sink that is fed is refused.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    state = run_task(lambda: app.forget_sink(setup, sink))
    say(plain(f"{state.sink} is forgotten; it had taken what came up to change {state.position}"))
