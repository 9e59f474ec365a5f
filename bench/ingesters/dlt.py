"""dlt: a resource into files of JSON lines, nested values left as they are. Keeps no index."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

PAGE = 1000


def main(url: str, alerts: int, folder: Path) -> None:
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
        "RUNTIME__LOG_LEVEL": "ERROR",
    }
    sys.path.pop(0)  # this file has the library's name
    import dlt
    from dlt.sources.helpers import requests

    @dlt.resource(name="alerts", write_disposition="append", max_table_nesting=0)
    def pages() -> Iterator[list[dict[str, Any]]]:
        for offset in range(0, alerts, PAGE):
            yield requests.get(f"{url}/api/v1/alerts", params={"page[limit]": PAGE, "page[offset]": offset}).json()[
                "data"
            ]

    destination = dlt.destinations.filesystem(bucket_url=(folder / "out").as_uri())
    pipeline = dlt.pipeline("bench", destination=destination, dataset_name="alerts", pipelines_dir=str(folder / "work"))
    began, worked = time.perf_counter(), time.process_time()
    pipeline.run(pages(), loader_file_format="jsonl")
    told = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - worked}
    lines = sum(path.read_bytes().count(b"\n") for path in (folder / "out/alerts/alerts").iterdir())
    print(json.dumps(told | {"alerts": lines + 0, "peak": getrusage(RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
