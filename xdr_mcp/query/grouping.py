r"""What alerts can be counted by: fields, and times in buckets of an hour, a day, a week or a month (UTC).

An alert counts under its own values only, each thing once: ``CORP\alice`` is found by ``user:alice`` too, but is not counted
as a second user; a technique or tactic goes by its id, a rule by its name. ``field:"value"`` finds at least what was counted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from itertools import islice, product
from typing import Any, TypeAlias, cast

from msgspec import Struct, defstruct, structs

from xdr_mcp.alert import Alert, EntityKind
from xdr_mcp.errors import QueryError
from xdr_mcp.query.evaluate import LEVELS
from xdr_mcp.query.fields import FIELDS, FieldKind, field_named
from xdr_mcp.query.text import value_of
from xdr_mcp.query.values import name_of

MOST_FACETS = 3
"""So many things alerts are counted by at once."""
MOST_COMBINATIONS = 1_000
"""An alert counts in so many groups; one with a hundred hosts and a hundred users would count in ten thousand."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_FIRST_DAY, _LAST_DAY = (day.toordinal() - date(1970, 1, 1).toordinal() for day in (date.min, date.max))


class Facet(Struct, frozen=True):
    """One thing that alerts are counted by: a field, or a time field in buckets of one unit."""

    field: str
    unit: str = ""

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"{self.field}:{self.unit}" if self.unit else self.field

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of an alert that it looks at."""
        return _READS.get(self.field, (self.field,))

    @property
    def own(self) -> Callable[[Alert], Hashable]:
        """Gives what an alert says of it, in its own terms."""
        if self.unit:
            return partial(_hours, self.field, 1 if self.unit == "hour" else _DAY // _HOUR)
        return LEVELS[self.field] if self.field in LEVELS else _OWN[self.field]

    def values(self, own: Any) -> dict[str | None, str | None]:
        """The values in what is said: folded, each with the way the alert spells it; None for None where there is none."""
        if self.unit:
            return _alone(None if own is None else bucket(own, self.unit))
        if self.field in LEVELS:
            return _alone(None if own is None else name_of(self.field, own))
        found: dict[str | None, str | None] = {}
        for text in own:
            if folded := value_of(text):
                found.setdefault(folded, text)
        return found or {None: None}


Values: TypeAlias = tuple[str | None, ...]


class Grouping:
    """Which groups alerts count in: what an alert says of all facets, and the groups that lie in it."""

    def __init__(self, chosen: Sequence[Facet]) -> None:
        self._chosen = chosen
        self._own = [facet.own for facet in chosen]

    @property
    def part(self) -> type[Alert]:
        """What stands for an alert here: a type that has the fields which are looked at, and decodes no others."""
        return _part_of(frozenset(name for facet in self._chosen for name in facet.reads))

    def own(self, alert: Alert) -> tuple[Hashable, ...]:
        """What the alert says, in its own terms. Most say what others said before them."""
        return tuple([own(alert) for own in self._own])

    def groups(self, own: tuple[Hashable, ...]) -> Iterator[tuple[Values, Values]]:
        """Every group that an alert which says this counts in, once: its folded values and how the alert spells them."""
        values = [facet.values(said).items() for facet, said in zip(self._chosen, own, strict=True)]
        for pairs in islice(product(*values), MOST_COMBINATIONS):
            yield tuple(folded for folded, _ in pairs), tuple(shown for _, shown in pairs)


@lru_cache(maxsize=100)
def _part_of(wanted: frozenset[str]) -> type[Alert]:
    fields = [
        (field.name, field.type) if field.required else (field.name, field.type, field.default)
        for field in structs.fields(Alert)
        if field.name in wanted
    ]
    return cast("type[Alert]", defstruct("Part", fields, gc=False))


def facets(names: Sequence[str]) -> tuple[Facet, ...]:
    """What these names say to count by, aliases understood.

    Raises:
        QueryError: one of them cannot be counted by; the message tells what can.
    """
    if not names or len(names) > MOST_FACETS:
        raise QueryError(" ".join(names), 0, 0, f"Alerts are counted by one to {MOST_FACETS} fields", "severity")
    found = tuple(map(_facet, names))
    for number, facet in enumerate(found):
        if facet in found[:number]:
            raise QueryError(names[number], 0, len(names[number]), "This is named twice; name each field once")
    return found


def keyword(name: str) -> str:
    """The keyword field that goes by this name.

    Raises:
        QueryError: it is none.
    """
    field = field_named(name)
    if field is None or field.kind is not FieldKind.KEYWORD:
        known = ", ".join(field.name for field in FIELDS.values() if field.kind is FieldKind.KEYWORD)
        raise QueryError(name, 0, len(name), f"This is no field of keywords; these are {known}", "host")
    return field.name


def bucket(hours: int, unit: str) -> str:
    """The bucket that holds the hour which begins so many hours after 1970, UTC: 2026-11-25T13, 2026-11-25, 2026-W48, 2026-11."""
    days, hour = divmod(hours, 24)
    if not _FIRST_DAY <= days <= _LAST_DAY:  # a day that only another time zone can name
        days, hour = (_FIRST_DAY, 0) if days < _FIRST_DAY else (_LAST_DAY, 23)
    return UNITS[unit](date.fromordinal(days + _EPOCH.toordinal()), hour)


def _week(day: date, _hour: int) -> str:
    year, week, _ = day.isocalendar()
    return f"{year:04}-W{week:02}"


UNITS: Mapping[str, Callable[[date, int], str]] = {
    "hour": lambda day, hour: f"{day.isoformat()}T{hour:02}",
    "day": lambda day, _: day.isoformat(),
    "week": _week,
    "month": lambda day, _: day.isoformat()[:7],
}
"""How a day and an hour of it are written as a bucket of each unit: ISO 8601, so that text order is time order."""


def _hours(field: str, each: int, alert: Alert) -> int | None:
    """Hours since 1970 of the last full ``each``."""
    moment: datetime | None = getattr(alert, field)
    return None if moment is None else (moment - _EPOCH) // (each * _HOUR) * each


def _first(text: str | None, other: str | None) -> str:
    """The first that is a value at all; empty when neither is."""
    if text and value_of(text):
        return text
    return other if other and value_of(other) else ""


_OWN: Mapping[str, Callable[[Alert], tuple[str, ...]]] = {
    "entity": lambda alert: tuple([entity.value for entity in alert.entities]),
    "technique": lambda alert: tuple([_first(attack.technique, attack.technique_name) for attack in alert.attacks]),
    "tactic": lambda alert: tuple([_first(attack.tactic, attack.tactic_name) for attack in alert.attacks]),
    "rule": lambda alert: (_first(alert.rule_name, alert.rule_id),),
    "source": lambda alert: (alert.source,),
    "product": lambda alert: (alert.product,),
    "vendor": lambda alert: (alert.vendor,),
    "tenant": lambda alert: (alert.tenant,),
    "category": lambda alert: (alert.category,),
    "assignee": lambda alert: (alert.assignee,),
    "label": lambda alert: alert.labels,
    "id": lambda alert: (alert.id,),
} | {
    kind.value: lambda alert, kind=kind: tuple([entity.value for entity in alert.entities if entity.kind is kind])
    for kind in EntityKind
}

_READS: Mapping[str, tuple[str, ...]] = {
    "entity": ("entities",),
    "technique": ("attacks",),
    "tactic": ("attacks",),
    "rule": ("rule_name", "rule_id"),
    "label": ("labels",),
} | {kind.value: ("entities",) for kind in EntityKind}
"""Fields of an alert that go by another name than what is counted."""


_TIMES = tuple(field.name for field in FIELDS.values() if field.kind is FieldKind.TIME)


def _alone(value: str | None) -> dict[str | None, str | None]:
    return {value: value}


def _countable(name: str) -> bool:
    return name in LEVELS or name in _OWN


def _facet(name: str) -> Facet:
    told, _, unit = name.partition(":")
    field = field_named(told)
    if field is not None:
        if not unit and _countable(field.name):
            return Facet(field.name)
        if field.name in _TIMES and unit in UNITS:
            return Facet(field.name, unit)
    reason = (
        f"Alerts cannot be counted by this; they can by {', '.join(filter(_countable, FIELDS))}, "
        f"and by {', '.join(_TIMES)} with one of :{', :'.join(UNITS)}"
    )
    example = f"{field.name}:day" if field and field.name in _TIMES else "severity"
    raise QueryError(name, 0, len(name), reason, example)
