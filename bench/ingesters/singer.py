"""Singer: an incremental tap on singer-python piped into target-jsonl, a process of its own. Keeps no index.

The tap tells its state after each page and changes no record; most published taps put each through singer's ``Transformer`` besides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import requests

PAGE = 1000
TARGET = Path(sys.executable).parents[2] / "singer-target" / "bin" / "target-jsonl"


def tap(url: str) -> None:
    """Everything that changed in the last 24 hours, oldest first, on stdout."""
    import singer

    start = f"{datetime.now(UTC) - timedelta(hours=24):%Y-%m-%dT%H:%M:%S.000Z}"
    asked = {"page[limit]": PAGE, "sort": "updatedAt", "filter[updatedAt]": json.dumps({"gte": start})}
    singer.write_schema("alerts", {"type": "object", "properties": {}}, ["id"])
    offset = 0
    with requests.Session() as session:
        while records := session.get(f"{url}/api/v1/alerts", params=asked | {"page[offset]": offset}).json()["data"]:
            singer.write_records("alerts", records)
            updated = records[-1]["attributes"]["updatedAt"]
            singer.write_state(singer.write_bookmark({}, "alerts", "updatedAt", updated))
            offset += len(records)
    sys.stdout.flush()


def main(url: str, folder: Path) -> None:
    sys.path.pop(0)  # this file has the library's name
    import singer  # noqa: F401 (loaded before the clock starts)

    (folder / "config.json").write_text(json.dumps({"destination_path": str(folder)}))
    began, worked = time.perf_counter(), time.process_time()
    with subprocess.Popen(
        [TARGET, "--config", str(folder / "config.json")], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as target:
        assert target.stdin
        terminal = os.dup(1)
        os.dup2(target.stdin.fileno(), 1)  # singer writes to stdout
        tap(url)
        os.dup2(terminal, 1)
        target.stdin.close()
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    used = getrusage(RUSAGE_CHILDREN)
    lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
    peak = (getrusage(RUSAGE_SELF).ru_maxrss + used.ru_maxrss) / 1024
    print(json.dumps({"alerts": lines, "seconds": seconds, "cpu": cpu + used.ru_utime + used.ru_stime, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[3]))
