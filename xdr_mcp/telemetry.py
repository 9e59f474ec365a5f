"""Log lines on stderr: one line for people, or one JSON object a line for machines.

Alert text is written by attackers and ends up in log lines, so control, direction and invisible characters are shown as
escapes: no line can be forged, coloured or hidden. Secrets are never logged to begin with; here is a second net.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import IO, Final, Literal

from xdr_mcp.untrusted import escaped

_CREDENTIAL: Final = re.compile(
    r"(?i)((?:proxy-)?authorization|x-[a-z-]*(?:api-key|token)|api[-_]?key|(?:access|auth|refresh|id)[-_]token|client[-_]secret"
    r"|password)(['\"]?\s*[:=]\s*['\"]?)(?!(?:not )?set\b)(?:(Bearer|Basic)\s+)?[^\s'\",;&}]+"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9+/_.~=-]{8,}")
_SHORTEST_SECRET: Final = 4
"""A shorter value is not looked for in log lines: it would blot out ordinary words."""

_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Blot ``secret`` out of every line logged from now on."""
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def redact(text: str) -> str:
    """The text without known secrets and without whatever looks like a credential."""
    for secret in _secrets:
        text = text.replace(secret, "***")
    text = _CREDENTIAL.sub(lambda found: f"{found[1]}{found[2]}{found[3] + ' ' if found[3] else ''}***", text)
    return _BEARER.sub(r"\1 ***", text)


class PlainFormatter(logging.Formatter):
    """``2026-07-28 10:00:00 INFO    poller: xdr: 3 new``; a traceback follows indented, so that it cannot pass for a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback where there is one."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{moment} {record.levelname:<7} {record.name.removeprefix('xdr_mcp.')}: {escaped(record.getMessage())}"
        return redact("\n".join([line, *(f"    | {escaped(trace)}" for trace in _traceback(self, record))]))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, and ``exception`` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(escaped(record.getMessage())),
        }
        if traces := _traceback(self, record):
            line["exception"] = redact("\n".join(map(escaped, traces)))
        return json.dumps(line)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    return formatter.formatException(record.exc_info).split("\n") if record.exc_info and record.exc_info[0] else []


class Counter(logging.Handler):
    """How many warnings and errors were logged: a service that works around trouble still shows that there was some."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings = 0
        self.errors = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one line."""
        if record.levelno >= logging.ERROR:
            self.errors += 1
        else:
            self.warnings += 1

    def told(self) -> dict[str, int]:
        """The counts since this process began, for its status."""
        return {"warnings_logged": self.warnings, "errors_logged": self.errors}


class _Stderr(logging.StreamHandler[IO[str]]):
    """Looks up ``sys.stderr`` anew for each line, so that a progress display that stands in for it is not torn."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> IO[str]:  # type: ignore[override]
        return sys.stderr


# At the level that is useful of ours they are loud, and their debug lines show headers and bodies with credentials in them.
_LOUD: Final = ("httpx", "httpcore", "httpx2", "httpcore2", "hpack", "mcp", "uvicorn", "asyncio", "sse_starlette")


def configure(level: str = "info", style: Literal["plain", "json"] = "plain") -> Counter:
    """Send log lines to stderr, and count the bad ones.

    To be called before an ``MCPServer`` is made: it would set up its own coloured, wrapped lines otherwise.
    """
    handler = _Stderr()
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    counter = Counter()
    logging.basicConfig(level=level.upper(), handlers=[handler, counter], force=True)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("stamina").setLevel(logging.ERROR)  # its line of a retry says nothing; whoever retries tells it
    logging.captureWarnings(capture=True)
    return counter
