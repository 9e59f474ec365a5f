"""A server opens its sources when they are first needed; what fails then is tried again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from xdr_mcp.errors import StoreUnusable
from xdr_mcp.interfaces import Store
from xdr_mcp.opening import SourcesOnDemand
from xdr_mcp.places import places
from xdr_mcp.settings import load
from xdr_mcp.setup import Setup
from xdr_mcp.store import open_store
from xdr_mcp.telemetry import Counter


class FullForAMoment:
    """A store whose disk is full at the first report."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._full = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def report(self, *told: Any) -> None:
        """Fails once."""
        if self._full:
            self._full = False
            raise StoreUnusable("the disk is full")
        await self._store.report(*told)


@pytest.mark.anyio
async def test_sources_that_could_not_be_opened_for_a_full_disk_are_opened_at_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDR_SOURCES", "xdr,microsoft")  # the second is not configured, which is reported to the store
    monkeypatch.setenv("XDR_BASE_URL", "https://xdr.example")
    monkeypatch.setenv("XDR_AUTH_TOKEN", "token")
    configuration = load()
    setup = Setup(configuration, places(configuration), Counter())
    async with AsyncExitStack() as stack:
        store: Any = FullForAMoment(await stack.enter_async_context(open_store(tmp_path / "xdr.db")))
        sources = SourcesOnDemand(setup, store, stack)  # a real disk that is full for a moment cannot be had
        with pytest.raises(StoreUnusable):
            await sources.open()
        await sources.open()
        assert [source.name for source in sources.opened] == ["xdr"]
