"""Judges what an exit tells, without a line of the program's own code: by Unicode's tables, a CommonMark parser and patterns."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from markdown_it import MarkdownIt

CANARY: Final = re.compile(r"zebra\d{3}q")
LONGEST: Final = 4_200
"""Characters of any one text that is told."""

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_DRAWN_AS_NOTHING: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_PATTERNS: Final = {
    "a long run of blanks": r"[^\S\n]{30}",
    "a long run of line ends": r"(?:[^\S\n]*\n){5}",
    "something like a tag": r"<\s*[!?|\uff5c]|<[/\s]*[A-Za-z][^<>\n]*[>=]|[\uff1c\ufe64]\s*/?\s*[A-Za-z]|<\s*(?:system|user|assistant)\s*>",
    "a tag that what follows could close": r"<[A-Za-z][\w:-]*(?:[^\S\n]+[A-Za-z][\w.:-]*)+ *(?:\u2026|$(?![\s\S]))",
    "an element that acts though it is open": r"<(?:script|img|svg|iframe|style|base|meta)\b",
    "an image": r"!\[",
    "a link": r"\]\(\s*<?\s*(?:[a-z][a-z0-9+.\\-]*(?::|&)|\\*/\s*[/\\]|\\\\|//|#)",
    "a definition": r"^[\s>\d.]*\[[^\]]*\]:\s*<?(?:[a-z]+:|//)\S*\s*$",
    "a code fence": r"`{3}|~{3}",
    "a token of a chat template": r"\[/?(?:INST|SYS\w*|TOOL_\w+|AVAILABLE_TOOLS|url|img)[\]=]|<</?SYS",
    "somebody's turn": r"^[^\w\n]*(?:Human|Assistant)[*_ ]*:|^[>\s]*#+ *(?:Instruction|Response|System)[*_ ]*:",
    "a fence's mark": r"<{2}[\W_]*(?:end[\W_]*|of[\W_]*|begin[\W_]*)*(?:un)?trusted|trusted\s*>{2}|[0-9a-f]{8}\s?>{3}",
}
_COMPILED: Final = {name: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for name, pattern in _PATTERNS.items()}
_MARKDOWN: Final = MarkdownIt("commonmark")
_ACTIVE: Final = frozenset({"html_inline", "html_block", "image", "fence", "link_open"})
_ELSEWHERE: Final = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:|[/\\]{2}|#)", re.IGNORECASE)
_SIZE: Final = re.compile(r"\d+ bytes")
"""What is told of a record that is too long for the answer."""
_MARKS: Final = re.compile(r"<<<untrusted ([0-9a-f]{12})\n(.*)\n\1>>>", re.DOTALL)


@lru_cache(100_000)
def faults(text: str) -> tuple[str, ...]:
    """What is wrong with a text that an alert's writer chose, in the form in which it is told."""
    return tuple(_faults(text))


def _faults(text: str) -> Iterator[str]:
    for character in sorted(set(text) - {"\n", "\t"}):
        if unicodedata.category(character) in _HIDDEN or _DRAWN_AS_NOTHING.match(character):
            yield f"U+{ord(character):04X} as it is"
    if any(len(stack) > 8 for stack in _stacks(text)):
        yield "a stack of marks"
    yield from (name for name, pattern in _COMPILED.items() if pattern.search(text))
    yield from _rendered(text[:LONGEST])


def _stacks(text: str) -> list[str]:
    kinds = "".join("M" if unicodedata.category(character).startswith("M") else "." for character in text)
    return re.findall("M+", kinds)


def _rendered(text: str) -> Iterator[str]:
    """What becomes of it where Markdown is rendered."""
    for block in _MARKDOWN.parse(text):
        for token in (block, *(block.children or ())):
            if token.type == "link_open" and not _ELSEWHERE.match(str(token.attrs.get("href", ""))):
                continue
            if token.type in _ACTIVE:
                yield f"rendered as {token.type}"


# ---------------------------------------------------------------- whole answers


def of_data(data: Any) -> Iterator[str]:
    """What is wrong with structured data: in each of its texts, and with where they stand."""
    yield from _of_value(data, (), frozenset(data.get("untrusted", ())))


def _of_value(value: Any, path: tuple[str, ...], labels: frozenset[str]) -> Iterator[str]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _of_text(key, path, labels)
                yield from _of_value(item, (*path, key), labels)
        case list():
            for item in value:
                yield from _of_value(item, path, labels)
        case str() if path == ("raw",):
            yield from of_fenced(value, "") if not _SIZE.fullmatch(value) else ()
        case str():
            yield from _of_text(value, path, labels)


def _of_text(text: str, path: tuple[str, ...], labels: frozenset[str]) -> Iterator[str]:
    yield from (f"{'.'.join(path)}: {fault}: {text[:80]!r}" for fault in faults(text))
    if len(text) > LONGEST and "raw" not in path and path[:1] != ("fence",):
        yield f"{'.'.join(path)}: {len(text)} characters"
    if CANARY.search(text) and not labels & set(path):
        yield f"{'.'.join(path)} is not labelled: {text[:80]!r}"


def of_fenced(text: str, outside: str | None = None) -> Iterator[str]:
    """What is wrong with a text whose data stands in one fence: with its marks, around them, and within."""
    found = _MARKS.search(text)
    if found is None:
        yield f"no fence in {text[:80]!r}"
        return
    nonce, inside = found.groups()
    around = text[: found.start()] + text[found.end() :]
    if text.count(nonce) != 2 or len(re.findall(r"<<<untrusted|[0-9a-f]{12}>>>", text)) != 2:
        yield "marks of a fence that are not ours"
    if CANARY.search(around) or (outside is not None and around != outside):
        yield f"text of others outside the fence: {around[:200]!r}"
    yield from _of_value(json.loads(inside), ("fence",), frozenset({"fence"}))


def of_line(text: str) -> Iterator[str]:
    """What is wrong with a line in a terminal or in a log: it is one line, and steers nothing."""
    hidden = {character for character in text if unicodedata.category(character) in _HIDDEN}
    yield from (f"U+{ord(character):04X} as it is" for character in sorted(hidden))
    if _DRAWN_AS_NOTHING.search(text):
        yield "something invisible"
