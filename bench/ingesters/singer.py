"""Singer: a tap on singer-python piped into target-jsonl, a process of its own. Keeps no index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import requests

PAGE = 1000
TARGET = Path(sys.executable).parents[2] / "singer-target" / "bin" / "target-jsonl"


def main(url: str, alerts: int, folder: Path) -> None:
    sys.path.pop(0)  # this file has the library's name
    import singer

    (folder / "config.json").write_text(json.dumps({"destination_path": str(folder)}))
    began, worked = time.perf_counter(), time.process_time()
    with subprocess.Popen(
        [TARGET, "--config", str(folder / "config.json")], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as target:
        assert target.stdin
        told = os.dup(1)
        os.dup2(target.stdin.fileno(), 1)  # singer writes to stdout
        singer.write_schema("alerts", {"type": "object", "properties": {}}, ["id"])
        with requests.Session() as session:
            for offset in range(0, alerts, PAGE):
                answer = session.get(f"{url}/api/v1/alerts", params={"page[limit]": PAGE, "page[offset]": offset})
                singer.write_records("alerts", answer.json()["data"])
        sys.stdout.flush()
        os.dup2(told, 1)
        target.stdin.close()
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    used = getrusage(RUSAGE_CHILDREN)
    lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
    peak = (getrusage(RUSAGE_SELF).ru_maxrss + used.ru_maxrss) / 1024
    print(json.dumps({"alerts": lines, "seconds": seconds, "cpu": cpu + used.ru_utime + used.ru_stime, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
