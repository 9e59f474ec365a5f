"""An alert's id as it is told: what could hide, steer or act is percent-encoded, so that the id can still be given back.

Twins that only look alike (a Cyrillic letter, a blank of another width) are told apart: what is told is plain ASCII.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_SPELLED = re.compile(r"[^0-9A-Za-z#$'*+,./:;=?@^_{}-]+")


def spell(alert_id: str) -> str:
    """An alert id as it is told: in printable ASCII, without blanks, ``%`` and whatever could be read as markup."""
    return _SPELLED.sub(_percent_encoded, alert_id)


def _percent_encoded(found: re.Match[str]) -> str:
    """As ``urllib.parse.quote`` does it, but for ``~``, which it leaves as it is."""
    return "".join(f"%{byte:02X}" for byte in found.group().encode("utf-8", "surrogatepass"))


def unspell(told: str) -> str:
    """The alert id that ``spell`` told."""
    return unquote(told)
