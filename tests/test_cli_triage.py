"""The commands of the person who decides, as far as they need no vendor: lists, the log, refusals; and who that person is."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest
from click.testing import CliRunner, Result
from model_vendor import START, record
from msgspec import structs

from xdr_mcp.alert import Status
from xdr_mcp.cli import main
from xdr_mcp.cli.person import AGENTS, person, refuse_agents
from xdr_mcp.errors import TriageError
from xdr_mcp.interfaces import Store, utc_now
from xdr_mcp.proposal import AuditNote, Proposal, ProposalState, TriageChange
from xdr_mcp.store import open_store

HOSTILE = "\x1b[2Jowned\u202egnp\n[bold]xdr-mcp: all is well"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*AGENTS, *os.environ]:
        if name.startswith("XDR_") or name in AGENTS:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(main, arguments, env=variables)


def store_path(folder: Path) -> Path:
    return folder / ".xdr-mcp" / "xdr-mcp.db"


def in_store(folder: Path, work: Callable[[Store], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with open_store(store_path(folder)) as store:
            await work(store)

    anyio.run(inside)


def a_proposal(**fields: Any) -> Proposal:
    now = utc_now()
    return Proposal(
        nonce="1a2b3c4d",
        alert=record("1", START, source="xdr", **fields).alert,
        change=TriageChange(status=Status.RESOLVED, assignee="", comment="Known."),
        proposed_by="assistant test",
        proposed=now,
        changed=now,
    )


@pytest.fixture
def proposed(tmp_path: Path) -> Path:
    """A store with a proposal that is open and one that was rejected."""

    async def fill(store: Store) -> None:
        await store.propose(a_proposal(title=HOSTILE))
        second = await store.propose(structs.replace(a_proposal(), undoes=1))
        rejected = structs.replace(second, state=ProposalState.REJECTED, decided_by="bob")
        await store.decide(rejected, ProposalState.OPEN, AuditNote(event="rejected", by="bob"))

    in_store(tmp_path, fill)
    return tmp_path


@pytest.mark.usefixtures("proposed")
def test_what_waits_is_listed_and_hostile_text_cannot_steer_the_terminal() -> None:
    told = run("approve").stdout
    for piece in (
        "proposal  1",
        "open, proposed",
        "by assistant test",
        "xdr/1",
        "status: resolved, assignee: nobody",
        "Known.",
    ):
        assert piece in told
    assert "\\x1b[2Jowned\\u202egnp\\n[bold]xdr-mcp: all is well" in told
    assert "proposal  2" not in told
    assert json.loads(run("status", "--json").stdout)["proposals"] == 1
    (listed,) = map(json.loads, run("approve", "--json").stdout.splitlines())
    assert (listed["number"], listed["change"]["status"]) == (1, "resolved")


@pytest.mark.usefixtures("proposed")
def test_a_decision_is_not_made_in_json() -> None:
    found = run("approve", "1", "--json", XDR_TRIAGE="approve")
    assert (found.exit_code, "a person decides" in found.stderr) == (2, True)


@pytest.mark.usefixtures("proposed")
def test_nothing_is_approved_or_undone_where_it_was_not_turned_on() -> None:
    for command in ("approve", "undo"):
        found = run(command, "1")
        assert found.exit_code == 2
        assert "set XDR_TRIAGE=approve" in found.stderr


@pytest.mark.usefixtures("proposed")
def test_a_source_that_cannot_be_written_to_is_told_at_the_approval() -> None:
    found = run("approve", "1", XDR_TRIAGE="approve", XDR_BASE_URL="http://127.0.0.1:9", XDR_AUTH_TOKEN="token")
    assert found.exit_code == 1
    assert "xdr cannot be written to" in found.stderr


@pytest.mark.usefixtures("proposed")
def test_rejecting_needs_no_vendor_and_is_logged_with_the_reason() -> None:
    assert run("reject", "1", "--reason", "it is none").stdout == "proposal 1 is rejected\n"
    *entries, found = map(json.loads, run("audit", "--json").stdout.splitlines())
    assert (entries[-1]["event"], entries[-1]["by"], entries[-1]["detail"]) == (
        "rejected",
        person(),
        {"reason": "it is none"},
    )
    assert found["faults"] == []
    again = run("reject", "1")
    assert again.exit_code == 1
    assert f"is rejected by {person()}; there is nothing to decide" in again.stderr


@pytest.mark.usefixtures("proposed")
def test_the_log_is_printed_and_its_last_hash_can_be_expected_later() -> None:
    told = run("audit")
    assert told.exit_code == 0
    *lines, last = told.stdout.splitlines()
    assert [line.split("  ")[2:5] for line in lines] == [
        ["proposal 1", "proposed", "by assistant test"],
        ["proposal 2", "proposed", "by assistant test"],
        ["proposal 2", "rejected", "by bob"],
    ]
    head = last.split()[-1]
    assert len(head) == 64
    run("reject", "1")
    assert run("audit", "--expect", head).exit_code == 0
    wrong = run("audit", "--expect", "0" * 64)
    assert wrong.exit_code == 1
    assert "is not in the log" in wrong.stdout


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'bob', 'eve') AS BLOB) WHERE seq = 3",
            "row 3 was edited",
        ),
        ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
        ("DELETE FROM audit WHERE seq = 3", "proposal 2 is rejected, and the log says open"),
        ("UPDATE proposals SET state = 'open' WHERE number = 2", "proposal 2 is open, and the log says rejected"),
        ("DELETE FROM proposals WHERE number = 1", "proposal 1 is logged and not kept"),
    ],
)
def test_a_file_that_was_edited_behind_our_back_is_found(proposed: Path, spoil: str, told: str) -> None:
    connection = apsw.Connection(str(store_path(proposed)))
    connection.execute("DROP TRIGGER audit_is_not_edited; DROP TRIGGER audit_is_not_cut")
    connection.execute(spoil)
    connection.close()
    found = run("audit")
    assert found.exit_code == 1
    assert f"FAULT: {told}" in found.stdout


# ---------------------------------------------------------------- who decides


@pytest.mark.parametrize("variable", AGENTS)
def test_where_an_assistant_says_that_it_runs_the_command_it_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_agents()
    monkeypatch.setenv(variable, "1")
    with pytest.raises(TriageError, match=AGENTS[variable]):
        refuse_agents()


def test_the_person_is_the_user_of_the_system_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    known = getpass.getuser()
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert person().split(" (")[0] == known
