"""What several commands share: options, and turning them into settings that win over all others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from xdr_mcp.setup import Setup, set_up

Command = TypeVar("Command", bound=Callable[..., Any])

_DATA_DIR: Final = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the store lies.  [XDR_DATA_DIR; default: .xdr-mcp in the working directory]",
)
_DEBUG: Final = click.option(
    "--debug",
    is_flag=True,
    help="Log requests, answers, processing steps, configuration and connection state to stderr. Never a secret.",
)


def common(command: Command) -> Command:
    """The options that every command with a store has."""
    return _DATA_DIR(_DEBUG(command))


def settled(*, debug: bool, quiet: bool = False, xdr: dict[str, Any] | None = None, **given: object) -> Setup:
    """Read the settings, with what the command line gave; None was not given. ``xdr`` are options of the primary source.

    ``quiet`` is as for ``set_up``.

    Raises:
        SettingsError: a setting is wrong.
    """
    own = {name: value for name, value in given.items() if value is not None}
    return set_up({"": own | ({"log_level": "debug"} if debug else {}), "xdr": xdr or {}}, quiet=quiet)
