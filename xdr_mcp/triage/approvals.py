"""Proposing, deciding, applying, taking back. The seam of every place where a person decides: a terminal, a web console."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

import anyio
import msgspec
from msgspec import structs

from xdr_mcp.alert import Alert
from xdr_mcp.errors import BadResponse, ProposalMoved, SourceError, StoreError, TriageError, Unavailable
from xdr_mcp.interfaces import Clock, Plan, Record, Store, Triage, utc_now
from xdr_mcp.lease import TTL, run_while_held
from xdr_mcp.proposal import UNDECIDED, AuditNote, Proposal, ProposalState, TriageChange
from xdr_mcp.triage.review import Review, check, inverse, review, shows
from xdr_mcp.untrusted import escaped

log = logging.getLogger(__name__)

EXPIRY: Final = timedelta(hours=24)
"""A proposal that nobody decides on is gone after this; one that was rejected is not taken again for as long."""
UNCONFIRMED_AFTER: Final = timedelta(days=7)
MOST_OPEN: Final = 25
"""Open proposals beyond which no more are taken: who is asked too often says yes."""
LOOKED_AT: Final = 1_000
"""Proposals that are looked at together, the newest."""
SETTLE_EVERY: Final = 30.0
OURSELVES: Final = "xdr-mcp"

_TAKEN = (ProposalState.APPLIED, ProposalState.VERIFIED, ProposalState.UNCONFIRMED)


class Stale(TriageError):
    """The alert, or what would be sent, is not as it was shown any more. ``review`` is what is to be shown instead."""

    def __init__(self, review: Review) -> None:
        super().__init__(
            f"proposal {review.proposal.number}: the alert has changed since it was shown; look at it again"
        )
        self.review = review


class Approvals:
    """Proposals over a store, and the vendors that can be written to, by the name of their source."""

    def __init__(self, store: Store, vendors: Mapping[str, Triage], *, holder: str, clock: Clock = utc_now) -> None:
        self._store = store
        self.vendors = vendors
        self._holder = holder
        self._clock = clock

    # -- who proposes

    async def propose(self, alert_id: str, change: TriageChange, by: str, *, undoes: int | None = None) -> Review:
        """Keep a change for a person to decide on, and say what it comes to; nobody is called and nothing is changed.

        The same change of the same alert, proposed again while undecided, is the same proposal.

        Raises:
            SourceError: no request can name the alert.
            TriageError: the vendor cannot be told this, there is nothing to change, a person rejected the same within a
                day, or too many are open.
        """
        await self.settle()  # so that one whose time is over is not taken for the same
        known = await self._store.get(alert_id)
        if known is None:
            raise TriageError(f"there is no alert {alert_id}")
        now = self._clock()
        wanted = Proposal(
            nonce=secrets.token_hex(4),
            alert=known.alert,
            change=change,
            proposed_by=by,
            proposed=now,
            changed=now,
            undoes=undoes,
        )
        record = Record(known.alert, known.raw)
        check(change, self._vendor(known.alert).takes, known.alert.source)
        if not self._plan(wanted, record).requests:
            raise TriageError(f"{alert_id} is like that already; nothing would change")
        await self._refuse_repetition(wanted)
        proposal = await self._store.propose(wanted)
        if proposal.nonce == wanted.nonce:
            log.info("proposal %d for %s waits for a person", proposal.number, escaped(alert_id))
        return await review(self._store, proposal, record, self._plan(proposal, record))

    # -- who decides

    async def pending(self) -> tuple[Proposal, ...]:
        """What waits for a person, or for a poll, newest first."""
        await self.settle()
        return await self._store.proposals(*UNDECIDED, ProposalState.APPLIED)

    async def review(self, number: int) -> Review:
        """The proposal against the alert as the vendor has it now.

        Raises:
            TriageError: it is not undecided. SourceError: the vendor does not tell.
        """
        proposal = await self._undecided(number)
        record = await self._vendor(proposal.alert).read(proposal.alert.vendor_id)
        return await review(self._store, proposal, record, self._plan(proposal, record))

    async def approve(self, number: int, basis: str, by: str) -> Proposal:
        """Have the vendor do what a review showed (its ``basis``), in the name of the person ``by``.

        One that was cut off after its approval is taken up: what the vendor has already is not sent again.

        Raises:
            Stale: what was shown holds no more; nothing was sent.
            TriageError: it is decided already, or somebody else decides now.
            SourceError: the vendor refused, and it is open as before; or whether it was done is not known (Unavailable,
                BadResponse), and approving it again finds out.
        """
        return await self._alone(number, partial(self._apply, number, basis, by))

    async def reject(self, number: int, by: str, reason: str = "") -> Proposal:
        """Decide against it. One that was cut off after its approval may have been done in part: that is not undone.

        Raises:
            TriageError: it is decided already, or is being applied now.
        """
        return await self._alone(number, partial(self._reject, number, by, reason))

    async def undo(self, number: int, by: str) -> Review:
        """Propose what puts back the fields that a proposal changed: decided on and applied as any other.

        Raises:
            TriageError: it was never applied, it changed no field (a comment stays), or the alert is like that already.
        """
        proposal = await self._known(number)
        if proposal.state not in _TAKEN:
            raise TriageError(f"proposal {number} is {proposal.state}, so there is nothing to undo")
        if proposal.before is None or not proposal.before.fields:
            raise TriageError(f"proposal {number} changed no field; a comment stays at the vendor")
        return await self.propose(proposal.alert.id, proposal.before, by, undoes=number)

    # -- what time and polls bring

    async def settle(self) -> None:
        """End what nobody decided on in time, and note what polls have shown."""
        now = self._clock()
        for proposal in await self._store.proposals(ProposalState.OPEN, ProposalState.APPLIED, limit=LOOKED_AT):
            age = now - proposal.changed
            if proposal.state is ProposalState.OPEN:
                if now - proposal.proposed >= EXPIRY:
                    await self._settled(proposal, ProposalState.EXPIRED)
            elif (seq := await self._shown(proposal)) is not None:
                await self._settled(proposal, ProposalState.VERIFIED, seq=seq)
            elif age >= UNCONFIRMED_AFTER:
                await self._settled(proposal, ProposalState.UNCONFIRMED)

    async def run(self) -> None:
        """Settle for ever, as changes come. Nothing but cancellation ends it."""
        seq = 0
        while True:
            try:
                seq = await self._store.last_seq()
                await self.settle()
                await self._store.wait(seq, SETTLE_EVERY)
            except StoreError as error:
                log.error("triage: %s (it is tried again)", error)  # noqa: TRY400 (the message says all; no traceback)
                await anyio.sleep(SETTLE_EVERY)

    # ---------------------------------------------------------------- within

    async def _alone(self, number: int, deed: Callable[[], Awaitable[Proposal]]) -> Proposal:
        """Do it while nobody else decides on the proposal: neither another process, nor another caller of this object."""
        holder = f"{self._holder}.{secrets.token_hex(3)}"
        lease = await self._store.acquire(f"triage:{number}", holder, TTL)
        if lease is None:
            raise TriageError(f"proposal {number} is being decided on elsewhere at this moment; look at it again")
        return await run_while_held(self._store, lease, deed)

    async def _reject(self, number: int, by: str, reason: str) -> Proposal:
        proposal = await self._undecided(number)
        rejected = structs.replace(proposal, state=ProposalState.REJECTED, decided_by=by)
        return await self._note(rejected, proposal.state, "rejected", by, reason=reason)

    async def _apply(self, number: int, basis: str, by: str) -> Proposal:
        proposal = await self._undecided(number)
        vendor = self._vendor(proposal.alert)
        record = await vendor.read(proposal.alert.vendor_id)
        plan = self._plan(proposal, record)
        shown = await review(self._store, proposal, record, plan)
        if shown.basis != basis:
            raise Stale(shown)
        earlier = proposal.before
        proposal = await self._approved(proposal, shown, inverse(record.alert, plan), by)
        for sent, request in enumerate(plan.requests):
            try:
                await vendor.send(request)
            except (Unavailable, BadResponse) as error:
                await self._note(proposal, proposal.state, "unknown", OURSELVES, reason=str(error))
                raise type(error)(
                    f"{error}. Whether it was done is not known: `xdr-mcp approve {number}` looks first, then goes on"
                ) from error
            except SourceError as error:
                before = proposal.before if sent else earlier
                opened = structs.replace(proposal, state=ProposalState.OPEN, before=before)
                await self._note(opened, proposal.state, "refused", OURSELVES, reason=str(error))
                raise
        applied = structs.replace(proposal, state=ProposalState.APPLIED)
        return await self._note(applied, proposal.state, "applied", by, sent=len(plan.requests))

    async def _approved(self, proposal: Proposal, shown: Review, before: TriageChange, by: str) -> Proposal:
        """Log what was approved, before anything is sent. What it replaces shows only before the first request."""
        if proposal.state is ProposalState.APPLYING:
            return await self._note(proposal, proposal.state, "resumed", by)
        before = proposal.before or before
        approved = structs.replace(proposal, state=ProposalState.APPLYING, decided_by=by, before=before)
        requests = msgspec.to_builtins(shown.requests)
        return await self._note(approved, proposal.state, "approved", by, basis=shown.basis, requests=requests)

    async def _note(self, proposal: Proposal, was: ProposalState, event: str, by: str, **detail: Any) -> Proposal:
        told = {name: value for name, value in detail.items() if value not in ("", None)}
        return await self._store.decide(proposal, was, AuditNote(event=event, by=by, detail=told))

    async def _settled(self, proposal: Proposal, state: ProposalState, **detail: Any) -> None:
        try:
            await self._note(structs.replace(proposal, state=state), proposal.state, state.value, OURSELVES, **detail)
        except ProposalMoved as moved:  # another process was faster
            log.debug("%s", moved)
        else:
            log.info("proposal %d is %s", proposal.number, state)

    async def _shown(self, proposal: Proposal) -> int | None:
        """The seq of the newest change of the alert, when it shows what was applied."""
        known = await self._store.get(proposal.alert.id)
        return known.seq if known and shows(Record(known.alert, known.raw), proposal) else None

    async def _known(self, number: int) -> Proposal:
        proposal = await self._store.proposal(number)
        if proposal is None:
            raise TriageError(f"there is no proposal {number}; `xdr-mcp approve` lists those that are open")
        return proposal

    async def _undecided(self, number: int) -> Proposal:
        await self.settle()
        proposal = await self._known(number)
        if proposal.state not in UNDECIDED:
            by = f" by {proposal.decided_by}" if proposal.decided_by else ""
            raise TriageError(f"proposal {number} is {proposal.state}{by}; there is nothing to decide")
        return proposal

    def _vendor(self, alert: Alert) -> Triage:
        if alert.source not in self.vendors:
            raise TriageError(
                f"{alert.source} cannot be written to; docs/triage.md says which sources can, and what they need"
            )
        return self.vendors[alert.source]

    def _plan(self, proposal: Proposal, record: Record) -> Plan:
        return self._vendor(proposal.alert).plan(record, proposal.change, proposal.mark)

    async def _refuse_repetition(self, wanted: Proposal) -> None:
        """Nobody is asked the same again right after a no, nor so much that a yes comes by itself."""
        now = self._clock()
        for rejected in await self._store.proposals(ProposalState.REJECTED, limit=LOOKED_AT):
            if wanted.repeats(rejected) and now - rejected.changed < EXPIRY:
                raise TriageError(
                    f"{rejected.decided_by} rejected the same (proposal {rejected.number}) at {rejected.changed:%H:%M} UTC; "
                    "it is not asked again within a day"
                )
        waiting = await self._store.proposals(ProposalState.OPEN, limit=MOST_OPEN)
        if len(waiting) == MOST_OPEN and wanted.digest not in {each.digest for each in waiting}:
            raise TriageError(
                f"{MOST_OPEN} proposals wait for a person already; have some decided first: `xdr-mcp approve` lists them"
            )
