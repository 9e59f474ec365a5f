"""Each guarantee names the tests that prove it, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
ROWS = [
    line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| promise |", "| failure |"))
]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests of one file that nothing leaves out; the file is read, not run."""
    tree = ast.parse((ROOT / path).read_bytes())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_") and not _is_left_out(node))


def _is_left_out(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Skipped, expected to fail, or slow in all its forms."""
    marks = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
    return bool(marks & {f"pytest.mark.{name}" for name in ("skip", "xfail", "slow", "nightly")})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].removeprefix("| "))
def test_a_guarantee_names_tests_that_exist(row: str) -> None:
    _, promise, means, proof, _ = (cell.strip() for cell in row.split("|"))
    assert promise
    assert means
    named = TEST.findall(proof)
    assert named
    assert TEST.sub("", proof).strip(" ,") == "", "something that is no test"
    assert [name for path, name in named if name not in names_in(path)] == []


def test_what_is_said_to_hold_the_figures_of_performance_exists() -> None:
    named = TEST.findall((ROOT / "docs" / "performance.md").read_text("utf-8"))
    assert len(named) > 10
    assert [name for path, name in named if name not in names_in(path)] == []


def test_a_test_that_does_not_exist_would_be_missed() -> None:
    assert test_a_test_that_does_not_exist_would_be_missed.__name__ in names_in("tests/test_guarantees.py")
    assert "test_of_nothing" not in names_in("tests/test_guarantees.py")
    assert len(ROWS) > 30
