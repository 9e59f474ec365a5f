"""What is related to an alert, how strongly, and why.

Two alerts are related by what they share: an entity, a rule, a case, an ATT&CK technique. What few alerts share says much and
what thousands share says little, so each shared thing weighs as much as it is rare: the logarithm of how many alerts there
are for each that has it. Closeness in time adds to what is related already, and relates nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from msgspec import Struct

from xdr_mcp.alert import Alert, EntityKind
from xdr_mcp.query import Pattern, Query, Term, forms_of, value_of
from xdr_mcp.server.answers.budget import Answer, fitted, most_that_fit
from xdr_mcp.server.answers.coverage import Detail, caveat
from xdr_mcp.server.answers.desk import Desk, Reach
from xdr_mcp.server.answers.faces import face_of
from xdr_mcp.server.answers.storms import Folding, Storm
from xdr_mcp.server.answers.telling import COMPACT, FULL, Shape, one_line, told_labels, told_row
from xdr_mcp.untrusted import spell

RELATED = 10
"""Alerts that are told, where no number was given."""
BUDGET = 1_500
"""Tokens, where no budget was given."""

SHARED_BY_MOST = 1_000
"""What more alerts share than this is not followed: it would relate everything with everything."""
_LOOKED_AT = 40
"""Entities, rules and so on of one alert that are looked up."""
_EACH = 50
"""Alerts that are read for each of them, the newest."""
_NEAR = timedelta(hours=1)
_WHYS = 4
_SHOWN = 80
_SKIPPED_TOLD = 10

_CASES = ("case:", "incident:")
"""How a label begins by which a vendor's module says to which case or incident of the vendor's an alert belongs."""
_WEIGHTS = {"label": 2.0, "rule": 0.5, "technique": 0.3}
"""A case says more than an entity, which weighs 1; a rule and a technique say less."""
_SHORT_FORM = frozenset({EntityKind.HOST, EntityKind.USER})
"""Kinds that one vendor names in full and another does not."""


class Link(Struct, frozen=True):
    """Something that alerts share, and how many do."""

    term: Term
    shown: str
    alerts: int


class _Relative(Struct):
    """A related alert, and by what."""

    alert: Alert
    score: float
    links: list[Link]


class _Found(Struct):
    """Everything that was found for one alert."""

    alert: Alert
    relatives: list[_Relative]
    skipped: list[dict[str, Any]]
    unseen: int
    """Things that could be shared and were not looked up at all."""


async def related_alerts(desk: Desk, told_id: str, *, limit: int = RELATED, budget: int | None = None) -> Answer:
    """The alerts that are related most, each with ``why``; and what was not looked at, because too many share it.

    Raises:
        UnknownAlert: with the ids that come closest.
    """
    reach = await desk.reach()
    alert = (await desk.alert(told_id)).alert
    aspects = list(dict.fromkeys(_aspects(alert)))
    links = [Link(term, shown, await desk.store.count(Query(root=term))) for term, shown in aspects[:_LOOKED_AT]]
    relatives = await _relatives(desk, alert, [link for link in links if 1 < link.alerts <= SHARED_BY_MOST])
    skipped = [_told_skipped(link) for link in links if link.alerts > _EACH]
    found = _Found(alert, relatives, skipped, max(0, len(aspects) - _LOOKED_AT))
    return _told(found, reach, limit, budget or BUDGET)


def _aspects(alert: Alert) -> Iterator[tuple[Term, str]]:
    """What an alert can share with others, and how it is told."""
    named = [("label", label) for label in alert.labels if label.startswith(_CASES)]
    named += [("rule", alert.rule_id or alert.rule_name)]
    named += [("technique", technique) for technique in alert.techniques]
    for field, value in named:
        yield from _aspect(field, value, f"{field}:{value}")
    first = face_of(alert).principals
    for entity in [*first, *(entity for entity in alert.entities if entity not in first)]:
        forms = list(forms_of(entity))
        shared = forms[-1] if entity.kind in _SHORT_FORM else forms[0]
        yield from _aspect(entity.kind.value, shared, f"{entity.kind}:{entity.value}")


def _aspect(field: str, value: str, shown: str) -> Iterator[tuple[Term, str]]:
    if folded := value_of(value):
        yield Term(field, Pattern((folded,))), one_line(shown, _SHOWN)


async def _relatives(desk: Desk, alert: Alert, links: Iterable[Link]) -> list[_Relative]:
    """Those that share something, the strongest relation first; of equal ones, the newest."""
    total = await desk.store.count(Query())
    found: dict[str, _Relative] = {}
    for link in sorted(links, key=lambda link: (link.alerts, link.shown)):
        weight = _WEIGHTS.get(link.term.field, 1.0) * math.log2(1 + total / link.alerts)
        for other in (await desk.store.find(Query(root=link.term), _EACH)).alerts:
            if other.id != alert.id:
                relative = found.setdefault(other.id, _Relative(other, _nearness(alert, other), []))
                relative.score += weight
                relative.links.append(link)
    return sorted(found.values(), key=lambda each: (-each.score, -each.alert.created.timestamp(), each.alert.id))


def _nearness(alert: Alert, other: Alert) -> float:
    """1 at the same moment, 0 from an hour on."""
    return max(0.0, 1 - abs(alert.created - other.created) / _NEAR)


# ---------------------------------------------------------------- telling


def _told(found: _Found, reach: Reach, limit: int, budget: int) -> Answer:
    by_id = {relative.alert.id: relative for relative in found.relatives}
    folding = Folding(limit)
    for relative in found.relatives:
        folding.take([relative.alert])
    storms = folding.storms

    def form(number: int, shape: Shape | None, detail: Detail, reduced: str = "") -> Answer:
        rows = [_row(found.alert, by_id[storm.alert.id], storm, shape) for storm in storms[:number]]
        data: dict[str, Any] = {"alerts": rows, "total": len(found.relatives)}
        if shape:
            data |= {"not_followed": found.skipped[:_SKIPPED_TOLD]} if found.skipped else {}
            data |= {"not_looked_up": found.unseen} if found.unseen else {}
        if number < len(storms):
            reduced = f"{number} of {len(storms)} rows, {reduced}"
        data |= {"reduced": reduced} if reduced else {}
        data |= told_labels(rows, "why" if rows else "")
        data |= reach.told(detail)
        return Answer(f"{len(found.relatives)} related alerts. {caveat(data['coverage'])}".strip(), data)

    every = len(storms)
    bare = "ids and the strongest reason"
    answer = fitted(
        (
            form(every, FULL, Detail.FULL),
            form(every, COMPACT, Detail.BRIEF, "compact rows"),
            form(every, None, Detail.BARE, bare),
        ),
        budget,
    )
    if answer.tokens <= budget or not storms:
        return answer
    fits = most_that_fit(every, lambda number: form(number, None, Detail.BARE, bare).tokens <= budget)
    return form(fits, None, Detail.BARE, bare)


def _row(alert: Alert, relative: _Relative, storm: Storm, shape: Shape | None) -> dict[str, Any]:
    """A related alert and why it is; without a shape, its id and the strongest reason."""
    why = [f"{link.shown} ({link.alerts} alerts)" for link in relative.links[:_WHYS]]
    if shape is None:
        ids = {"ids": [spell(alert_id) for alert_id in storm.ids]} if storm.ids else {}
        return {"id": spell(relative.alert.id)} | ids | {"why": why[:1]}
    if len(relative.links) > _WHYS:
        why.append(f"{len(relative.links) - _WHYS} more")
    if _nearness(alert, relative.alert):
        seconds = round((relative.alert.created - alert.created).total_seconds())
        why.append(f"{abs(seconds)} s {'later' if seconds > 0 else 'earlier'}")
    return told_row(storm, shape) | {"why": why}


def _told_skipped(link: Link) -> dict[str, Any]:
    """Something whose alerts were not all read."""
    read = {"read": _EACH} if link.alerts <= SHARED_BY_MOST else {"read": 0}
    return {"shared": link.shown, "alerts": link.alerts} | read
