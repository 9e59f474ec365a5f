"""Text that hides by how it is laid out: far behind blanks or line ends, or under a tower of marks on one letter."""

from __future__ import annotations

import re
from itertools import groupby
from unicodedata import category

MOST_BLANKS = 23
"""A table in a description has fewer between two columns."""
_MOST_NEWLINES = 3
_MOST_MARKS = 6
"""No script in use needs more on one letter."""
_MARKS_SHOWN = 3

_BLANK = " \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_DISTANCE = re.compile(rf"(?:[{_BLANK}]*\n){{{_MOST_NEWLINES + 1},}}|[{_BLANK}]{{{MOST_BLANKS + 1},}}")
_STACK = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST_MARKS + 1},}}")


def brought_near(text: str) -> str:
    """``text`` with long runs of blanks told as ``[40 blanks]`` and of line ends as ``[9 line ends]``."""
    return _DISTANCE.sub(_told_distance, text)


def unstacked(text: str) -> str:
    """``text`` with the first few of many combining marks on one letter, and ``[+57 marks]``."""
    return _STACK.sub(_told_stack, text)


def on_one_line(text: str) -> str:
    """``text`` with a blank for each line end and tab."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")


def _told_distance(run: re.Match[str]) -> str:
    blanks = run.group()
    lines = blanks.count("\n")
    return f"\n[{lines} line ends]\n" if lines else f"[{len(blanks)} blanks]"


def _told_stack(run: re.Match[str]) -> str:
    told = ""
    for combining, characters in groupby(run.group(), lambda each: category(each).startswith("M")):
        stack = "".join(characters)
        high = combining and len(stack) > _MOST_MARKS
        told += f"{stack[:_MARKS_SHOWN]}[+{len(stack) - _MARKS_SHOWN} marks]" if high else stack
    return told
