r"""Text that acts: on whoever renders it (links, images, HTML) or on a model (chat-template tokens, role lines, fences).

Each such piece is broken where it begins to act, by one visible addition: ``]\(``, ``!\[``, ``&lt;script``. The rest stays as
it was, because an analyst searches for it: ``[char[]](72,101)``, ``2>&1``, ``sort <in >out`` and ``a[0]`` are no markup. Where
the two cannot be told apart (``vector<int>``) it is taken for markup. Every pattern is linear in the length of the text.
"""

from __future__ import annotations

import re
from functools import cache

_NAME = r"[A-Za-z][\w:-]*+"
_ATTRIBUTE = r"[A-Za-z_:@][\w.:@-]*+"
_ACTIVE = (
    "script|style|iframe|frame|img|image|svg|math|object|embed|applet|link|meta|base|form|button|video|audio|template|"
    "textarea|noscript|details|marquee|body|html|head|title|plaintext|xmp|isindex"
)
"""Elements that act, or swallow what follows, even when they are never closed."""
_ROLES = "system|assistant|human|user|developer|tool|instructions?"
"""Words that chat templates give to who speaks."""

_LESS, _MORE = "<\uff1c\ufe64", ">\uff1e\ufe65"
"""As models read them, too, where they are drawn wide or small."""
_TAG = rf"""
    [!?|\uff5c]                                                # comment, declaration, CDATA; <|im_start|>
  | /?\s?{_NAME}(?:=[^\s{_LESS}{_MORE}]*+)?\s*+/?[{_MORE}]     # <b>, </b>, <br/>, <function=name>
  | \s*+/?\s*+(?:{_ROLES})\s*+[{_MORE}]                        # < / system >
  | {_NAME}(?:\s++{_ATTRIBUTE})*+\s*+/?[{_MORE}]              # <details open>
  | {_NAME}[\s/]++{_ATTRIBUTE}=                               # <a href=… that is never closed
  | /?{_NAME}(?:\s++{_ATTRIBUTE})*+\s*+\u2026              # <details ope… that is cut: what follows could close it
  | {_NAME}(?:\s++{_ATTRIBUTE})++\s*+\Z                    # <details open at the end
  | (?:{_ACTIVE})(?![\w.-])                                # <script that is never closed
  | https?:                                                   # <https://…>, Slack's <https://…|text>
"""


def _closed(edges: str, end: str) -> str:
    """What is a tag because it is closed before another begins: the look ahead for that must not go past ``edges``."""
    return rf"""
        /?[A-Za-z][^\s/{edges}=]*+[\s/][^{edges}=]*+=[^{edges}]*+[{end}]   # <a href=…>
      | [A-Za-z][A-Za-z0-9+.-]{{1,31}}:[^\s{edges}]*+[{end}]              # <mailto:…>
    """


_HEREDOC = r"(?<=<<)(?-i:EOF|EOL|EOT|END|HERE|HEREDOC)[ \t]*+>"
"""``cat <<EOF >file`` is a shell's, not a tag."""

_ELSEWHERE = r"<?\s*+(?:[\#/\\<]|(?:[^()\s/\\]|\\[+.-]){0,64}?\\*+[:&])"
"""How the destination of a link begins that can name another place, or a message: ``[char[]](72,101)`` has none."""
_DESTINATION = r":[ \t]*+\n?[ \t>]*+"


@cache
def _markup() -> re.Pattern[str]:
    """What acts wherever it stands. Compiled when first needed: it takes as long as a hundredth of the start."""
    return re.compile(
        rf"""
        (?=[{_LESS}>!\[\]`~]) (?:
            (?P<fence> (?<!<)<{{2,}}+ (?=[\W_]{{0,16}}+(?:(?:begin|start|open|end|close|of|the)[\W_]{{1,4}}+){{0,3}}+(?:un)?trusted))
          | (?P<fence_end> (?: (?<=trusted)|(?<=trusted\ ) ) >{{2,}}+ | (?: (?<=[0-9a-f]{{8}})|(?<=[0-9a-f]{{8}}\ ) ) >{{3,}}+ )
          | (?P<tag> [{_LESS}] (?!{_HEREDOC}) (?={_TAG} | (?<=<)(?:{_closed("<>", ">")}) | (?<!<)(?:{_closed(_LESS + _MORE, _MORE)})))
          | (?P<image> !(?=\[))
          | (?P<link> \](?=\(\s*+{_ELSEWHERE}))
          | (?P<token> \[/?(?:inst|sys|system|assistant|system_prompt|available_tools|tool_\w{{1,16}}|think|gmask|img|url)
              (?=[\]=]))
          | (?P<run> `{{3,}}+ | ~{{3,}}+)
        )
        """,
        re.VERBOSE | re.IGNORECASE,
    )


@cache
def _line() -> re.Pattern[str]:
    """What acts at the beginning of a line alone."""
    return re.compile(
        rf"""
        ^(?: [ \t>*+\d.)-]*+ \[(?:\\[\s\S]|[^\]\[\\])*+\]            # [label]: https://…
              (?={_DESTINATION}(?![:\d]){_ELSEWHERE}) (?={_DESTINATION}(?:<[^>\n]*+>|\S++)[ \t]*+(?:$|["'(]))
          | [\W_]{{0,8}}(?:human|assistant)[*_ ]{{0,3}} (?=:)           # **Human**:
          | [ \t>]*+\#{{1,6}}[ \t*_]*+(?:{_ROLES}|input|response)[*_ ]{{0,3}} (?=:)   # ### Instruction:
        )
        """,
        re.VERBOSE | re.IGNORECASE | re.MULTILINE,
    )


ORDINARY = re.compile(rf"(?![\W_]{{0,8}}(?i:{_ROLES}|input|response)[*_ ]{{0,3}}:)[ !-;=?-Z\\^_a-z{{|}}]*+")
"""Printable ASCII in which none of the patterns can be found: most of what is ever told."""


def inert(text: str) -> str:
    """``text`` in which nothing acts any more; all of it is ``visible`` already."""
    while (after := _line().sub(_backslashed, _markup().sub(_broken, text))) != text:
        text = after  # what was added may be part of another piece: a link's destination
    return text


def _broken(found: re.Match[str]) -> str:
    piece = found.group()
    match found.lastgroup:
        case "tag" | "fence":
            return "".join("&lt;" if each == "<" else f"[U+{ord(each):04X}]" for each in piece)
        case "fence_end":
            return piece.replace(">", "&gt;")
        case "run":
            return "\\".join(piece[at : at + 2] for at in range(0, len(piece), 2))
        case _:
            return _backslashed(found)


def _backslashed(found: re.Match[str]) -> str:
    return f"{found.group()}\\"
