"""The shape of the program: who may import whom, that every part stands alone, and what outsiders may lean on."""

from __future__ import annotations

import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import distribution
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any

import pytest

import xdr_mcp
from xdr_mcp.sources import GROUP

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES = sorted(each.name for each in pkgutil.walk_packages(xdr_mcp.__path__, "xdr_mcp."))
IMPORTABLE = [name for name in MODULES if not name.endswith("__main__")]  # importing that one runs it
FORBIDDEN_NAMES = {"util", "utils", "common", "helper", "helpers", "base", "misc", "manager", "managers"}


# ---------------------------------------------------------------- who may import whom


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the package in ``folder`` against the contracts in its pyproject.toml."""
    pytest.importorskip("importlinter", reason="pip install 'xdr-mcp[lint]' brings import-linter")
    program = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_import_contracts_are_kept() -> None:
    found = lint_imports(ROOT)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        (
            {
                "query/nodes.py": "import xdr_mcp.interfaces",
                "simulator/wire.py": "import xdr_mcp.alert",
                "store/sqlite/store.py": "import xdr_mcp.settings",
                "alert.py": "import httpx",
            },
            ["Arrows point down", "The simulator is the other side", "Only what joins the parts", "The model knows no"],
        ),
        ({"newcomer.py": "# nobody said where it belongs"}, ["Arrows point down"]),
    ],
    ids=["wrong imports", "a new module"],
)
def test_a_contract_that_is_broken_is_told(changes: dict[str, str], broken: list[str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "xdr_mcp", tmp_path / "xdr_mcp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line in changes.items():
        with (tmp_path / "xdr_mcp" / module).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    found = lint_imports(tmp_path)
    assert found.returncode == 1
    told = [line for line in found.stdout.splitlines() if line.endswith("BROKEN")]
    assert len(told) == len(broken)
    assert all(line.startswith(contract) for line, contract in zip(told, broken, strict=True)), told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_every_module_can_be_the_first_that_is_imported() -> None:
    """A cycle that happens to work from one end only; each module in a fork of its own that has loaded nothing of ours."""
    program = """
import importlib, os, sys
for name in ("mcp.server.mcpserver", "httpx", "dotenv", "rich.progress", "uvicorn", "starlette.routing", "apsw"):
    importlib.import_module(name)
assert not [name for name in sys.modules if name.partition(".")[0] == "xdr_mcp"]
failed = []
for name in sys.argv[1:]:
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        failed.append(name)
sys.exit(len(failed))
"""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *IMPORTABLE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""


def test_the_whole_program_was_looked_at() -> None:
    found = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in ROOT.glob("xdr_mcp/**/[!_]*.py")}
    assert found <= set(MODULES)


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [name for name in MODULES if FORBIDDEN_NAMES & set(name.split("."))] == []


# ---------------------------------------------------------------- what outsiders lean on


def test_what_is_installed_registers_what_the_project_says() -> None:
    declared = PROJECT["project"]["entry-points"][GROUP] | PROJECT["project"]["scripts"]
    installed = {
        entry.name: entry.value
        for entry in distribution("xdr-mcp").entry_points
        if entry.group in {GROUP, "console_scripts"}
    }
    assert installed == declared, "installed before this was declared: run scripts/setup"


def test_every_entry_point_loads() -> None:
    loaded = {entry.name: entry.load() for entry in distribution("xdr-mcp").entry_points}
    assert loaded.keys() >= {"xdr-mcp", "xdr", "microsoft"}
    assert all(map(callable, loaded.values()))


def test_what_a_module_offers_exists_once_and_is_explained() -> None:
    for name in ("xdr_mcp", *IMPORTABLE):
        module = import_module(name)
        offered = list(getattr(module, "__all__", []))
        assert len(set(offered)) == len(offered), name
        for each in offered:
            thing = getattr(module, each)  # fails where it does not exist
            assert thing.__doc__ or not (isclass(thing) or isfunction(thing)), f"{name}.{each} has no docstring"


def test_the_versions_agree() -> None:
    assert distribution("xdr-mcp").version == xdr_mcp.__version__, "run scripts/setup"


def test_who_type_checks_against_it_finds_its_types() -> None:
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
    assert (ROOT / "xdr_mcp" / "py.typed").is_file()
