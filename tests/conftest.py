"""What every test may use."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from xdr_mcp import telemetry


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in this process sets logging up as a program does: for itself, and not for the tests after it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in [each for each in root.handlers if type(each).__module__ == telemetry.__name__]:
        root.removeHandler(handler)
    logging.captureWarnings(capture=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--snapshot-update", action="store_true", help="write tests/server/snapshots anew")
