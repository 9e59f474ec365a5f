r"""Text that others chose, made safe to show: whatever hides or steers is replaced by something that is seen.

Whoever is on a monitored host writes parts of an alert. A terminal escape, a right-to-left override or a sentence in
invisible tag characters is evidence, so it is not dropped. A model is shown ``[U+202E]`` in its place (``visible``), which
stays short however long the hidden text is. A terminal and a log line are shown the escape that programmers know,
``\u202e``, and stay one line (``escaped``).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

_HIDDEN_CLASS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls: terminal escapes, NUL, C1
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0"  # drawn as nothing, or as blank
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2"  # format characters of scripts
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # zero width, bidi, separators
    "\ufe00-\ufe0f"  # variation selectors: four hidden bits each
    "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"  # surrogates, private use, no characters
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff"  # tags, more selectors, private planes
)
_HIDDEN = re.compile(f"[{_HIDDEN_CLASS}]+")
_UNPRINTABLE = re.compile(f"[\t\n{_HIDDEN_CLASS}]")
_NEEDS_SPELLING = re.compile(f"[%\t\n{_HIDDEN_CLASS}]")
_RUN_SHOWN = 4
"""A run of hidden characters up to this long is spelled out; of a longer one, the first and the number."""
_MARK_ROOM = 8
"""Characters for the mark that says how much was left out."""


def visible(text: str) -> str:
    r"""``text`` with every hidden or steering character shown as ``[U+XXXX]``; ``\r\n`` becomes ``\n``."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(_mark, text.replace("\r\n", "\n"))


def contained(text: str, cap: int | None = None) -> str:
    """``text`` made ``visible``; of one longer than ``cap`` characters, the beginning and how many are left out: ``…[+311]``."""
    told = visible(text)
    if cap is None or len(told) <= cap:
        return told
    shown = cap - _MARK_ROOM
    if told.rfind("[U+", 0, shown) > told.rfind("]", 0, shown):  # no mark is cut in two
        shown = told.rfind("[U+", 0, shown)
    return f"{told[:shown]}…[+{len(told) - shown}]"


def contained_line(text: str, cap: int | None = None) -> str:
    """``contained``, on one line: line ends and repeated blanks are told as a blank."""
    return contained(" ".join(text.split()), cap)


def escaped(text: str) -> str:
    r"""``text`` on one line, with every hidden or steering character shown as its escape: ``\x1b``, ``\n``, ``\u202e``."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def _mark(run: re.Match[str]) -> str:
    hidden = run.group()
    if len(hidden) <= _RUN_SHOWN:
        return "".join(f"[U+{ord(character):04X}]" for character in hidden)
    return f"[U+{ord(hidden[0]):04X} and {len(hidden) - 1} more hidden]"


def contained_json(value: Any, cap: int | None = None) -> Any:
    """A JSON value with every string in it, keys too, ``contained``.

    Raises:
        RecursionError: nested deeper than Python follows.
    """
    match value:
        case str():
            return contained(value, cap)
        case dict():
            return {contained(str(key), cap): contained_json(item, cap) for key, item in value.items()}
        case list() | tuple():
            return [contained_json(item, cap) for item in value]
        case _:
            return value


def spell(alert_id: str) -> str:
    """An alert id as it is told: hidden characters and ``%`` percent-encoded, so that it can be given back."""
    return _NEEDS_SPELLING.sub(lambda found: quote(found.group(), safe="", errors="surrogatepass"), alert_id)


def unspell(told: str) -> str:
    """The alert id that ``spell`` told."""
    return unquote(told)
