"""Where alerts are kept: ``open_store`` names the one place of truth by a path or a URL."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xdr_mcp.errors import SettingsError
from xdr_mcp.interfaces import Clock, Store, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["open_store"]


@asynccontextmanager
async def open_store(url_or_path: str | Path, *, clock: Clock = utc_now) -> AsyncIterator[Store]:
    """Open a store, made on first use: a path, or ``sqlite:///`` and a path.

    Raises:
        SettingsError: no store goes by this URL.
        StoreUnusable: it is there and cannot be used; the message says why and what to do.
    """
    from xdr_mcp.store.sqlite.database import Database  # noqa: PLC0415 (an engine is loaded when it is chosen)
    from xdr_mcp.store.sqlite.store import SqliteStore  # noqa: PLC0415

    path = _sqlite_path(url_or_path)
    database = Database(path)
    await database.open()
    store = SqliteStore(database, path, clock)
    try:
        yield store
    finally:
        store.close()
        await database.close()


def _sqlite_path(url_or_path: str | Path) -> Path:
    text = str(url_or_path)
    scheme, separator, rest = text.partition("://")
    if isinstance(url_or_path, Path) or not separator:
        path = Path(text)
    elif scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        path = Path(rest[1:])
    else:
        raise SettingsError(f"There is no store for {scheme}:// URLs; name a file, such as sqlite:////var/lib/xdr.db")
    return path.expanduser().absolute()
