"""Changes made by hand, for the tests of what follows the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from model_vendor import record

from xdr_mcp.alert import ChangeKind, KeptChange

MOMENT = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)


def change(vendor_id: str, *, seq: int = 1, revision: int = 1, minutes: float = 0, **fields: object) -> KeptChange:
    """Revision ``revision`` of one alert, updated ``minutes`` after ``MOMENT``."""
    updated = MOMENT + timedelta(minutes=minutes)
    made = record(vendor_id, updated, **fields)  # type: ignore[arg-type]  # source is among the fields
    kind = ChangeKind.CREATED if revision == 1 else ChangeKind.UPDATED
    body = msgspec.json.encode(made.alert)
    return KeptChange(seq=seq, kind=kind, revision=revision, body=body, raw=made.raw, fetched=MOMENT, saved=MOMENT)
