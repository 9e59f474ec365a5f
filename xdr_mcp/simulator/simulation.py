"""The handle that a test holds on a running simulator: what is true, and what shall happen."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from xdr_mcp.simulator.auth import Auth
from xdr_mcp.simulator.drift import Drift
from xdr_mcp.simulator.faults import Faults
from xdr_mcp.simulator.ledger import Ledger
from xdr_mcp.simulator.poison import poison_ids
from xdr_mcp.simulator.revision import stamp
from xdr_mcp.simulator.scenario import Estate


class Simulator:
    """One simulated tenant; ``app.state.simulator``."""

    def __init__(self, estate: Estate, faults: Faults, auth: Auth, drift: Drift) -> None:
        self.estate = estate
        self.faults = faults
        self.auth = auth
        self.ledger = Ledger(estate, faults, drift)
        self.requests: Counter[str] = Counter()
        """Requests that reached the API, by what they asked for (``alerts``, ``assets``, ``token``, …)."""
        self.closing = asyncio.Event()

    def status(self) -> dict[str, Any]:
        """How much there is at this time."""
        ledger = self.ledger
        ledger.refresh()
        coming = self.estate.next_at()
        times = ledger.by_updated
        return {
            "alerts": len(ledger.entries),
            "calm": self.faults.is_calm,
            "newestUpdatedAt": stamp(times[-1][0]) if times else None,
            "nextAt": None if coming is None else stamp(coming),
            "now": stamp(ledger.now()),
            "oldestUpdatedAt": stamp(times[0][0]) if times else None,
            "requests": dict(self.requests),
            "revisions": ledger.revisions,
            "struck": dict(self.faults.struck),
            "vices": [vice.name for vice in self.faults.vices],
            "waiting": ledger.waiting,
        }

    def truth(self) -> list[dict[str, Any]]:
        """What a complete client knows now: every alert's id, createdAt, updatedAt, revision and digest."""
        self.ledger.refresh()
        return list(self.ledger.truth())

    def poison(self) -> list[dict[str, str]]:
        """Ids that a client may hold although they are not among the truth."""
        return poison_ids(self.faults.seed)

    def burst(self, number: int) -> None:
        """Let so many alerts happen at once, now."""
        self.estate.burst(number)
        self.ledger.refresh()

    def calm(self) -> None:
        """Rest the vices, stop the company and show what was late: from now on the truth stands still."""
        self.estate.freeze()
        self.faults.calm()
        self.ledger.settle()

    def resume(self) -> None:
        """End the calm."""
        self.faults.resume()
        self.estate.thaw()

    def close(self) -> None:
        """Cut off answers that are slow on purpose; the server calls it when it ends."""
        self.closing.set()
