"""The same alerts, the same ten questions, four servers: ``python -m bench.peers``, after ``scripts/setup-peers``.

Each server is started as its makers say and asked over stdio or HTTP by the same client, against a simulated backend in its
vendor's shapes. Printed are the tokens it costs to connect, those of 25 alerts, and for each question calls and tokens. An
answer is compared with what is true.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from mcp import Client, StdioServerParameters, stdio_client

from bench.peers import falcon, klaxon, ours, secops
from bench.peers.answering import Cannot, Peer
from bench.peers.falcon_backend import Falcon
from bench.peers.questions import SOURCE, Question, Subject, questions, subject
from bench.peers.secops_backend import SecOps
from bench.peers.wazuh_backend import Wazuh
from evals.assistant import ToolRefused, tokens_to_connect
from evals.estate import World, connected, served, world

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".venv-peers"
PEERS = ("falcon-mcp", "google-secops-mcp", "klaxon-mcp")


@dataclass
class Measured:
    """What was measured of one server."""

    name: str
    connect: dict[str, int] = field(default_factory=dict)
    tools: int = 0
    page: int = 0
    page_shown: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    answered: int = 0


async def measured(peer: Peer, asked: list[Question], about: Subject) -> Measured:
    """Connect, list 25 alerts, and ask everything."""
    found = Measured(peer.name)
    async with peer.connected() as client:
        found.connect = await tokens_to_connect(client)
        found.tools = len((await client.list_tools()).tools)
        tool, arguments = peer.page
        page = await peer.assistant(client).try_call(tool, arguments)
        found.page, found.page_shown = page.tokens, page.shown
        for question in asked:
            way = peer.answers[question.name]
            if isinstance(way, Cannot):
                found.answers[question.name] = "no"
                continue
            assistant = peer.assistant(client)
            try:
                right = await way(assistant, about) == question.truth
            except ToolRefused as refused:
                print(f"{peer.name}, {question.name}: {refused}", file=sys.stderr)
                right = False
            found.answered += right
            cost = f"{len(assistant.calls)} ({sum(call.shown for call in assistant.calls):,})"
            found.answers[question.name] = cost if right else f"wrong, {cost}"
    return found


@asynccontextmanager
async def started(name: str, module: str, environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Client]:
    """A client of a server that was installed by ``scripts/setup-peers``: a process of its own, in a folder that is removed."""
    python = INSTALLED / name / "bin" / module
    kept = {variable: os.environ[variable] for variable in ("PATH", "HOME") if variable in os.environ}
    with TemporaryDirectory(prefix="xdr-mcp-peer-") as folder, Path(os.devnull).open("w") as silent:  # noqa: ASYNC230 (nothing is read or written there)
        parameters = StdioServerParameters(
            command=str(python), args=list(arguments), env={**kept, **environment}, cwd=folder
        )
        async with Client(stdio_client(parameters, errlog=silent), mode="legacy") as client:
            yield client


def peers(here: World, falcon_url: str, secops_url: str, wazuh_url: str) -> list[Peer]:
    """The servers to compare, the peers first."""
    falcon_settings = {
        "FALCON_BASE_URL": falcon_url,
        "FALCON_CLIENT_ID": "simulated",
        "FALCON_CLIENT_SECRET": "simulated",
    }
    redirected = {"SECOPS_BACKEND": secops_url, "PYTHONPATH": str(Path(__file__).parent / "redirected")}
    start_klaxon = partial(started, "klaxon-mcp", "klaxon-mcp", {"KLAXON_INDEXER_URL": wazuh_url})
    start_falcon = partial(started, "falcon-mcp", "falcon-mcp", falcon_settings)
    start_dynamic = partial(start_falcon, "--dynamic")
    start_one_module = partial(start_falcon, "--modules", "detections")
    start_secops = partial(started, "google-secops-mcp", "secops_mcp", redirected)
    return [
        Peer("falcon-mcp", start_falcon, falcon.PAGE, falcon.ANSWERS),
        Peer("falcon-mcp, detections alone", start_one_module, falcon.PAGE, falcon.ANSWERS),
        Peer("falcon-mcp, dynamic", start_dynamic, falcon.PAGE, falcon.ANSWERS, falcon.Discovering),
        Peer("google-secops-mcp", start_secops, secops.PAGE, secops.ANSWERS),
        Peer("klaxon-mcp", start_klaxon, klaxon.PAGE, klaxon.ANSWERS),
        Peer("xdr-mcp", partial(connected, here), ours.PAGE, ours.ANSWERS),
    ]


async def compare() -> list[Measured]:
    """Measure them all."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="xdr-mcp-peers-"))
        here = await stack.enter_async_context(world(Path(folder)))
        revisions = here.revisions_of(SOURCE)
        backends = (Falcon(revisions).app, SecOps(revisions).app, Wazuh(revisions).app)
        urls = [await stack.enter_async_context(served(backend)) for backend in backends]
        asked, about = questions(here), subject(here)
        return [await measured(peer, asked, about) for peer in peers(here, *urls)]


def show(found: list[Measured]) -> None:
    """The table, as Markdown."""

    def row(title: str, *cells: Any) -> None:
        print(f"| {' | '.join([title, *map(str, cells)])} |")

    row("", *(one.name for one in found))
    row("---", *("---:" for _ in found))
    row("tools", *(one.tools for one in found))
    row("tokens to connect", *(f"{sum(one.connect.values()):,}" for one in found))
    row("of these, tools", *(f"{one.connect.get('tools', 0):,}" for one in found))
    row("tokens for 25 alerts", *(f"{one.page:,}" for one in found))
    row("of these, one form of the data", *(f"{one.page_shown:,}" for one in found))
    for name in found[0].answers:
        row(name, *(one.answers[name] for one in found))
    row("right, of ten", *(one.answered for one in found))


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__).parse_args()
    missing = [name for name in PEERS if not (INSTALLED / name / "installed").exists()]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; run scripts/setup-peers")
    installed = [(INSTALLED / name / "installed").read_text().strip() for name in PEERS]
    print(f"{', '.join(installed)}, xdr-mcp=={version('xdr-mcp')}\n")
    show(anyio.run(compare))


if __name__ == "__main__":
    main()
