"""A list of alerts behind ``page[offset]`` that moves while it is read, in every way that a vendor's might."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx

BEGIN = datetime(2026, 1, 10, tzinfo=UTC)


def in_milliseconds(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alert(identifier: str, updated: datetime, **attributes: Any) -> dict[str, Any]:
    times = {"createdAt": in_milliseconds(BEGIN), "updatedAt": in_milliseconds(updated)}
    return {"id": identifier, "type": "alert", "attributes": {"name": identifier, "severity": 3, **times, **attributes}}


@dataclass
class MovingApi:
    """``rows`` is what the vendor holds; between two requests they move as the chances (0 to 1, forty tries) say."""

    rows: dict[str, datetime]
    time_filter: Literal["works", "refused", "ignored", "misread", "fails"] = "works"
    sorts: bool = True
    knows_updated_at: bool = True
    most_rows: int = 1000
    deepest: int | None = None
    total: Literal["honest", "page", "everything", "huge", "absent"] = "honest"
    moving: float = 0
    leaving: float = 0
    arriving: float = 0
    shortened: float = 0
    repeated: float = 0
    emptied: float = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 (dice)
    still: bool = True
    """Nothing moves, and no vice shows."""
    requests: list[httpx.QueryParams] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        wanted = request.url.params
        self.requests.append(wanted)
        if not self.still:
            self._move()
        sort = wanted.get("sort", "")
        if not self.knows_updated_at and "updatedAt" in sort:
            return httpx.Response(400, json={"errors": [{"detail": "unknown sort"}]})
        rows = list(self.rows.items())
        if text := wanted.get("filter[updatedAt]"):
            if self.time_filter in {"refused", "fails"}:
                return httpx.Response(
                    400 if self.time_filter == "refused" else 500, json={"errors": ["no such filter"]}
                )
            rows = self._filtered(rows, json.loads(text))
        if self.sorts and "updatedAt" in sort:
            rows.sort(key=lambda row: (row[1], row[0]), reverse=sort.startswith("-"))
        offset = int(wanted.get("page[offset]", 0))
        if self.deepest is not None and offset > self.deepest:
            return httpx.Response(400, json={"errors": ["offset too large"]})
        return self._answer(rows, offset, int(wanted.get("page[limit]", 10)))

    def _filtered(self, rows: list[tuple[str, datetime]], bounds: dict[str, str]) -> list[tuple[str, datetime]]:
        if self.time_filter == "misread":
            return []
        if self.time_filter == "ignored":
            return rows
        start = datetime.fromisoformat(bounds["gte"])
        end = datetime.fromisoformat(bounds.get("lte", "2999-01-01T00:00:00Z"))
        return [row for row in rows if start <= row[1] <= end]

    def _answer(self, rows: list[tuple[str, datetime]], offset: int, limit: int) -> httpx.Response:
        page = rows[offset : offset + min(limit, self.most_rows)]
        if not self.still and self.chance.random() < self.shortened and len(page) > 2:
            page = page[: self.chance.randrange(2, len(page))]
        if not self.still and self.chance.random() < self.emptied:
            page = []
        totals = {"honest": len(rows), "page": len(page), "everything": len(self.rows), "huge": 10**9}
        document: dict[str, Any] = {"data": [alert(*row) for row in page]}
        if self.total != "absent":
            document["meta"] = {"totalRecords": totals[self.total]}
        return httpx.Response(200, json=document)

    def _move(self) -> None:
        newest = max(self.rows.values(), default=BEGIN)
        for number in range(40):
            newest += timedelta(milliseconds=1)
            known = list(self.rows)
            if known and self.chance.random() < self.moving:
                self._touch(self.chance.choice(known), newest)
            if known and self.chance.random() < self.leaving:
                gone = self.chance.choice(known)
                self.rows.pop(gone)
                self.touched.add(gone)
            if self.chance.random() < self.arriving:
                self._touch(f"new-{len(self.requests)}-{number}", newest)

    def _touch(self, identifier: str, moment: datetime) -> None:
        self.rows[identifier] = moment
        self.touched.add(identifier)
