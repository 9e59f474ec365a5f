"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from power_loss import a_power_loss_disk


@pytest.fixture(scope="module")
def no_waiting_for_the_store_s_syncs() -> Generator[None, None, None]:
    """For the tests in which the store's disk keeps its power: SQLite need not wait for it."""
    with a_power_loss_disk():
        yield
