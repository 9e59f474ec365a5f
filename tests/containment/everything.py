"""The whole corpus through every exit. As a command it prints how much was checked: ``scripts/containment``."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
from containment import exits
from containment.corpus import CAUGHT_BY_PLACE, CAUGHT_BY_SIGHT, PAYLOADS
from containment.exits import Checked, tried
from mcp import Client
from serving import ERAS

from xdr_mcp.alert import UNTRUSTED_FIELDS


async def checked_in(era: str, folder: Path, *, whole: bool = True) -> Checked:
    """What the clients of one era are told, and what was wrong with it.

    Not ``whole``, the eras share what takes long: of relations, context, prompts and refusals each has half the texts.
    """
    checked, numbered = Checked(), tried()
    some = numbered if whole else numbered[ERAS.index(era) :: len(ERAS)]
    async with exits.serving(folder, numbered) as (server, store):
        async with Client(server.mcp, mode=era) as client:
            await exits.alerts(client, numbered, checked)
            await exits.listings(client, checked)
            await exits.resources(client, numbered, checked)
            await exits.around(client, some, checked)
            await exits.prompts(client, some, checked)
            await exits.completions(client, checked)
            await exits.refusals(client, some, checked)
            await exits.proposals(client, some[::9], checked)  # few may be open at once
        await exits.notifications(server, store, era, checked)
    return checked


async def _everything() -> Checked:
    total = Checked()
    for era in ERAS:
        with tempfile.TemporaryDirectory() as folder:
            checked = await checked_in(era, Path(folder))
        total.texts += checked.texts
        total.wrong += checked.wrong
    exits.logs(tried(), total)
    exits.terminal(tried(), total)
    return total


def _report(checked: Checked) -> Iterator[str]:
    techniques = Counter(payload.technique for payload in PAYLOADS)
    yield "| technique | texts |\n|---|---|"
    for technique in CAUGHT_BY_SIGHT | CAUGHT_BY_PLACE:
        yield f"| {technique} | {techniques[technique]} |"
    yield "\n| exit, both eras | answers checked |\n|---|---|"
    for name, number in sorted(checked.texts.items()):
        yield f"| {name} | {number:,} |"
    yield (
        f"\n{len(PAYLOADS)} texts of {len(techniques)} techniques, in {len(UNTRUSTED_FIELDS)} untrusted fields and in the "
        f"record, through {len(checked.texts)} exits: {sum(checked.texts.values()):,} answers checked, "
        f"{len(checked.wrong)} faults"
    )
    yield from (f"  {fault}" for fault in checked.wrong[:20])


def main() -> int:
    """Print the corpus, the exits and the result; 1 when anything got out."""
    checked = anyio.run(_everything)
    sys.stdout.write("\n".join(_report(checked)) + "\n")
    return min(1, len(checked.wrong))


if __name__ == "__main__":
    sys.exit(main())
