from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from contract_stores import OPENERS, Opener
from model_vendor import ManualClock

from xdr_mcp.interfaces import Store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
async def store(opener: Opener, tmp_path: Path, clock: ManualClock) -> AsyncGenerator[Store, None]:
    async with opener(tmp_path, clock) as opened:
        yield opened
