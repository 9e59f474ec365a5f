"""Proposals and the audit log in their tables: what is written about a proposal and what is logged of it are one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from xdr_mcp.errors import ProposalMoved
from xdr_mcp.proposal import GENESIS, PENDING, UNDECIDED, AuditEntry, AuditNote, AuditRow, Proposal, ProposalState
from xdr_mcp.store.sqlite.keys import LARGEST, microseconds
from xdr_mcp.store.sqlite.revisions import uid_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import apsw

_COLUMNS = "SELECT number, state, body FROM proposals"
_UNDECIDED, _PENDING = (", ".join(f"'{state}'" for state in states) for states in (UNDECIDED, PENDING))

PENDING_UIDS = f"SELECT uid FROM proposals WHERE state IN ({_PENDING})"  # noqa: S608 (our own words)
"""The alerts that a proposal is pending for, as SQL."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Proposal).decode


def propose(connection: apsw.Connection, proposal: Proposal, now: datetime) -> Proposal:
    """Keep and log a proposal, or find the same one undecided."""
    row = connection.execute(f"{_COLUMNS} WHERE digest = ? AND state IN ({_UNDECIDED})", (proposal.digest,)).fetchone()
    if row is not None:
        return _proposal(row)
    connection.execute(
        "INSERT INTO proposals (uid, digest, state, changed, body) VALUES (?, ?, ?, ?, x'')",
        (uid_of(proposal.alert.id), proposal.digest, proposal.state, microseconds(now)),
    )
    kept = structs.replace(proposal, number=connection.last_insert_rowid(), changed=now)
    connection.execute("UPDATE proposals SET body = ? WHERE number = ?", (_encode(kept), kept.number))
    told = {"alert": kept.alert.id, "change": msgspec.to_builtins(kept.change), "content": kept.digest.hex()}
    undoes = {} if kept.undoes is None else {"undoes": kept.undoes}
    _log(connection, kept, AuditNote(event="proposed", by=kept.proposed_by, detail=told | undoes))
    return kept


def decide(
    connection: apsw.Connection, proposal: Proposal, was: ProposalState, note: AuditNote, now: datetime
) -> Proposal:
    """Keep and log what became of a proposal. Raises ProposalMoved."""
    decided = structs.replace(proposal, changed=now)
    connection.execute(
        "UPDATE proposals SET state = ?, changed = ?, body = ? WHERE number = ? AND state = ?",
        (decided.state, microseconds(now), _encode(decided), decided.number, was),
    )
    if not connection.changes():
        known = by_number(connection, proposal.number)
        stands = f"is {known.state} now" if known else "does not exist"
        raise ProposalMoved(f"proposal {proposal.number} {stands}; look at it again")
    _log(connection, decided, note)
    return decided


def by_number(connection: apsw.Connection, number: int) -> Proposal | None:
    """One proposal."""
    row = connection.execute(f"{_COLUMNS} WHERE number = ?", (min(number, LARGEST),)).fetchone()
    return None if row is None else _proposal(row)


def in_states(connection: apsw.Connection, states: Sequence[ProposalState], limit: int) -> tuple[Proposal, ...]:
    """Proposals in one of the states, newest first."""
    wanted = states or tuple(ProposalState)
    marks = ", ".join("?" for _ in wanted)
    rows = connection.execute(f"{_COLUMNS} WHERE state IN ({marks}) ORDER BY number DESC LIMIT ?", (*wanted, limit))
    return tuple(map(_proposal, rows))


def audit_after(connection: apsw.Connection, after: int, limit: int) -> tuple[AuditRow, ...]:
    """Rows of the log, ascending."""
    rows = connection.execute(
        "SELECT seq, body, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (min(after, LARGEST), limit)
    )
    return tuple(AuditRow(*row) for row in rows)


def _log(connection: apsw.Connection, proposal: Proposal, note: AuditNote) -> None:
    seq, previous = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone() or (
        0,
        GENESIS,
    )
    entry = AuditEntry(
        seq=seq + 1,
        at=proposal.changed,
        proposal=proposal.number,
        state=proposal.state,
        event=note.event,
        by=note.by,
        detail=dict(note.detail),
    )
    row = AuditRow.after(previous, entry)
    connection.execute("INSERT INTO audit (seq, body, hash) VALUES (?, ?, ?)", (row.seq, row.body, row.hash))


def _proposal(row: Sequence[Any]) -> Proposal:
    number, state, body = row
    return structs.replace(_decode(body), number=number, state=ProposalState(state))
