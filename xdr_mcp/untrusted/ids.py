"""An alert's id as it is told: what could hide, steer or act is percent-encoded, so that the id can still be given back.

Twins that only look alike (a Cyrillic letter, a blank of another width) are told apart: what is told is plain ASCII.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

_SPELLED = re.compile(r"[^0-9A-Za-z#$'*+,./:;=?@^_{}-]+")


def spell(alert_id: str) -> str:
    """An alert id as it is told: in printable ASCII, without blanks, ``%`` and whatever could be read as markup."""
    return _SPELLED.sub(lambda found: quote(found.group(), safe="", errors="surrogatepass"), alert_id)


def unspell(told: str) -> str:
    """The alert id that ``spell`` told."""
    return unquote(told)
