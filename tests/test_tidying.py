"""The store is put in order while little is saved."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from contract_stores import save
from model_vendor import START, record

from xdr_mcp.interfaces import Store
from xdr_mcp.store import open_store
from xdr_mcp.tidying import Tidying

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    async with open_store(tmp_path / "store.db") as opened:
        yield opened


async def save_some(store: Store, number: int) -> None:
    seq = await store.last_seq()
    await save(store, *(record(f"{seq}-{each}", START) for each in range(number)))


async def test_what_a_quiet_store_is_left_in_is_put_in_order(store: Store) -> None:
    task = Tidying(store)
    for _ in range(3):
        await save_some(store, 1)
    await task.once()  # the first look only looks
    await save_some(store, 1)
    await task.once()
    assert not await store.tidy()


async def test_saving_has_precedence(store: Store) -> None:
    task = Tidying(store, few=5)
    await task.once()
    for _ in range(2):
        await save_some(store, 3)
    await task.once()
    assert await store.tidy()
