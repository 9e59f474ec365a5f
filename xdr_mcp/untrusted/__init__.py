"""Text that others chose, made safe to tell: whatever hides, steers or acts is replaced by something that is seen.

Whoever is on a monitored host writes parts of an alert. A model is told them ``contained``, in labelled fields of JSON or inside
a ``Fence``; a terminal and a log line are shown them ``escaped``. Nothing is dropped: how something was hidden is evidence.
Which fields of an alert are of that kind stands on the fields (``alert.UNTRUSTED_FIELDS``); docs/security.md has the whole picture.
"""

from xdr_mcp.untrusted.characters import escaped, visible
from xdr_mcp.untrusted.containing import contained, contained_json, contained_line, ordinary
from xdr_mcp.untrusted.fence import FENCED, Fence, fenced
from xdr_mcp.untrusted.ids import spell, unspell

__all__ = [
    "FENCED",
    "Fence",
    "contained",
    "contained_json",
    "contained_line",
    "escaped",
    "fenced",
    "ordinary",
    "spell",
    "unspell",
    "visible",
]
