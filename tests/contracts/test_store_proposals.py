"""What every store owes to those who decide (``interfaces.Store``): proposals, and the log of what became of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from model_vendor import START, ManualClock, record
from msgspec import structs

from xdr_mcp.alert import Alert, Status, Verdict
from xdr_mcp.errors import ProposalMoved
from xdr_mcp.interfaces import Forgotten, Keep, Lease, Page, Store
from xdr_mcp.proposal import AuditNote, AuditRow, Proposal, ProposalState, TriageChange, verify
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

Opener: TypeAlias = Callable[[Path, ManualClock], AbstractAsyncContextManager[Store]]

OPEN, APPLYING, APPLIED = ProposalState.OPEN, ProposalState.APPLYING, ProposalState.APPLIED
NEEDED: dict[str, tuple[()]] = {"model": ()}


def sqlite(folder: Path, clock: ManualClock) -> AbstractAsyncContextManager[Store]:
    return open_store(folder / "store.db", clock=clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=[pytest.param(sqlite, id="sqlite")])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncGenerator[Store, None]:
    opener: Opener = request.param
    async with opener(tmp_path, clock) as opened:
        yield opened


def an_alert(vendor_id: str = "1", **fields: Any) -> Alert:
    return record(vendor_id, START, **fields).alert


def a_proposal(alert: Alert | None = None, **wanted: Any) -> Proposal:
    return Proposal(
        nonce="1a2b3c4d",
        alert=alert or an_alert(),
        change=TriageChange(**({"status": Status.RESOLVED} | wanted)),
        proposed_by="assistant test",
        proposed=START,
        changed=START,
    )


def note(event: str = "approved", **detail: Any) -> AuditNote:
    return AuditNote(event=event, by="alice", detail=detail)


async def log_of(store: Store) -> list[AuditRow]:
    return list(await store.audit(0, 1_000))


async def everything(store: Store) -> tuple[Proposal, ...]:
    return await store.proposals(limit=1_000)


# ---------------------------------------------------------------- proposals


async def test_a_proposal_is_numbered_kept_and_logged(store: Store, clock: ManualClock) -> None:
    clock.advance(seconds=5)
    wanted = a_proposal(verdict=Verdict.FALSE_POSITIVE, assignee="", comment="a known scanner")
    kept = await store.propose(wanted)
    assert kept == structs.replace(wanted, number=1, changed=clock.now)
    assert await store.proposal(1) == kept
    assert await everything(store) == (kept,)
    (row,) = await log_of(store)
    entry = row.entry
    assert (entry.seq, entry.at, entry.proposal, entry.state) == (1, clock.now, 1, OPEN)
    assert (entry.event, entry.by, entry.detail["alert"]) == ("proposed", "assistant test", "model/1")
    assert entry.detail["change"]["comment"] == "a known scanner"


async def test_a_number_that_was_never_given_has_no_proposal(store: Store) -> None:
    assert await store.proposal(1) is None
    assert await store.proposal(2**70) is None
    assert await everything(store) == ()


async def test_the_same_proposal_twice_is_one_while_nobody_has_decided(store: Store) -> None:
    first = await store.propose(a_proposal())
    assert await store.propose(structs.replace(a_proposal(), nonce="ffffffff", proposed_by="another")) == first
    assert len(await log_of(store)) == 1
    for other in (
        a_proposal(an_alert("2")),
        a_proposal(comment="because"),
        structs.replace(a_proposal(), undoes=1),
    ):
        assert (await store.propose(other)).number != first.number


async def test_the_same_proposal_may_come_again_once_it_was_decided(store: Store) -> None:
    first = await store.propose(a_proposal())
    await store.decide(structs.replace(first, state=ProposalState.REJECTED), OPEN, note("rejected"))
    assert (await store.propose(a_proposal())).number == first.number + 1


async def test_two_at_once_who_propose_the_same_get_one(store: Store) -> None:
    got: list[int] = []

    async def propose() -> None:
        got.append((await store.propose(a_proposal())).number)

    async with anyio.create_task_group() as both:
        both.start_soon(propose)
        both.start_soon(propose)
    assert got == [1, 1]


async def test_proposals_are_found_by_their_state_newest_first(store: Store) -> None:
    kept = [await store.propose(a_proposal(an_alert(str(number)))) for number in range(4)]
    applying = await store.decide(structs.replace(kept[1], state=APPLYING, decided_by="alice"), OPEN, note())
    assert [each.number for each in await store.proposals(OPEN)] == [4, 3, 1]
    assert await store.proposals(APPLYING, APPLIED) == (applying,)
    assert [each.number for each in await store.proposals(limit=2)] == [4, 3]


async def test_a_decision_is_kept_and_logged_with_its_time(store: Store, clock: ManualClock) -> None:
    kept = await store.propose(a_proposal())
    clock.advance(minutes=1)
    before = TriageChange(status=Status.NEW)
    decided = await store.decide(
        structs.replace(kept, state=APPLYING, decided_by="alice", before=before), OPEN, note(requests=[1])
    )
    assert (decided.changed, decided.before) == (clock.now, before)
    assert await store.proposal(1) == decided
    _, row = await log_of(store)
    assert (row.entry.event, row.entry.by, row.entry.state, row.entry.at) == ("approved", "alice", APPLYING, clock.now)
    assert row.entry.detail == {"requests": [1]}


@pytest.mark.parametrize("number", [1, 2])
async def test_of_two_decisions_one_is_taken(store: Store, number: int) -> None:
    kept = structs.replace(await store.propose(a_proposal()), number=number)
    if number == 1:
        await store.decide(structs.replace(kept, state=APPLYING), OPEN, note())
    before = await log_of(store), await everything(store)
    with pytest.raises(ProposalMoved, match="is applying now" if number == 1 else "does not exist"):
        await store.decide(structs.replace(kept, state=ProposalState.REJECTED), OPEN, note("rejected"))
    assert (await log_of(store), await everything(store)) == before


# ---------------------------------------------------------------- the log


async def a_history(store: Store) -> list[AuditRow]:
    """Five rows about two proposals."""
    first = await store.propose(a_proposal())
    second = await store.propose(a_proposal(an_alert("2")))
    first = await store.decide(structs.replace(first, state=APPLYING), OPEN, note())
    await store.decide(structs.replace(first, state=APPLIED), APPLYING, note("applied"))
    await store.decide(structs.replace(second, state=ProposalState.REJECTED), OPEN, note("rejected"))
    return await log_of(store)


async def test_a_log_that_nobody_touched_is_found_whole(store: Store) -> None:
    rows = await a_history(store)
    found = verify(rows, await everything(store))
    assert (found.rows, found.head, found.faults) == (5, rows[-1].hash.hex(), ())
    assert verify([], []).faults == ()


async def test_the_log_is_read_in_pieces(store: Store) -> None:
    rows = await a_history(store)
    assert list(await store.audit(0, 2)) + list(await store.audit(2, 2)) + list(await store.audit(4, 2)) == rows
    assert await store.audit(5, 2) == ()


@pytest.mark.parametrize("number", range(5))
async def test_any_row_that_is_edited_removed_or_moved_is_found(store: Store, number: int) -> None:
    rows, proposals = await a_history(store), await everything(store)
    row = rows[number]
    edited = structs.replace(row, body=row.body.replace(b'"by":"', b'"by":"mallory '))
    rehashed = AuditRow.after(rows[number - 1].hash if number else bytes(32), structs.replace(row.entry, by="mallory"))
    spoilt = {
        "edited": [*rows[:number], edited, *rows[number + 1 :]],
        "rehashed": [*rows[:number], rehashed, *rows[number + 1 :]],
        "removed": rows[:number] + rows[number + 1 :],
        "doubled": [*rows[: number + 1], *rows[number:]],
        "moved": [*rows[:number], *rows[number + 1 :], row] if number < 4 else [rows[4], *rows[:4]],
        "renumbered": [
            *rows[:number],
            *(structs.replace(later, seq=later.seq - 1) for later in rows[number + 1 :]),
        ],
        "no JSON": [*rows[:number], structs.replace(row, body=b"{"), *rows[number + 1 :]],
    }
    noted = rows[-1].hash.hex()
    for how, found in spoilt.items():
        assert verify(found, proposals, noted).faults, how


async def test_a_log_that_was_cut_short_or_rebuilt_is_found_by_a_hash_that_was_noted(store: Store) -> None:
    rows, proposals = await a_history(store), await everything(store)
    noted = rows[3].hash.hex()
    assert verify(rows, proposals, f" {noted.upper()} ").faults == ()
    rebuilt: list[AuditRow] = []
    for row in rows:
        rebuilt.append(AuditRow.after(rebuilt[-1].hash if rebuilt else bytes(32), structs.replace(row.entry, by="eve")))
    assert verify(rebuilt, proposals).faults == ()
    assert verify(rebuilt, proposals, noted).faults
    assert verify(rows[:3], proposals[:0], noted).faults


async def test_proposals_that_do_not_agree_with_the_log_are_found(store: Store) -> None:
    rows, (second, first) = await a_history(store), await everything(store)
    assert verify(rows, [second]).faults == ("proposal 1 is logged and not kept",)
    third = structs.replace(first, number=3)
    assert verify(rows, [second, first, third]).faults == ("proposal 3 is kept and not logged",)
    reopened = structs.replace(second, state=OPEN)
    assert verify(rows, [reopened, first]).faults == ("proposal 2 is open, and the log says rejected",)
    other = structs.replace(first, change=TriageChange(status=Status.SUPPRESSED))
    assert verify(rows, [second, other]).faults == ("proposal 1 asks for something else than when it was logged",)
    assert verify(rows[:4], [second, first]).faults == ("proposal 2 is rejected, and the log says open",)


# ---------------------------------------------------------------- what stays


async def lease_of(store: Store) -> Lease:
    lease = await store.acquire("poll:model", "me", timedelta(seconds=9))
    assert lease is not None
    return lease


@pytest.mark.parametrize("state", ProposalState)
async def test_an_alert_stays_as_long_as_a_proposal_for_it_is_pending(store: Store, state: ProposalState) -> None:
    records = [record(str(number), START, status=Status.RESOLVED) for number in (1, 2)]
    lease = await lease_of(store)
    await store.save("model", Page(tuple(records), START), lease)
    kept = await store.propose(a_proposal(records[0].alert, status=Status.NEW))
    if state is not OPEN:
        await store.decide(structs.replace(kept, state=state), OPEN, note())
    dropped = await store.forget(Keep(alerts=0), NEEDED, (), lease)
    assert dropped == Forgotten(alerts=1 if state.pending else 2, changes=1 if state.pending else 2, over=state.pending)
    assert (await store.get("model/1") is not None) is state.pending
    assert await store.get("model/2") is None


async def test_a_pending_proposal_for_the_oldest_alert_does_not_keep_the_others(store: Store) -> None:
    records = [record(str(number), START + number * timedelta(seconds=1)) for number in range(3)]
    lease = await lease_of(store)
    await store.save("model", Page(tuple(records), START), lease)
    await store.propose(a_proposal(records[0].alert))
    assert (await store.forget(Keep(alerts=2), NEEDED, (), lease)).alerts == 1
    assert [await store.get(f"model/{number}") is not None for number in range(3)] == [True, False, True]
