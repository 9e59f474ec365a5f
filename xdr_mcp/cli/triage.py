"""Commands of the person who decides on what was proposed: ``approve``, ``reject``, ``undo``; and ``audit``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from xdr_mcp.cli.options import common, settled
from xdr_mcp.cli.person import agreed, person, refuse_agents
from xdr_mcp.cli.signals import run_task
from xdr_mcp.cli.terminal import ago, console, moment, plain, say, say_facts, say_json
from xdr_mcp.errors import SettingsError, TriageError
from xdr_mcp.interfaces import utc_now
from xdr_mcp.proposal import AuditEntry, Proposal, Verification
from xdr_mcp.setup import Setup
from xdr_mcp.triage import Review, Stale
from xdr_mcp.write_back import check_audit, deciding

_SHOWN_AGAIN: Final = 5
"""How often an alert may change under the person's eyes before it is left for later."""


@click.command()
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.option("--json", "as_json", is_flag=True, help="Without NUMBER: one JSON object a line.")
@common
def approve(number: int | None, data_dir: Path | None, *, as_json: bool, debug: bool) -> None:
    """Decide on what an assistant proposed.

    Without NUMBER it lists what waits. With it, it reads the alert anew from the vendor, shows what would change and what would
    be sent, and asks: only what is typed at the terminal counts. Where the alert changes meanwhile, it is shown again. An
    approval that was cut off is taken up: what the vendor has already is not sent again.

    Needs XDR_TRIAGE=approve, and a credential that may write.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    if number is None:
        _list(run_task(lambda: _pending(setup)), as_json=as_json)
        return
    if as_json:
        raise SettingsError("--json is for the list, without a number: a person decides on what is shown")
    refuse_agents()
    _decide(setup, run_task(lambda: _review(setup, number)))


@click.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--reason", default="", metavar="TEXT", help="Why; goes into the log.")
@common
def reject(number: int, reason: str, data_dir: Path | None, *, debug: bool) -> None:
    """Decide against a proposal. The same is not taken again for a day."""
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    rejected = run_task(lambda: _reject(setup, number, reason))
    say(f"proposal {rejected.number} is rejected")


@click.command()
@click.argument("number", type=click.IntRange(min=1))
@common
def undo(number: int, data_dir: Path | None, *, debug: bool) -> None:
    """Put back what a proposal changed.

    Makes the inverse change a proposal of its own, shows it and asks, as `approve` does. A comment stays at the vendor.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    refuse_agents()
    inverse = run_task(lambda: _undo(setup, number))
    say(f"proposal {inverse} undoes proposal {number}")
    _decide(setup, run_task(lambda: _review(setup, inverse)))


@click.command()
@click.option(
    "--expect", default="", metavar="HASH", help="A hash that was noted earlier; fails when it is not in the log."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, and the result as the last.")
@common
def audit(expect: str, data_dir: Path | None, *, as_json: bool, debug: bool) -> None:
    """Print the log of proposals and check it.

    Each row's hash covers the row before, so that an edited, removed or moved row is found, and a proposal that does not agree
    with the log. Who can write the file can also make the whole log anew: note the last hash elsewhere, and give it to
    --expect. Ends with 1 when something is wrong.
    """
    setup = settled(debug=debug, quiet=True, data_dir=data_dir)
    entries, found = run_task(lambda: check_audit(setup, expect))
    for entry in entries:
        say_json(entry) if as_json else say(_entry_line(entry))
    if as_json:
        say_json(found)
    else:
        _say_verification(found)
    sys.exit(1 if found.faults else 0)


# ---------------------------------------------------------------- what they do


async def _pending(setup: Setup) -> tuple[Proposal, ...]:
    async with deciding(setup, calling=False) as approvals:
        return await approvals.pending()


async def _review(setup: Setup, number: int) -> Review:
    async with deciding(setup, calling=True) as approvals:
        return await approvals.review(number)


async def _approve(setup: Setup, review: Review) -> Proposal:
    async with deciding(setup, calling=True) as approvals:
        return await approvals.approve(review.proposal.number, review.basis, person())


async def _reject(setup: Setup, number: int, reason: str) -> Proposal:
    async with deciding(setup, calling=False) as approvals:
        return await approvals.reject(number, person(), reason)


async def _undo(setup: Setup, number: int) -> int:
    async with deciding(setup, calling=True) as approvals:
        return (await approvals.undo(number, person())).proposal.number


def _decide(setup: Setup, shown: Review) -> None:
    """Show, ask, apply; and again where the alert has changed meanwhile."""
    number = shown.proposal.number
    for _ in range(_SHOWN_AGAIN):
        _say_review(shown)
        if not agreed(f"Proposal {number}: change {shown.alert.id}?"):
            say(f"nothing was sent; proposal {number} is open as before (`xdr-mcp reject {number}` closes it)")
            return
        try:
            applied = run_task(lambda: _approve(setup, shown))  # noqa: B023 (it is run at once)
        except Stale as stale:
            say("\nThe alert has changed meanwhile, so nothing was sent. This is how it is now:\n")
            shown = stale.review
        else:
            say(f"proposal {applied.number} is applied; the next poll verifies it")
            return
    raise TriageError(f"the alert keeps changing; proposal {number} is open as before, try again later")


# ---------------------------------------------------------------- how it looks


def _list(proposals: tuple[Proposal, ...], *, as_json: bool) -> None:
    for proposal in proposals:
        if as_json:
            say_json(proposal)
            continue
        say_facts(
            {
                "proposal": str(proposal.number),
                "state": f"{proposal.state}, proposed {ago(proposal.proposed, utc_now())} by {plain(proposal.proposed_by)}",
                "alert": f"{plain(proposal.alert.id)}  {plain(proposal.alert.title)}",
                "wants": _wish(proposal),
                "comment": plain(proposal.change.comment),
            }
        )
        say()
    if not proposals and not as_json:
        say("nothing waits for a decision")


def _wish(proposal: Proposal) -> str:
    wish = ", ".join(f"{name}: {plain(value) or 'nobody'}" for name, value in proposal.change.fields.items())
    return f"{wish} (undoes {proposal.undoes})" if proposal.undoes else wish


def _say_review(review: Review) -> None:
    proposal, out = review.proposal, console()
    say_facts(
        {
            "proposal": f"{proposal.number}, by {plain(proposal.proposed_by)}, {ago(proposal.proposed, utc_now())}",
            "undoes": str(proposal.undoes or ""),
            "alert": plain(review.alert.id),
            "title": plain(review.alert.title),
            "severity": review.alert.severity,
            "updated": moment(review.alert.updated),
            "comment": plain(proposal.change.comment),
        }
    )
    if proposal.state == "applying":
        out.print(Text("It was approved before, and cut off; below is what the vendor still lacks.", "yellow"))
    for heading, steps in (("Has changed since it was proposed", review.since), ("Will change", review.steps)):
        if steps:
            out.print(Text(f"\n{heading}", "bold"))
            for step in steps:
                out.print(f"  {step.field}: {plain(step.now) or '(none)'} → {plain(step.then) or '(none)'}")
    out.print(
        Text("\nThe vendor will be sent" if review.requests else "\nThe vendor has all of it; nothing is sent", "bold")
    )
    for request in review.requests:
        out.print(f"  {plain(request.method)} {plain(request.path)}")
        out.print(f"  {json.dumps(msgspec.to_builtins(request.body))}")
    for warning in review.warnings:
        out.print(Text(f"\nBeware: {plain(warning)}", "bold red"))
    say()


def _entry_line(entry: AuditEntry) -> str:
    detail = json.dumps(entry.detail) if entry.detail else ""
    return plain(
        f"{entry.seq}  {entry.at:%Y-%m-%d %H:%M:%S}Z  proposal {entry.proposal}  {entry.event}  by {entry.by}  {detail}".rstrip()
    )


def _say_verification(found: Verification) -> None:
    for fault in found.faults:
        say(f"FAULT: {plain(fault)}")
    say(f"{found.rows} rows, {'of which the last is' if found.rows else 'none:'} {found.head}")
