"""Text made visible, near, short and inert: what may be told to a model."""

from __future__ import annotations

from collections import Counter
from typing import Any

from xdr_mcp.untrusted.characters import visible
from xdr_mcp.untrusted.layout import MOST_BLANKS, brought_near, on_one_line, unstacked
from xdr_mcp.untrusted.markup import ORDINARY, inert

_DISTANT = " " * (MOST_BLANKS + 1)
_SHORTEST_CAP = 16
_NEAR_ENOUGH = 32
"""Of a long text full of escapes, up to one character in so many less is told than would fit."""
_WHOLE_TRIED = 8
"""A text up to so many times its cap may fit once what hides in it is told in short."""


def contained(text: str, cap: int | None = None) -> str:
    """``text`` with everything that hides, steers or acts made visible and inert; containing it again changes nothing.

    Args:
        text: any text; ordinary text comes back as it is.
        cap: most characters to return, at least 16. Of a longer text the beginning is told, and how many of its characters
            were left out: ``…[+311]``. No escape is cut in two.
    """
    if cap is not None and len(text) > cap:
        return _capped(text, cap)
    told = _contained(text)
    return told if cap is None or len(told) <= cap else _capped(text, cap)


def contained_line(text: str, cap: int | None = None) -> str:
    """``contained``, on one line: a line end or tab is told as a blank."""
    if ordinary(text) and (cap is None or len(text) <= cap):
        return text
    return contained(on_one_line(text), cap)


def contained_json(value: Any, cap: int | None = None) -> Any:
    """A JSON value with every string in it ``contained``, keys too; keys that come out alike are numbered.

    Raises:
        RecursionError: nested deeper than Python follows.
    """
    match value:
        case str():
            return contained(value, cap)
        case dict():
            keys = _told_apart([contained(str(key), cap) for key in value])
            return {key: contained_json(item, cap) for key, item in zip(keys, value.values(), strict=True)}
        case list() | tuple():
            return [contained_json(item, cap) for item in value]
        case _:
            return value


def _told_apart(keys: list[str]) -> list[str]:
    if len(set(keys)) == len(keys):
        return keys
    seen: Counter[str] = Counter()
    told: dict[str, None] = {}
    for key in keys:
        name = key
        while name in told:
            seen[key] += 1
            name = f"{key}[{seen[key] + 1}]"
        told[name] = None
    return list(told)


def _contained(text: str, rest: str = "") -> str:
    """Markup comes last: what takes the place of hidden characters and blanks could become part of a link."""
    if ordinary(text):
        return text + rest
    return inert(unstacked(brought_near(visible(text))) + rest)


def ordinary(text: str) -> bool:
    """It is told as it is, on one line as well, and behind a word of ours and a colon: most of what is ever told."""
    return ORDINARY.fullmatch(text) is not None and _DISTANT not in text


def _capped(text: str, cap: int) -> str:
    """As much of the beginning as fits, whole escapes only, and how much of ``text`` is left out."""
    if len(text) <= _WHOLE_TRIED * cap and len(told := _contained(text)) <= cap:
        return told
    most = max(cap, _SHORTEST_CAP)

    def told_up_to(shown: int) -> str:
        return _contained(text[:shown], _rest(text, shown))

    fits, too_many = 0, min(len(text), most - len(_rest(text, 0))) + 1
    shown = too_many - 1
    while too_many - fits > max(1, fits // _NEAR_ENOUGH):  # one look where text is ordinary, a few where it is not
        if len(told_up_to(shown)) <= most:
            fits = shown
        else:
            too_many = shown
        shown = (fits + too_many) // 2
    return told_up_to(fits)


def _rest(text: str, shown: int) -> str:
    return f"…[+{len(text) - shown}]"
