r"""Characters that are not seen, or that change how others are seen.

A terminal escape, a right-to-left override or a sentence in invisible tag characters is evidence, so it is not dropped. A
model is shown ``[U+202E]`` in its place (``visible``), which stays short however long the hidden text is. A terminal and a
log line are shown the escape that programmers know, ``\u202e``, and stay one line (``escaped``).
"""

from __future__ import annotations

import re

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
_RUN_SHOWN = 4
"""A run of hidden characters up to this long is spelled out; of a longer one, the first and the number."""


def visible(text: str) -> str:
    r"""``text`` with every hidden or steering character shown as ``[U+XXXX]``; ``\r\n`` becomes ``\n``."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(_mark, text.replace("\r\n", "\n"))


def escaped(text: str) -> str:
    r"""``text`` on one line, with every hidden or steering character shown as its escape: ``\x1b``, ``\n``, ``\u202e``."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def _mark(run: re.Match[str]) -> str:
    hidden = run.group()
    if len(hidden) <= _RUN_SHOWN:
        return "".join(f"[U+{ord(character):04X}]" for character in hidden)
    return f"[U+{ord(hidden[0]):04X} and {len(hidden) - 1} more hidden]"
