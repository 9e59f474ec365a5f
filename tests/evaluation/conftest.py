"""One world for all the tests here: nothing that they ask changes it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from evals.estate import World, world


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package")
async def here(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[World]:  # noqa: ARG001 (asked for, so that it runs)
    async with world(tmp_path_factory.mktemp("evals"), proposing=True) as made:
        yield made
