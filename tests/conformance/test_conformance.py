"""The official conformance suite passes, in both protocol revisions, over the wiring that users run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.suite import INSTALL, NOT_OFFERED, RUNS, Run, conduct, main_of, node, served, table


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if node() is None or not all(main_of(run).exists() for run in RUNS):
        pytest.skip(INSTALL)
    with served() as url:
        yield url


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.revision} by {run.suite}")
def test_every_scenario_passes_but_for_what_the_protocol_deprecates(run: Run, url: str) -> None:
    report = conduct(run, url)
    assert report.exit_code == 0, report.output
    assert len(report.scored) == run.scenarios, table([report])
    failed = [scenario.name for scenario in report.scenarios if scenario.unscored and scenario.failed]
    assert [name for name in failed if not NOT_OFFERED.fullmatch(name)] == []
