"""What the server says of itself, to the letter: each change of it is seen in a review.

``scripts/test tests/server/test_snapshots.py --snapshot-update`` writes the files anew.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from mcp import Client
from mcp.types import TextContent
from serving import ERAS, NOON, a_server, an_alert, report

from xdr_mcp.alert import Attack, Status, Verdict

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent / "snapshots"
PROMPTS = Path(__file__).parents[2] / "docs" / "prompts.md"
EXAMPLE = re.compile(r"(?<=^```text\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
NONCE = re.compile(r"(?<=<<<untrusted )\w{12}$|^\w{12}(?=>>>$)", re.MULTILINE)
HOW = "what the server says of itself has changed; if that is meant: scripts/test tests/server/test_snapshots.py --snapshot-update"


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--snapshot-update"))


def compare(path: Path, told: str, *, update: bool) -> None:
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(told, "utf-8")
    assert path.read_text("utf-8") == told, HOW


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("listed", ["tools", "prompts", "resources", "resource_templates"])
async def test_the_lists_are_as_they_were_reviewed(listed: str, era: str, tmp_path: Path, *, update: bool) -> None:
    async with a_server(tmp_path, proposing=True) as (server, _), Client(server.mcp, mode=era) as client:
        answer = await getattr(client, f"list_{listed}")()
    wire = [each.model_dump(by_alias=True, exclude_none=True, mode="json") for each in getattr(answer, listed)]
    compare(
        HERE / f"{listed}.json", json.dumps(wire, indent=2, ensure_ascii=False, sort_keys=True) + "\n", update=update
    )


async def test_the_documented_prompt_is_what_the_server_says(tmp_path: Path, *, update: bool) -> None:
    attack = Attack(technique="T1059.001", technique_name="PowerShell", tactic="TA0002", tactic_name="Execution")
    rule = {"rule_name": "Encoded PowerShell", "attacks": (attack,)}
    alert = an_alert(1, description="powershell.exe was started with an encoded command by WINWORD.EXE", **rule)
    earlier = NOON - timedelta(days=3)
    closed = {"status": Status.RESOLVED, "verdict": Verdict.FALSE_POSITIVE, "created": earlier, "updated": earlier}
    async with a_server(tmp_path, alert, an_alert(2, **rule, **closed)) as (server, store):
        await report(store, "ok", last_success=NOON)
        async with Client(server.mcp) as client:
            (message,) = (await client.get_prompt("triage_alert", {"id": alert.id})).messages
    assert isinstance(message.content, TextContent)
    text = NONCE.sub("9f2c6a1e07b3", message.content.text)
    document = PROMPTS.read_text("utf-8")
    compare(PROMPTS, EXAMPLE.sub(lambda _: text + "\n", document), update=update)
