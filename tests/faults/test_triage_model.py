"""Proposals, people, crashes, other people's changes and polls in any order: what is sent was approved, and is done once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from model_vendor import ManualClock
from msgspec import structs
from writable_vendor import Killed, Writable

from xdr_mcp.alert import Status, Verdict
from xdr_mcp.errors import AuthenticationError, TriageError, Unavailable, XdrMcpError
from xdr_mcp.interfaces import Page, Store
from xdr_mcp.proposal import AuditEntry, ProposalState, TriageChange, verify
from xdr_mcp.store import open_store
from xdr_mcp.triage import Approvals, Review, Stale

pytestmark = pytest.mark.anyio

ALERTS = ("1", "2", "3")
STEPS = 60
_FROM = {
    "approved": ProposalState.OPEN,
    "resumed": ProposalState.APPLYING,
    "applied": ProposalState.APPLYING,
    "refused": ProposalState.APPLYING,
    "verified": ProposalState.APPLIED,
}
"""The state in which each of these finds its proposal."""
TROUBLES = (Killed("kill -9"), Unavailable("no answer"), AuthenticationError("403", status=403))


class World:
    """Everything that may happen, drawn from one seed."""

    def __init__(self, store: Store, clock: ManualClock, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 (repeatable, not secret)
        self.store = store
        self.clock = clock
        self.vendor = Writable(clock)
        self.shown: dict[int, Review] = {}
        self.agreed: set[tuple[int, str]] = set()
        """What somebody approved: the proposal, and the basis of what was shown."""
        self.acts: list[Callable[[], Awaitable[object]]] = [
            *(self.propose, self.propose, self.look, self.look, self.approve, self.approve, self.approve),
            *(self.reject, self.undo, self.poll, self.poll, self.interfere, self.pass_time, self.trouble),
        ]
        for vendor_id in ALERTS:
            self.vendor.put(vendor_id)

    def approvals(self) -> Approvals:
        """As some process has it; a dead one's lease has run out or was given up."""
        return Approvals(self.store, {"model": self.vendor}, holder="test:1:a", clock=self.clock)

    async def step(self) -> None:
        sent = len(self.vendor.sent)
        act = self.random.choice(self.acts)
        with suppress(XdrMcpError, Killed):
            await act()
        assert act == self.approve or len(self.vendor.sent) == sent, "only an approval sends"

    async def propose(self) -> None:
        change = TriageChange(
            status=self.random.choice([None, Status.NEW, Status.RESOLVED]),
            verdict=self.random.choice([None, Verdict.FALSE_POSITIVE]),
            assignee=self.random.choice([None, "", "alice"]),
            comment=self.random.choice(["", "one", "two"]),
        )
        await self.approvals().propose(f"model/{self.random.choice(ALERTS)}", change, "assistant")

    async def look(self) -> None:
        number = await self._some()
        self.shown[number] = await self.approvals().review(number)

    async def approve(self) -> None:
        number = await self._some()
        basis = self.shown[number].basis if number in self.shown else "never shown"
        self.agreed.add((number, basis))
        try:
            await self.approvals().approve(number, basis, "alice")
        except Stale as stale:
            self.shown[number] = stale.review
            raise

    async def reject(self) -> None:
        if not self.random.randrange(3):
            await self.approvals().reject(await self._some(), "bob")

    async def undo(self) -> None:
        await self.approvals().undo(await self._some(), "carol")

    async def poll(self) -> None:
        lease = await self.store.acquire("poll:model", "me", timedelta(minutes=1))
        assert lease is not None
        await self.store.save("model", Page(tuple(self.vendor.records.values()), self.clock.now), lease)
        await self.approvals().settle()

    async def interfere(self) -> None:
        """Somebody changes the alert in the vendor's own console."""
        known = self.vendor.records[vendor_id := self.random.choice(ALERTS)]
        wanted = {"status": self.random.choice([Status.NEW, Status.RESOLVED]), "updated": self.clock.now}
        self.vendor.records[vendor_id] = structs.replace(known, alert=structs.replace(known.alert, **wanted))

    async def pass_time(self) -> None:
        self.clock.advance(minutes=self.random.choice([1, 30, 600]))

    async def trouble(self) -> None:
        moment = self.random.choice(["before", "after"])
        self.vendor.trouble.extend([None] * self.random.randrange(2) + [(moment, self.random.choice(TROUBLES))])

    async def _some(self) -> int:
        known = await self.store.proposals(limit=10)
        if not known:
            raise TriageError("nothing was proposed yet")
        return self.random.choice(known).number


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 300))])
async def test_whatever_happens_what_is_sent_was_approved_as_shown_and_is_done_once(seed: int, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_store(tmp_path / "store.db", clock=clock) as store:
        world = World(store, clock, seed)
        await world.poll()
        for _ in range(STEPS):
            await world.step()
            clock.advance(seconds=1)
        rows = await store.audit(0, 10_000)
        proposals = await store.proposals(limit=10_000)
        assert verify(rows, proposals).faults == ()
        entries = [row.entry for row in rows]
        check_approvals(entries, world)
        for number, posted in comments(world.vendor).items():
            assert posted == 1, f"the comment of proposal {number} stands {posted} times"
        assert len(world.vendor.sent) <= sum(
            len(entry.detail["requests"]) for entry in entries if entry.event == "approved"
        ) + sum(entry.event == "resumed" for entry in entries)


def check_approvals(entries: list[AuditEntry], world: World) -> None:
    """Each approval in the log is of something that was shown, and nothing was applied without one."""
    last: dict[int, ProposalState] = {}
    for entry in entries:
        if entry.event == "approved":
            assert (entry.proposal, entry.detail["basis"]) in world.agreed
        if (was := _FROM.get(entry.event)) is not None:
            assert last[entry.proposal] is was, entry
        last[entry.proposal] = entry.state


def comments(vendor: Writable) -> Counter[str]:
    """How often each proposal's comment stands at the vendor."""
    raw = b" ".join(record.raw for record in vendor.records.values()).decode()
    return Counter(part.split("]")[0] for part in raw.split("[xdr-mcp ")[1:])
