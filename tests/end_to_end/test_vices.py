"""The poller as a process, against a vendor with every vice: nothing lost, nothing told twice."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import anyio
import pytest
from program import command, environment, running, settings_for, simulated
from truth import Vendor, check

pytestmark = pytest.mark.anyio

SEED = 20261123
VICES = "all,429:0,429-huge:0"
"""Every vice but a Retry-After of years, which is kept (bounded) and would end the test's patience."""


def settings(url: str, folder: Path) -> dict[str, str]:
    return settings_for(url, folder, XDR_TIMEOUT="5")


def poll_once(url: str, folder: Path) -> None:
    """One clean run: it must succeed."""
    done = subprocess.run(
        command("poll", "--once"),
        cwd=folder,
        env=environment(**settings(url, folder)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(20, id="20 seconds"), pytest.param(240, id="four minutes", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("time_filter", ["supported", "rejected", "ignored"])
async def test_with_every_vice_on_every_alert_and_last_revision_arrives_once(
    time_filter: str, seconds: int, tmp_path: Path
) -> None:
    world = ("--speed", "60", "--alerts", "800", "--seed", str(SEED))
    with (
        simulated(*world, "--faults", VICES, "--time-filter", time_filter, folder=tmp_path) as url,
        Vendor(url) as vendor,
    ):
        with running("poll", folder=tmp_path, env=settings(url, tmp_path)) as poller:
            poller.wait_for("new")
            await anyio.sleep(seconds / 2)  # the time that the vices have to strike in; nothing is waited for
            vendor.burst(1_000)
            await anyio.sleep(seconds / 2)
            assert poller.stop() == 0
        struck = vendor.status()["struck"]
        vendor.calm()
        poll_once(url, tmp_path)
        changes = await check(vendor, tmp_path / "data/xdr-mcp.db", tmp_path / "alerts")
    assert len(struck) >= 8
    assert changes > 1_000


@pytest.mark.parametrize(
    "kills", [pytest.param(12, id="12 kills"), pytest.param(200, id="200 kills", marks=pytest.mark.slow)]
)
async def test_killed_at_random_moments_nothing_is_lost_told_twice_or_half_written(kills: int, tmp_path: Path) -> None:
    moments = random.Random(SEED)  # noqa: S311 (repeatable, not secret)
    world = ("--speed", "60", "--alerts", "300", "--seed", str(SEED))
    with simulated(*world, folder=tmp_path) as url, Vendor(url) as vendor:
        for _ in range(kills):
            with running("poll", folder=tmp_path, env=settings(url, tmp_path)):
                vendor.burst(100)
                await anyio.sleep(moments.uniform(0.5, 2.5))  # leaving kills the process, wherever it is
        vendor.calm()
        poll_once(url, tmp_path)
        changes = await check(vendor, tmp_path / "data/xdr-mcp.db", tmp_path / "alerts")
    assert changes > 100 * kills
