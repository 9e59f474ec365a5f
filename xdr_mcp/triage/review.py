"""What is put before whoever decides: field by field what is and what will be, what is sent, and what should make one wary."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert
from xdr_mcp.errors import TriageError
from xdr_mcp.interfaces import Plan, Record, Store, Takes, VendorRequest
from xdr_mcp.proposal import Proposal, TriageChange
from xdr_mcp.query import Pattern, Query, Term, fold
from xdr_mcp.triage.mentions import copied_from, mentions
from xdr_mcp.untrusted import visible

LONGEST_COMMENT: Final = 2_000
LONGEST_ASSIGNEE: Final = 200

_DECIDED_ON: Final = ("status", "verdict", "assignee")
_TELLING: Final = (*_DECIDED_ON, "severity", "title", "description", "risk_score", "confidence", "count", "last_seen")
"""The fields by which an alert is said to have changed. Entities are not among them: a list and a single alert tell them
differently, for some vendors."""


class Step(Struct, frozen=True):
    """One field of an alert, before and after."""

    field: str
    now: str
    then: str


class Review(Struct, frozen=True, kw_only=True):
    """A proposal as it is to be decided on."""

    proposal: Proposal
    alert: Alert
    """As it is now: at the vendor, or in the store where nobody was called."""
    steps: tuple[Step, ...]
    """What will change."""
    requests: tuple[VendorRequest, ...]
    """What the vendor will be sent; empty when the alert is as wished already."""
    since: tuple[Step, ...]
    """What has changed since it was proposed: then, and now."""
    warnings: tuple[str, ...]
    basis: str
    """Stands for all that was shown. An approval names it."""


async def review(store: Store, proposal: Proposal, record: Record, plan: Plan) -> Review:
    """The proposal against the alert of ``record``."""
    return Review(
        proposal=proposal,
        alert=record.alert,
        steps=tuple(_differences(record.alert, plan.after, _DECIDED_ON)),
        requests=plan.requests,
        since=tuple(_differences(proposal.alert, record.alert, _TELLING)),
        warnings=tuple(await _warnings(store, proposal)),
        basis=_basis(record.alert, plan),
    )


def check(change: TriageChange, takes: Takes, source: str) -> None:
    """Refuse what no vendor, or not this one, can be told. Raises TriageError."""
    if not change.fields and not change.comment.strip():
        raise TriageError("nothing would change: give a status, a verdict, an assignee or a comment")
    for name, text, longest in (
        ("comment", change.comment, LONGEST_COMMENT),
        ("assignee", change.assignee or "", LONGEST_ASSIGNEE),
    ):
        if len(text) > longest:
            raise TriageError(f"the {name} has {len(text):,} characters; at most {longest:,} are taken")
        if visible(text) != text:
            raise TriageError(f"the {name} holds characters that cannot be seen; write it without them")
    if "\n" in (change.assignee or ""):
        raise TriageError("the assignee is more than one line; give one name or address")
    wrong = [
        (change.status is not None and change.status not in takes.statuses, "status", change.status, takes.statuses),
        (
            change.verdict is not None and change.verdict not in takes.verdicts,
            "verdict",
            change.verdict,
            takes.verdicts,
        ),
    ]
    for is_wrong, name, value, known in wrong:
        if is_wrong:
            raise TriageError(f"{source} cannot be told the {name} {value}; it takes {', '.join(known) or 'none'}")
    if change.assignee is not None and not takes.assignee:
        raise TriageError(f"{source} cannot be told an assignee; leave it out")
    if change.comment and not takes.comment:
        raise TriageError(f"{source} takes no comments; leave it out")


def inverse(alert: Alert, plan: Plan) -> TriageChange:
    """What would put back the fields that a plan changes. A comment stays: no vendor takes one back."""
    changed: dict[str, Any] = {
        name: getattr(alert, name) for name in _DECIDED_ON if getattr(alert, name) != getattr(plan.after, name)
    }
    return TriageChange(**changed)


def shows(record: Record, proposal: Proposal) -> bool:
    """Whether the alert of ``record`` is as the proposal wished."""
    wanted = proposal.change.fields
    if not wanted:
        return proposal.mark.encode() in record.raw
    return all(fold(str(getattr(record.alert, name))) == fold(value) for name, value in wanted.items())


def _differences(before: Alert, after: Alert, names: tuple[str, ...]) -> Iterator[Step]:
    for name in names:
        now, then = getattr(before, name), getattr(after, name)
        if now != then:
            yield Step(name, _told(now), _told(then))


def _told(value: object) -> str:
    return "" if value is None else str(value)


def _basis(alert: Alert, plan: Plan) -> str:
    shown = [alert.id, alert.updated, *(getattr(alert, name) for name in _TELLING), plan.requests]
    return blake2b(msgspec.json.encode(shown), digest_size=16).hexdigest()


async def _warnings(store: Store, proposal: Proposal) -> list[str]:
    alert, change = proposal.alert, proposal.change
    warnings = []
    if named := await mentions(store, alert.vendor_id, but=alert.id):
        warnings.append(
            f"the id of this alert stands in the text of {_listed(named)}, where an attacker may have put it"
        )
    if change.comment and (copied := await copied_from(store, change.comment)):
        warnings.append(f"the comment repeats what stands in the text of {_listed(copied)}")
    if change.assignee and not await _was_assignee(store, change.assignee):
        warnings.append(f"no stored alert was ever assigned to {change.assignee}")
    return warnings


async def _was_assignee(store: Store, assignee: str) -> bool:
    return bool((await store.find(Query(root=Term("assignee", Pattern((fold(assignee),)))), 1)).alerts)


def _listed(ids: tuple[str, ...]) -> str:
    return ", ".join(ids)
