"""Changes at the vendor that somebody proposes and a person approves: from the proposal to the poll that shows it.

A proposal is planned against the stored alert and calls nobody. A person is shown it against the alert as the vendor has it
at that moment, and what was shown is what is approved: where the alert has changed in between, it is shown anew. What is
sent is what the alert still lacks, so that an approval that was cut off is taken up by looking, not by sending again.
"""

from xdr_mcp.triage.approvals import Approvals, Stale
from xdr_mcp.triage.mentions import mentions
from xdr_mcp.triage.review import Review, Step

__all__ = ["Approvals", "Review", "Stale", "Step", "mentions"]
