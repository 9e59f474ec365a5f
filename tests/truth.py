"""What the simulated vendor says is true, and whether a store and an archive hold exactly that."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from xdr_mcp.alert import Change
from xdr_mcp.interfaces import Store
from xdr_mcp.sinks.archive import WRITING, file_name
from xdr_mcp.store import open_store

Versions = dict[str, str]
"""The digest of the newest version of each alert, by the vendor's id."""


class Vendor:
    """The simulator's own endpoints, which no vice spoils."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._http = httpx.Client(base_url=f"{parts.scheme}://{parts.netloc}/_sim", timeout=30, trust_env=False)

    def calm(self) -> None:
        """Rest every vice, stop the company, show what was late."""
        self._http.post("/calm").raise_for_status()

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._http.get("/status").raise_for_status().json()
        return status

    def burst(self, alerts: int) -> None:
        self._http.post("/burst", json={"alerts": alerts}).raise_for_status()

    def newest_versions(self) -> Versions:
        """Every alert there is, with its newest version."""
        return {line["id"]: line["digest"] for line in self._lines("/truth")}

    def poisoned(self) -> set[str]:
        """Ids of spoilt records, which may or may not have been taken."""
        return {line["id"] for line in self._lines("/poison")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _lines(self, path: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._http.get(path).raise_for_status().text.splitlines()]


def digest_of(raw: bytes) -> str:
    """A record's digest as the simulator computes it: key order and white space do not count."""
    canonical = json.dumps(json.loads(raw), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=16).hexdigest()


async def check(vendor: Vendor, store_file: Path, alerts: Path) -> int:
    """Assert that every alert and every newest version is stored and archived, and nothing was told twice.

    Returns how many changes there are.
    """
    truth, poisoned = vendor.newest_versions(), vendor.poisoned()
    async with open_store(store_file) as store:
        changes = await every_change(store)
    newest = {change.alert.vendor_id: digest_of(change.raw) for change in changes}
    kept = {vendor_id: digest for vendor_id, digest in newest.items() if vendor_id not in poisoned}
    assert differences(kept, truth) == {}
    told = Counter((change.alert.id, change.alert.updated, digest_of(change.raw)) for change in changes)
    assert [version for version, times in told.items() if times > 1] == []
    check_archive(changes, alerts)
    return len(changes)


def differences(kept: Versions, truth: Versions) -> dict[str, tuple[str | None, str | None]]:
    """(kept, true) where they differ."""
    everything = sorted(kept.keys() | truth.keys())
    return {key: (kept.get(key), truth.get(key)) for key in everything if kept.get(key) != truth.get(key)}


def check_archive(changes: list[Change], alerts: Path) -> None:
    """One whole file for each change, with its record, and no other."""
    files = {path.name: path for path in alerts.rglob("alert_*.json")}
    expected = {file_name(change): change for change in changes}
    assert files.keys() == expected.keys()
    assert len(expected) == len(changes)
    for name, change in expected.items():
        content = msgspec.json.decode(files[name].read_bytes(), type=dict[str, msgspec.Raw])
        assert bytes(content["raw"]) == change.raw
    assert list((alerts / WRITING).iterdir()) == []


async def every_change(store: Store) -> list[Change]:
    changes: list[Change] = []
    while batch := await store.changes(changes[-1].seq if changes else 0, 1000):
        changes += batch
    return changes
