"""What was to be reached (docs/performance.md), against what was measured: a table at the end of each measurement."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Reach:
    """Rows of that table."""

    _rows: list[str] = field(default_factory=list)

    def at_most(self, what: str, limit: float, measured: float, unit: str = "") -> None:
        self._row(what, f"≤ {limit:g}{unit}", f"{measured:.2f}{unit}", reached=measured <= limit)

    def at_least(self, what: str, limit: float, measured: float, unit: str = "") -> None:
        self._row(what, f"≥ {limit:g}{unit}", f"{measured:.2f}{unit}", reached=measured >= limit)

    def _row(self, what: str, wanted: str, measured: str, *, reached: bool) -> None:
        self._rows.append(f"| {what} | {wanted} | {measured} | {'yes' if reached else 'no'} |")

    def tell(self) -> None:
        if self._rows:
            print("\n| to be reached | wanted | measured | reached |\n| --- | --: | --: | --- |")
            print("\n".join(self._rows), flush=True)
