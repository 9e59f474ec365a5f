"""Grove: a connector on its base class, pages into compressed files of JSON lines, as its local output writes them. Keeps no index.

The connector is written as those that grove brings for logs in the order of time: it goes on from a pointer, 24 hours ago at first.
Grove tells alerts apart by a hash of each within a page, and can write nothing but gzip: two thirds of its time.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

PAGE = 1000


def connector(url: str, folder: Path) -> Any:
    import requests
    from grove.connectors import BaseConnector
    from grove.constants import CHRONOLOGICAL
    from grove.exceptions import NotFoundException
    from grove.models import ConnectorConfig

    class Alerts(BaseConnector):
        CONNECTOR = "xdr_alerts"
        POINTER_PATH = "attributes.updatedAt"
        LOG_ORDER = CHRONOLOGICAL

        def collect(self) -> None:
            try:
                since = self.pointer
            except NotFoundException:
                since = self.pointer = f"{datetime.now(UTC) - timedelta(hours=24):%Y-%m-%dT%H:%M:%S.000Z}"
            asked = {"page[limit]": PAGE, "sort": "updatedAt", "filter[updatedAt]": json.dumps({"gte": since})}
            offset = 0
            with requests.Session() as session:
                session.headers["Authorization"] = f"Bearer {self.key}"
                while True:
                    answer = session.get(f"{url}/api/v1/alerts", params=asked | {"page[offset]": offset})
                    answer.raise_for_status()
                    records = answer.json()["data"]
                    if not records:
                        break
                    offset += len(records)
                    self.save(records)

    os.environ |= {
        "GROVE_OUTPUT_HANDLER": "local_file",
        "GROVE_OUTPUT_LOCAL_FILE_PATH": str(folder),
        "GROVE_CACHE_HANDLER": "local_file",
        "GROVE_CACHE_LOCAL_FILE_PATH": str(folder / "cache"),
    }
    return Alerts(ConnectorConfig(name="bench", identity="bench", connector="xdr_alerts", key="token"), {})


def main(url: str, folder: Path) -> None:
    sys.path.pop(0)  # this file has the library's name
    alerts = connector(url, folder)
    began, worked = time.perf_counter(), time.process_time()
    alerts.run()
    told = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - worked}
    lines = sum(len(gzip.decompress(path.read_bytes()).splitlines()) for path in (folder / "logs").rglob("*.gz"))
    print(json.dumps(told | {"alerts": lines, "peak": getrusage(RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[3]))
