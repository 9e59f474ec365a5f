"""Where things lie: the store and the archive, in the working directory or, where that can't be written, per user.

A store's archive stays where it began unless a setting says otherwise: processes that share a store may run in different
folders, and whichever of them writes the archive must not begin another. The store's folder keeps a note of it.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xdr_mcp.errors import SettingsError
from xdr_mcp.settings import Configuration

NOTE = "archive-lies-in"


@dataclass(frozen=True)
class Places:
    """Where everything that is kept lies."""

    data: Path
    alerts: Path
    moved: str = ""
    """Why they are not in the working directory; empty when they are, or when a setting says where."""

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.data / "xdr-mcp.db"

    def make(self) -> None:
        """Make both folders, for their owner alone, and keep what they hold out of version control.

        Raises:
            SettingsError: one of them cannot be made.
        """
        with _explained("XDR_ALERTS_DIR", self.alerts):
            _make_private(self.alerts)
        with _explained("XDR_DATA_DIR", self.data):
            _make_private(self.data)
            if not _noted(self.data):
                (self.data / NOTE).write_text(f"{self.alerts.resolve()}\n", encoding="utf-8")

    def cursor_key(self) -> bytes:
        """The key that signs cursors: one for all processes on a store, so that any of them takes another's cursor."""
        path = self.data / "cursor.key"
        if not path.exists():
            descriptor, name = tempfile.mkstemp(prefix=".cursor.key-", dir=self.data)  # for its owner alone
            temporary = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
            try:
                os.link(temporary, path)  # takes what is whole, and the first
            except FileExistsError:  # another process was faster
                pass
            except OSError:  # a file system without links
                temporary.replace(path)
            temporary.unlink(missing_ok=True)
        return path.read_bytes()


@contextmanager
def _explained(variable: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{variable}: {folder} cannot be made or written: {error.strerror}; "
            f"point {variable} at a folder that can be"
        ) from error


def places(configuration: Configuration) -> Places:
    """Where things lie under these settings; makes nothing."""
    settings, here = configuration.settings, configuration.folder
    variables = {"XDR_DATA_DIR": settings.data_dir, "XDR_ALERTS_DIR": settings.alerts_dir}
    stuck = [
        variable
        for variable, folder in variables.items()
        if configuration.origin(variable) == "default" and not _writable(here / folder)
    ]
    found = Places(here / settings.data_dir, here / settings.alerts_dir)
    if stuck:
        found = _per_user(found, stuck, here)
    noted = _noted(found.data)
    if noted and configuration.origin("XDR_ALERTS_DIR") == "default":
        found = replace(found, alerts=noted)
    return found


def _per_user(places: Places, stuck: list[str], here: Path) -> Places:
    import platformdirs  # noqa: PLC0415 (rarely needed, and commands are to start fast)

    per_user = platformdirs.user_data_path("xdr-mcp", appauthor=False)
    return Places(
        per_user if "XDR_DATA_DIR" in stuck else places.data,
        per_user / "alerts" if "XDR_ALERTS_DIR" in stuck else places.alerts,
        f"the working directory {here} cannot be written; {' and '.join(stuck)} are not set, so {per_user} is used",
    )


def _noted(data: Path) -> Path | None:
    """Where the archive of the store in this folder began, if it is still there."""
    try:
        noted = Path((data / NOTE).read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None
    return noted if noted.is_absolute() and noted.is_dir() else None


def _writable(folder: Path) -> bool:
    """Whether files can be made in it, or, where it is not there yet, whether it can be. Permissions alone lie to root."""
    while not folder.exists():
        folder = folder.parent
    try:
        Path(tempfile.mkdtemp(prefix=".xdr-mcp-", dir=folder)).rmdir()
    except OSError:
        return False
    return True


def _make_private(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(13, "permission denied")
