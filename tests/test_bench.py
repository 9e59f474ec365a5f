"""The instruments work: each measures a little, and tells its table. What they tell is not looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["ingest.py", "--alerts", "40,80", "--rounds", "1", "--only", "floor,ours,ours+archive"],
            ["| floor |", "| ours+archive |", "| speed of ours, 80 alerts against 40 |"],
        ),
        (
            ["query.py", "--alerts", "400", "--rounds", "2", "--busy"],
            ["| one alert by its id |", "| while this process saves |", "| a word, newest 20: p99 |"],
        ),
        (
            ["memory.py", "--alerts", "40", "--rounds", "2"],
            ["| store on disk, KB an alert |", "| poller and server together, peak |"],
        ),
        (
            ["serving.py", "--alerts", "40", "--rounds", "2", "--parts", "calls"],
            [
                "| http, 2026-07-28: page after page |",
                "| a call against a no-op, 2025-11-25: the newest, again and again |",
            ],
        ),
    ],
    ids=lambda value: value[0] if value[0].endswith(".py") else "",
)
def test_an_instrument_measures_and_tells(arguments: list[str], told: list[str], tmp_path: Path) -> None:
    script, *options = arguments
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *options],
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for line in told:
        assert line in done.stdout, done.stdout
