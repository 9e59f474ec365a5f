from __future__ import annotations

from pathlib import Path

import pytest
from containment import oracle
from containment.corpus import CAUGHT_BY_PLACE, CAUGHT_BY_SIGHT, PAYLOADS, Payload
from containment.everything import checked_in
from containment.exits import Checked, alert_of, logs, raw_of, terminal, tried
from serving import ERAS, save
from terminal import at_a_terminal

from xdr_mcp.store import open_store
from xdr_mcp.untrusted import Fence

pytestmark = pytest.mark.anyio

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
LEAST_PAYLOADS = 150
LEAST_TECHNIQUES = 10


def test_the_corpus_is_as_large_as_it_claims_and_no_text_stands_in_it_twice() -> None:
    assert len({payload.text for payload in PAYLOADS}) == len(PAYLOADS) >= LEAST_PAYLOADS
    techniques = len(CAUGHT_BY_SIGHT | CAUGHT_BY_PLACE)
    assert techniques >= LEAST_TECHNIQUES
    assert f"{len(PAYLOADS)} texts of {techniques} techniques" in SECURITY.read_text("utf-8")


@pytest.mark.parametrize("era", ERAS)
async def test_no_text_of_the_corpus_gets_out_of_its_field_or_fence_by_any_exit(era: str, tmp_path: Path) -> None:
    checked = await checked_in(era, tmp_path, whole=False)
    assert checked.wrong == []
    unseen = {payload.canary: payload.text[:60] for payload in PAYLOADS if payload.canary not in checked.seen}
    assert all(len(PAYLOADS[int(canary[5:8]) - 1].text) > oracle.LONGEST for canary in unseen), unseen


def test_no_text_of_the_corpus_steers_a_log_or_a_terminal() -> None:
    checked = Checked()
    logs(tried(), checked)
    terminal(tried(), checked)
    assert checked.wrong == []
    assert len(checked.seen) == len(PAYLOADS)


@pytest.mark.parametrize("arguments", [["alerts"], ["show"], ["show", "--raw"]])
async def test_no_text_of_the_corpus_steers_the_terminal_that_a_command_prints_to(
    arguments: list[str], tmp_path: Path
) -> None:
    text = "".join(each.text for _, each in tried(("terminal escapes", "bidirectional text", "invisible characters")))
    everything = Payload("all of them", text, "zebra999q")
    async with open_store(tmp_path / "xdr-mcp.db") as store:
        await save(store, alert_of(1, everything, vendor_id="A-1"), raw=raw_of(everything))
    named = ["xdr/A-1"] if arguments[0] == "show" else []
    with at_a_terminal(*arguments, "--data-dir", str(tmp_path), *named, folder=tmp_path, env={}) as person:
        assert await person.ended() == 0
    assert "zebra999q" in person.shown
    assert [fault for line in person.shown.split("\n") for fault in oracle.of_line(line)] == []


# ---------------------------------------------------------------- the checks can fail


@pytest.mark.parametrize(
    "payload",
    [each for each in PAYLOADS if each.technique in CAUGHT_BY_SIGHT],
    ids=lambda payload: f"{payload.technique}-{payload.canary}",
)
def test_what_is_dangerous_by_itself_is_found_when_it_is_told_as_it_came(payload: Payload) -> None:
    assert list(oracle.of_data({"title": payload.text, "untrusted": ["title"]}))


@pytest.mark.parametrize("technique", CAUGHT_BY_PLACE)
def test_what_is_dangerous_by_where_it_stands_is_found_outside_its_label_or_fence(technique: str) -> None:
    payload = next(each for each in PAYLOADS if each.technique == technique)
    told = f"{payload.text} {payload.canary}"
    row = {"id": "xdr/1", "title": told}
    assert list(oracle.of_data({"alerts": [row], "untrusted": ["title"]})) == []
    assert list(oracle.of_data({"alerts": [row], "untrusted": ["about"]}))
    assert list(oracle.of_data({"alerts": [row]}))
    assert list(oracle.of_fenced(f"{told}\n{Fence().wrap('{}')}"))
    assert list(oracle.of_fenced(told))
    fence = Fence()
    assert list(oracle.of_fenced(f"{fence.wrap('{}')} {fence.nonce}>>>"))
    assert list(oracle.of_fenced(f"{fence.wrap('{}')} {Fence().wrap('{}')}"))
