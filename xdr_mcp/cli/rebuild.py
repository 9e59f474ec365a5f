"""``rebuild``: the store from the archive, or the archive from the store."""

from __future__ import annotations

from pathlib import Path

import click

from xdr_mcp import app
from xdr_mcp.cli.options import common, settled
from xdr_mcp.cli.run import ALERTS_DIR
from xdr_mcp.cli.signals import run_task
from xdr_mcp.cli.terminal import plain, say, task_progress
from xdr_mcp.errors import SettingsError, XdrMcpError
from xdr_mcp.setup import Setup
from xdr_mcp.sinks.archive import PREFIX


class LeftOut(XdrMcpError):
    """Some files of the archive are damaged."""


@click.command()
@click.option(
    "--from",
    "folder",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="Rebuild the store from the archive that lies there.",
)
@click.option("--archive", is_flag=True, help="Rebuild the archive from the store.")
@ALERTS_DIR
@common
def rebuild(folder: Path | None, alerts_dir: Path | None, data_dir: Path | None, *, archive: bool, debug: bool) -> None:
    """Rebuild the store from the archive, or the other way.

    With --from every file of the archive is put back into a store that is empty: alerts, revisions, their order and times,
    the vendor's records. With --archive every stored revision that has no file gets one.

    Either may be interrupted at any moment and run again. A file that is damaged is left out, left where it is, and told; the
    command then ends with 1, though all else is done. How far each source was read is not in an archive: set
    XDR_INITIAL_LOOKBACK so that the first poll reaches back to where the archive ends.
    """
    if archive == (folder is not None):
        raise SettingsError("say either --from and the archive's folder, or --archive")
    setup = settled(debug=debug, quiet=True, alerts_dir=alerts_dir, data_dir=data_dir)
    damaged = _Damaged()
    if folder is not None:
        say(_rebuild_store(setup, folder, damaged))
    else:
        say(_rebuild_archive(setup, damaged))
    if damaged.number:
        raise LeftOut(
            f"{damaged.number:,} damaged files were left out; each is told above, and still lies where it was"
        )


def _rebuild_store(setup: Setup, folder: Path, damaged: _Damaged) -> str:
    with task_progress() as progress:
        rebuilt = run_task(lambda: app.rebuild_store(setup, folder, damaged.tell, progress))
    if not (rebuilt.changes or damaged.number):
        raise SettingsError(f"--from {folder}: no file of an archive is there")
    held = rebuilt.changes - rebuilt.restored
    known = f"; {held:,} were there already" if held else ""
    return f"{rebuilt.restored:,} changes restored to {setup.places.store}{known}"


def _rebuild_archive(setup: Setup, damaged: _Damaged) -> str:
    with task_progress() as progress:
        archived = run_task(lambda: app.rebuild_archive(setup, damaged.tell, progress))
    return f"{archived:,} changes are in {setup.places.alerts}"


class _Damaged:
    """Tells of files that are left out as they are met, and counts those that were the archive's."""

    def __init__(self) -> None:
        self.number = 0

    def tell(self, path: str, reason: str) -> None:
        """Called beside the event loop."""
        self.number += path.rpartition("/")[2].startswith(PREFIX)
        click.echo(f"left out: {plain(path)} {plain(reason)}", err=True)
