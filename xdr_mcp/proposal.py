"""What is proposed to be written back to a vendor, and the log of what became of it.

The log is a chain: the hash of each row covers the hash of the row before, so that none can be edited, removed or moved
without all later hashes changing. Who notes the newest hash elsewhere can tell that the chain was not rebuilt, either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b, sha256
from typing import Any

import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert, Status, Verdict

GENESIS = bytes(32)
"""What stands for the hash of the row before the first."""


class TriageChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What shall be different about an alert at the vendor; None leaves a field as it is."""

    status: Status | None = None
    verdict: Verdict | None = None
    assignee: str | None = None
    """Empty takes the alert away from whoever has it."""
    comment: str = ""
    """Added to what the vendor keeps beside the alert; never replaces anything."""

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the alert that it sets, with their new values."""
        wanted = {"status": self.status, "verdict": self.verdict, "assignee": self.assignee}
        return {name: str(value) for name, value in wanted.items() if value is not None}


class ProposalState(StrEnum):
    """How far a proposal has come."""

    OPEN = "open"
    """Nobody has decided."""
    APPLYING = "applying"
    """Approved; the vendor may have been told, or not."""
    APPLIED = "applied"
    """The vendor has it; no poll has shown it yet."""
    VERIFIED = "verified"
    """A poll has shown it."""
    UNCONFIRMED = "unconfirmed"
    """The vendor took it, and no poll has shown it for days."""
    REJECTED = "rejected"
    EXPIRED = "expired"

    @property
    def pending(self) -> bool:
        """Something is still to come, so its alert must stay."""
        return self in PENDING


PENDING = (ProposalState.OPEN, ProposalState.APPLYING, ProposalState.APPLIED)
UNDECIDED = (ProposalState.OPEN, ProposalState.APPLYING)


class Proposal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change that somebody wants, and where it stands."""

    number: int = 0
    """Given by the store, from 1 up."""
    nonce: str
    """Hexadecimal digits that nobody could guess beforehand."""
    alert: Alert
    """As it was when this was proposed."""
    change: TriageChange
    proposed_by: str
    proposed: datetime
    undoes: int | None = None
    """The number of the proposal whose effect this takes back."""
    state: ProposalState = ProposalState.OPEN
    changed: datetime
    """When the state was last written."""
    decided_by: str = ""
    before: TriageChange | None = None
    """What it replaced at the vendor, once approved: the inverse change."""

    @property
    def mark(self) -> str:
        """What a comment at the vendor carries, so that it is recognised when it is met again."""
        return f"xdr-mcp {self.number}-{self.nonce}"

    @property
    def digest(self) -> bytes:
        """16 bytes, the same for the same change of the same alert."""
        return blake2b(
            msgspec.json.encode([self.alert.id, self.change, self.undoes], order="sorted"), digest_size=16
        ).digest()

    def repeats(self, other: Proposal) -> bool:
        """Whether who decided on ``other`` would be asked the same again: the same fields, in whatever words they are explained.

        A comment alone is what it says.
        """
        mine, theirs = self.change, other.change
        same = mine.fields == theirs.fields and (bool(mine.fields) or mine.comment == theirs.comment)
        return same and (self.alert.id, self.undoes) == (other.alert.id, other.undoes)


# ---------------------------------------------------------------- the log


class AuditNote(Struct, frozen=True, kw_only=True):
    """Something that happened to a proposal, to be logged."""

    event: str
    """``proposed``, ``approved``, ``resumed``, ``applied``, ``refused``, ``unknown``, ``verified``, ``rejected``, …"""
    by: str
    detail: Mapping[str, Any] = {}


class AuditEntry(Struct, frozen=True, kw_only=True):
    """A row of the log as it is read."""

    seq: int
    at: datetime
    proposal: int
    state: ProposalState
    """Of the proposal, from then on."""
    event: str
    by: str
    detail: dict[str, Any]


class AuditRow(Struct, frozen=True):
    """A row of the log as it is kept."""

    seq: int
    body: bytes
    """An ``AuditEntry`` as JSON; these bytes are hashed."""
    hash: bytes
    """SHA-256 over the hash of the row before and the body."""

    @classmethod
    def after(cls, previous: bytes, entry: AuditEntry) -> AuditRow:
        """The row that follows the one whose hash is given."""
        body = msgspec.json.encode(entry, order="sorted")
        return cls(entry.seq, body, link(previous, body))

    @property
    def entry(self) -> AuditEntry:
        """What it tells. Raises msgspec.DecodeError when it was spoilt."""
        return msgspec.json.decode(self.body, type=AuditEntry)


def link(previous: bytes, body: bytes) -> bytes:
    """The hash of a row: SHA-256 over the hash of the row before it, then its body."""
    return sha256(previous + body).digest()


class Verification(Struct, frozen=True, kw_only=True):
    """What checking the log found."""

    rows: int
    """Rows that were found whole."""
    head: str
    """Hash of the last of them, in hexadecimal digits."""
    faults: tuple[str, ...] = ()
    """What is wrong; empty when nothing is."""


def verify(rows: Iterable[AuditRow], proposals: Iterable[Proposal], noted: str = "") -> Verification:
    """Check the chain, that it agrees with the proposals, and that a hash noted elsewhere (``noted``) is in it."""
    seen, head = 0, GENESIS
    last: dict[int, ProposalState] = {}
    contents: dict[int, str] = {}
    noted_found = not noted
    for row in rows:
        if fault := _fault(row, seen + 1, head):
            return Verification(rows=seen, head=head.hex(), faults=(fault,))
        seen, head = row.seq, row.hash
        noted_found = noted_found or head.hex() == noted.strip().lower()
        entry = row.entry
        last[entry.proposal] = entry.state
        contents.setdefault(entry.proposal, entry.detail.get("content", ""))
    faults = (
        [] if noted_found else [f"the hash that was noted, {noted}, is not in the log: it was rebuilt or cut short"]
    )
    known = {proposal.number: proposal for proposal in proposals}
    faults += [f"proposal {number} is logged and not kept" for number in sorted(last.keys() - known.keys())]
    for number, proposal in sorted(known.items()):
        if number not in last:
            faults.append(f"proposal {number} is kept and not logged")
        elif proposal.state is not last[number]:
            faults.append(f"proposal {number} is {proposal.state}, and the log says {last[number]}")
        elif contents[number] != proposal.digest.hex():
            faults.append(f"proposal {number} asks for something else than when it was logged")
    return Verification(rows=seen, head=head.hex(), faults=tuple(faults))


def _fault(row: AuditRow, expected: int, previous: bytes) -> str:
    if row.seq != expected:
        return f"row {expected} is missing: row {row.seq} follows row {expected - 1}"
    if link(previous, row.body) != row.hash:
        return f"row {row.seq} was edited, or a row before it was removed or moved"
    try:
        told = row.entry.seq
    except msgspec.MsgspecError as error:
        return f"row {row.seq} cannot be read: {error}"
    return "" if told == expected else f"row {row.seq} was row {told}"
