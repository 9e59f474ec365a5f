"""The shapes that the vendor's records take in the wild, on demand.

Whether a record drifts is drawn from the alert's id and the revision's number, never from the request: a version that is
read twice has the same bytes both times, as it must, or a client would be right to call it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from random import Random
from typing import Final, Self

from xdr_mcp.simulator.revision import Resource

_WORDS = ("Unknown", "Informational", "Low", "Medium", "High", "Critical")


class BadDrift(ValueError):
    """A drift that does not exist; the message lists those that do."""


def _rename(record: Resource, old: str, new: str) -> None:
    attributes = record["attributes"]
    if old in attributes:
        attributes[new] = attributes.pop(old)


def _relationship(record: Resource) -> None:
    record["relationship"] = record.pop("relationships")


def _status_object(record: Resource) -> None:
    record["attributes"]["status"] = {"value": record["attributes"]["status"]}


def _severity_word(record: Resource) -> None:
    attributes = record["attributes"]
    attributes.update(severity=_WORDS[attributes["severity"]], risk=_WORDS[attributes["risk"]])


def _techniques(record: Resource) -> list[str]:
    return [attack["techniqueId"] for attack in record["attributes"]["attacks"]]


def _attacks_text(record: Resource) -> None:
    record["attributes"]["attacks"] = ", ".join(_techniques(record))


def _attacks_texts(record: Resource) -> None:
    record["attributes"]["attacks"] = _techniques(record)


def _attacks_dict(record: Resource) -> None:
    record["attributes"]["attacks"] = {"techniques": _techniques(record)}


def _attacks_dict_id(record: Resource) -> None:
    record["attributes"]["attacks"] = {"technique_id": next(iter(_techniques(record)), None)}


def _actions_text(record: Resource) -> None:
    record["attributes"]["recommendedActions"] = "; ".join(record["attributes"]["recommendedActions"])


def _genai_snake(record: Resource) -> None:
    _rename(record, "genaiName", "genai_name")
    _rename(record, "genaiSummary", "genai_summary")


_RECORD: Final[dict[str, Callable[[Resource], None]]] = {
    "relationship": _relationship,
    "status-object": _status_object,
    "severity-word": _severity_word,
    "attacks-text": _attacks_text,
    "attacks-texts": _attacks_texts,
    "attacks-dict": _attacks_dict,
    "attacks-dict-id": _attacks_dict_id,
    "actions-text": _actions_text,
    "genai-snake": _genai_snake,
}
DRIFTS: Final = (*_RECORD, "nested-included", "single-list", "odd-id", "text-errors")
"""Every drift: those of a record's members, ``included`` inside each alert, a single GET as a list of one, ids that are no
UUID, errors that are not JSON."""


class Drift:
    """The drifts in force; half of the records show each."""

    def __init__(self, names: frozenset[str] = frozenset(), *, seed: int = 1) -> None:
        self.names = names
        self._seed = seed

    @classmethod
    def parse(cls, text: str, *, seed: int = 1) -> Self:
        """Read a comma list of drifts, or ``all``. Raises BadDrift."""
        names: set[str] = set()
        for name in filter(None, (part.strip() for part in text.split(","))):
            if name not in {*DRIFTS, "all", "none"}:
                hint = "".join(f"did you mean {close!r}? " for close in get_close_matches(name, DRIFTS, n=1))
                raise BadDrift(f"there is no drift {name!r}; {hint}known are all, none, {', '.join(DRIFTS)}")
            names |= set(DRIFTS) if name == "all" else {name} - {"none"}
        return cls(frozenset(names), seed=seed)

    def __bool__(self) -> bool:
        return bool(self.names)

    def public_id(self, alert_id: str) -> str:
        """The id the alert is known by: with ``odd-id``, one in four is no UUID."""
        odd = "odd-id" in self.names and self._draw("odd-id", alert_id).random() < 1 / 4
        return f"ALERT:{alert_id[:13]}" if odd else alert_id

    def shape(self, alert_id: str, number: int, record: Resource) -> Resource:
        """The record as it looks; ``included`` stays in it only where that drift strikes."""
        shaped: Resource = {**record, "attributes": dict(record["attributes"]), "id": self.public_id(alert_id)}
        if not self.nests(alert_id, number):
            shaped.pop("included", None)
        drawn = [name for name in _RECORD if self._strikes(name, alert_id, number)]
        attacks = [name for name in drawn if name.startswith("attacks-")]
        for name in (name for name in drawn if name not in attacks[1:]):
            _RECORD[name](shaped)
        return shaped

    def nests(self, alert_id: str, number: int) -> bool:
        """Whether the record carries its own ``included``."""
        return self._strikes("nested-included", alert_id, number)

    def _strikes(self, name: str, *of: object) -> bool:
        return name in self.names and self._draw(name, *of).random() < 1 / 2

    def _draw(self, *of: object) -> Random:
        return Random(f"drift/{self._seed}/{of}")  # noqa: S311 (repeatable, not secret)
