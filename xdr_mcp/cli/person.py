"""Who decides, and that it is somebody at a terminal.

An assistant that may run commands is no person. It has no terminal, says in the environment what it is, and can be asked for
something that it has to read before it can type it. All of that can be faked by a program that sets out to; what it cannot
fake is a credential it does not have (docs/triage.md).
"""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from xdr_mcp.errors import TriageError
from xdr_mcp.untrusted import escaped

AGENTS: Final = {
    "CLAUDECODE": "Claude Code",
    "GEMINI_CLI": "Gemini CLI",
    "CURSOR_AGENT": "Cursor",
    "CODEX_SANDBOX": "Codex",
    "CODEX_SANDBOX_NETWORK_DISABLED": "Codex",
    "OPENCODE": "opencode",
}
"""Variables by which assistants mark the commands that they run."""
_NO_LOGIN: Final = 4_294_967_295
_CODES: Final = 10_000


def person() -> str:
    """The user of the operating system who runs this; beside it who logged in, where that is somebody else (``sudo``)."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd  # noqa: PLC0415 (not on Windows)

    def named(number: int) -> str:
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            return f"user {number}"

    user = os.geteuid()
    login = _logged_in()
    return named(user) if login in {None, user} else f"{named(user)} (logged in as {named(login)})"


def _logged_in() -> int | None:
    """The number of the user who logged in, which no ``sudo`` changes; None where the system does not keep it."""
    try:
        number = int(Path("/proc/self/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None if number == _NO_LOGIN else number


def refuse_agents() -> None:
    """Raise TriageError where an assistant runs this command."""
    for variable, name in AGENTS.items():
        if os.environ.get(variable):
            raise TriageError(
                f"{name} runs this command ({variable} is set), and an assistant cannot approve; a person does, in a terminal of "
                "their own"
            )


def agreed(question: str) -> bool:
    """Ask whoever sits at the terminal to type a number that is shown only now; anything else is a no.

    The terminal is opened by its own name: what is piped into the command answers nothing.

    Raises:
        TriageError: there is no terminal.
    """
    code = f"{secrets.randbelow(_CODES):04}"
    name_in, name_out = ("CONIN$", "CONOUT$") if sys.platform == "win32" else ("/dev/tty", "/dev/tty")
    with ExitStack() as stack:
        try:
            reading = stack.enter_context(Path(name_in).open(encoding="utf-8", errors="replace"))
            writing = stack.enter_context(Path(name_out).open("w", encoding="utf-8", errors="replace"))
        except OSError as error:
            raise TriageError(
                "there is no terminal to ask a person at; run this command in one (nothing was sent to the vendor)"
            ) from error
        writing.write(f"{escaped(question)} To approve, type {code}: ")
        writing.flush()
        return reading.readline().strip() == code
