"""What a request asks for: fields, page, sort and filters in the vendor's dialect, checked before anything is done.

``filter[status]=NEW,IN_PROGRESS`` is a comma list; ``filter[severity]={"gte":3}`` is a JSON object of operators.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from xdr_mcp.simulator.revision import Resource, canonical, milliseconds_of

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "gte": operator.ge,
    "lte": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
}
_LEVELS = {word: level for level, word in enumerate(("unknown", "informational", "low", "medium", "high", "critical"))}
_FILTER = re.compile(r"filter\[(\w+)\]")
TIMES: Final = frozenset({"createdAt", "updatedAt", "time", "lastAggregatedTime"})
LEVELS: Final = frozenset({"severity", "risk", "confidence"})
_NUMBERS: Final = frozenset({"score", "totalEventMatchCount", "alertAggregationCount", "assetsCount"})
DEFAULT_LIMIT: Final = 10


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


class Condition(NamedTuple):
    """One comparison; ``eq`` holds when any of the values is met, the others compare with the one value."""

    field: str
    operator: str
    values: tuple[Any, ...]


class Asked(NamedTuple):
    """A checked question."""

    limit: int
    offset: int
    sort: tuple[tuple[str, bool], ...]
    """Field and whether it descends."""
    conditions: tuple[Condition, ...]
    fields: frozenset[str]
    """Attributes wanted; all of them when empty."""
    search: str


def read_question(params: Mapping[str, str], default_sort: str, largest_page: int) -> Asked:
    """Check the parameters of a list request. Raises Refused (400)."""
    limit = _whole(params, "page[limit]", DEFAULT_LIMIT, 1)
    return Asked(
        min(limit, largest_page),
        _whole(params, "page[offset]", 0, 0),
        tuple(_sort_key(key) for key in params.get("sort", default_sort).split(",")),
        tuple(condition for name, text in params.items() for condition in _conditions(name, text)),
        frozenset(filter(None, params.get("fields", "").split(","))),
        params.get("searchText", "").casefold(),
    )


def value_of(resource: Resource, field: str) -> Any:
    """What a field of a resource is compared by; None where it has none."""
    if field in {"id", "type"} and field not in resource["attributes"]:
        return resource[field]
    attributes = resource["attributes"]
    if field == "technique":
        return [attack["techniqueId"] for attack in attributes.get("attacks", ())]
    if field == "tactic":
        return [attack["tactic"].partition(" ")[0] for attack in attributes.get("attacks", ())]
    value = attributes.get(field)
    if field in TIMES and isinstance(value, str):
        return _microseconds(field, value)
    return value.casefold() if isinstance(value, str) else value


def holds(resource: Resource, condition: Condition) -> bool:
    """Whether a resource meets a condition."""
    compare = _OPERATORS[condition.operator]
    found = value_of(resource, condition.field)
    candidates = [text.casefold() for text in found] if isinstance(found, list) else [found]
    return any(
        candidate is not None and isinstance(candidate, type(value)) and compare(candidate, value)
        for candidate in candidates
        for value in condition.values
    )


def page_of(resources: Sequence[Resource], asked: Asked) -> tuple[list[Resource], int]:
    """Filter, search, sort and cut a small list; gives the page and how many there are in all."""
    found = [one for one in resources if all(holds(one, condition) for condition in asked.conditions)]
    if asked.search:
        found = [one for one in found if asked.search in canonical(one).decode().casefold()]
    for field, descending in reversed(asked.sort):
        found.sort(key=lambda one: sortable(value_of(one, field)), reverse=descending)
    page = found[asked.offset : asked.offset + asked.limit]
    return [select(one, asked.fields) for one in page], len(found)


def select(resource: Resource, fields: frozenset[str]) -> Resource:
    """The resource with the wanted attributes only."""
    if not fields:
        return resource
    attributes = {name: value for name, value in resource["attributes"].items() if name in fields}
    return {**resource, "attributes": attributes}


def sortable(value: Any) -> tuple[str, Any]:
    """A key that sorts values of different types, absent ones first."""
    return ("", 0) if value is None else (type(value).__name__, value)


def _whole(params: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < least:
        raise Refused(400, "Bad Request", f"{name} must be a whole number from {least} up, not {text!r}")
    return int(text)


def _sort_key(key: str) -> tuple[str, bool]:
    field = key.removeprefix("-")
    if not field.isalpha():
        raise Refused(400, "Bad Request", f"sort: {key!r} is no field")
    return field, key.startswith("-")


def _conditions(name: str, text: str) -> list[Condition]:
    match = _FILTER.fullmatch(name)
    if match is None:
        return []
    field = match[1]
    if not text.startswith("{"):
        return [Condition(field, "eq", tuple(_value(field, part) for part in text.split(",")))]
    try:
        comparisons = json.loads(text)
    except ValueError:
        raise Refused(400, "Bad Request", f"{name}: not a JSON object: {text[:80]}") from None
    if not comparisons or [] in comparisons.values():
        raise Refused(400, "Bad Request", f"{name}: compares with nothing")
    unknown = set(comparisons) - set(_OPERATORS)
    if unknown:
        raise Refused(400, "Bad Request", f"{name}: no operator {min(unknown)!r}; known are {', '.join(_OPERATORS)}")
    return [
        Condition(
            field, operation, tuple(_value(field, one) for one in (value if isinstance(value, list) else [value]))
        )
        for operation, value in comparisons.items()
    ]


def _value(field: str, value: Any) -> Any:
    """A value of a filter in the type that its field is compared in."""
    if field in TIMES:
        return _microseconds(field, str(value))
    text = str(value).strip().casefold()
    if field in LEVELS and text in _LEVELS:
        return _LEVELS[text]
    if field in LEVELS | _NUMBERS:
        if not text.isdecimal():
            raise Refused(400, "Bad Request", f"filter[{field}]: {value!r} is no level")
        return int(text)
    return {"true": True, "false": False}.get(text, text)


def _microseconds(field: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, "Bad Request", f"filter[{field}]: {text!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return milliseconds_of(moment.replace(microsecond=0)) * 1000 + moment.microsecond
