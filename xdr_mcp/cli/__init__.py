"""The command line: parse, call ``app``, print. What each command does is said in its help, which is worth reading.

A command's module is imported when the command is named: what draws tables need not be there before a server answers.
"""

from __future__ import annotations

import io
import logging
import sys
from importlib import import_module
from inspect import cleandoc
from typing import Any, Final

import click

from xdr_mcp import __version__
from xdr_mcp.errors import AuthenticationError, QueryError, SettingsError, StoreUnusable, Unavailable, XdrMcpError
from xdr_mcp.untrusted import escaped

log = logging.getLogger(__name__)

COMMANDS: Final = {
    "demo": "run",
    "serve": "run",
    "poll": "run",
    "backfill": "backfill",
    "alerts": "look",
    "show": "look",
    "status": "look",
    "doctor": "look",
    "approve": "triage",
    "reject": "triage",
    "undo": "triage",
    "audit": "triage",
    "rebuild": "rebuild",
    "forget-sink": "forget_sink",
    "simulate": "run",
}
"""Each command, and the module of this package that holds it."""

EXIT_CODES: Final = {
    0: "done, or a service that was asked to stop (SIGINT, SIGTERM)",
    1: "failed at work; the reason is on stderr",
    2: "wrong usage, query or setting",
    3: "the vendor refused the credentials",
    4: "the vendor cannot be reached",
    5: "the store cannot be used",
    130: "work that has an end was interrupted by SIGINT (143: SIGTERM)",
}

_EXIT_CODE_OF: Final[tuple[tuple[type[XdrMcpError], int], ...]] = (
    (SettingsError, 2),
    (QueryError, 2),
    (AuthenticationError, 3),
    (Unavailable, 4),
    (StoreUnusable, 5),
)


class Failure(click.ClickException):
    """An error of ours, as one message on stderr and an exit code."""

    def __init__(self, error: XdrMcpError, exit_code: int) -> None:
        super().__init__(str(error))
        self._exit_code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What the process ends with."""
        return self._exit_code

    def show(self, file: Any = None) -> None:
        """Print it; what an attacker or a vendor wrote in it cannot steer the terminal."""
        for number, line in enumerate(self.message.splitlines()):
            click.echo(f"{'' if number else 'xdr-mcp: '}{escaped(line)}", file=file or sys.stderr)


def command_named(name: str) -> click.Command:
    """The command of this name. KeyError where there is none."""
    command: click.Command = getattr(import_module(f"{__name__}.{COMMANDS[name]}"), name.replace("-", "_"))
    return command


class Commands(click.Group):
    """Finds commands when they are named, and turns our errors into messages and exit codes, in one place for all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        """Their names, in alphabetical order as click has them."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's)
        """The command of this name."""
        return command_named(cmd_name) if cmd_name in COMMANDS else None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a title that the terminal's encoding lacks
        try:
            return super().invoke(ctx)
        except XdrMcpError as error:
            log.debug("the command failed", exc_info=True)
            raise Failure(error, exit_code_of(error)) from error
        except KeyboardInterrupt:  # before the command listens for signals itself
            ctx.exit(130)


def exit_code_of(error: XdrMcpError) -> int:
    """What a command ends with when this stops it."""
    return next((code for kind, code in _EXIT_CODE_OF if isinstance(error, kind)), 1)


_EXIT_CODES_TOLD = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())


_HELP = """XDR security alerts, live, in any MCP-capable assistant.

    \b
    To see it work with nothing configured:   xdr-mcp demo
    To connect an assistant:                  xdr-mcp serve   (stdio)   or   xdr-mcp serve --http
    To only collect:                          xdr-mcp poll
    To look for yourself:                     xdr-mcp alerts 'severity>=high since:-24h'
    When something is wrong:                  xdr-mcp doctor
    To decide on what was proposed:           xdr-mcp approve
    """

_EPILOG = f"""\b
Exit codes:
{_EXIT_CODES_TOLD}

Settings come from the command line, the environment (XDR_…), .env and xdr-mcp.toml, in this order: the first that says
something counts. docs/configuration.md has them all."""


@click.group(
    cls=Commands,
    help=cleandoc(_HELP),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="xdr-mcp")
def main() -> None:  # noqa: D103 (its help is above: click wants characters in it that a docstring may not have)
    pass
