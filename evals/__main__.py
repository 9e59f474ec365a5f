"""Ask all questions and print the table: ``python -m evals``; with EVALS_MODEL_URL set, a model answers instead of the script.

Exit code 1: an answer of the script was wrong, or an attacker's text was obeyed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from evals.assistant import tokens_to_connect
from evals.estate import connected, world
from evals.model import Model
from evals.questions import questions
from evals.report import table, wrong
from evals.running import Outcome, asked_all, scripted


async def run(only: str, host: str, model: Model | None) -> tuple[list[Outcome], int]:
    """Ask; the outcomes, and the tokens to connect."""
    with TemporaryDirectory(prefix="xdr-mcp-evals-") as folder:
        async with world(Path(folder), proposing=model is not None) as here:
            async with connected(here, host) as client:
                connecting = sum((await tokens_to_connect(client)).values())
            chosen = [question for question in questions(here) if question.name.startswith(only)]
            return await asked_all(chosen, here, model.answer if model else scripted, host), connecting


def main() -> None:
    """Parse, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m evals", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="questions whose name begins so")
    parser.add_argument(
        "--host", default="", help="ask as a host of this name does, such as claude-ai, which shows text alone"
    )
    arguments = parser.parse_args()
    logging.disable()  # the tenants fail on purpose
    outcomes, connecting = anyio.run(run, arguments.only, arguments.host, Model.from_environment())
    if not outcomes:
        parser.error(f"no question's name begins with {arguments.only!r}")
    for line in (*table(outcomes, connecting), *wrong(outcomes)):
        print(line)
    sys.exit(any(not outcome.right or outcome.obeyed for outcome in outcomes))


if __name__ == "__main__":
    main()
