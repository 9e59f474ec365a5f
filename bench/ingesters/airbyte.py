"""Airbyte's Python CDK: a declarative source, records into one file of JSON lines. Normalises nothing, keeps no index."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource

PAGE = 1000


def manifest(url: str) -> dict[str, Any]:
    stream = {
        "type": "DeclarativeStream",
        "name": "alerts",
        "primary_key": "id",
        "retriever": {
            "type": "SimpleRetriever",
            "requester": {
                "type": "HttpRequester",
                "url_base": url,
                "path": "/api/v1/alerts",
                "http_method": "GET",
                "request_parameters": {"page[limit]": str(PAGE), "sort": "-updatedAt"},
            },
            "record_selector": {
                "type": "RecordSelector",
                "extractor": {"type": "DpathExtractor", "field_path": ["data"]},
            },
            "paginator": {
                "type": "DefaultPaginator",
                "page_token_option": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "page[offset]",
                },
                "pagination_strategy": {"type": "OffsetIncrement", "page_size": PAGE},
            },
        },
        "schema_loader": {
            "type": "InlineSchemaLoader",
            "schema": {"type": "object", "additionalProperties": True, "properties": {"id": {"type": "string"}}},
        },
    }
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["alerts"]},
        "streams": [stream],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def main(url: str, folder: Path) -> None:
    schema = {"type": "object"}
    named = {"name": "alerts", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
    catalog = {"streams": [{"stream": named, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]}
    (folder / "config.json").write_text("{}")
    (folder / "catalog.json").write_text(json.dumps(catalog))
    source = ConcurrentDeclarativeSource(config={}, source_config=manifest(url))
    entry = AirbyteEntrypoint(source)
    arguments = ["read", "--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]
    began, worked = time.perf_counter(), time.process_time()
    alerts = 0
    with (folder / "alerts.jsonl").open("w", encoding="utf-8") as file:
        for message in entry.run(entry.parse_args(arguments)):
            if message.startswith('{"type":"RECORD"'):
                alerts += 1
                file.write(f"{message}\n")
    told = {"alerts": alerts, "seconds": time.perf_counter() - began, "cpu": time.process_time() - worked}
    print(json.dumps(told | {"peak": getrusage(RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[3]))
