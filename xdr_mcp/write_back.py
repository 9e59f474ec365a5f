"""Writing back to a vendor, as the settings allow it: what assistants propose, persons decide on, and the log keeps."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from xdr_mcp.errors import SettingsError
from xdr_mcp.interfaces import Source, Store, Triage
from xdr_mcp.lease import holder_name
from xdr_mcp.opening import looking, open_configured
from xdr_mcp.proposal import AuditEntry, AuditRow, Verification, verify
from xdr_mcp.setup import Setup
from xdr_mcp.triage import Approvals

log = logging.getLogger(__name__)

AUDITED_AT_ONCE: Final = 1_000


def writable(sources: list[Source]) -> dict[str, Triage]:
    """The sources that can be written to, by name."""
    return {source.name: triage for source in sources if (triage := getattr(source, "triage", None)) is not None}


def proposing(setup: Setup, store: Store, sources: list[Source]) -> Approvals | None:
    """Where an assistant's proposals go, where that is wanted and can come to something."""
    if setup.settings.triage == "off":
        return None
    if not (vendors := writable(sources)):
        log.warning("XDR_TRIAGE is %s, but no source can be written to: see docs/triage.md", setup.settings.triage)
        return None
    return Approvals(store, vendors, holder=holder_name())


@asynccontextmanager
async def deciding(setup: Setup, *, calling: bool) -> AsyncIterator[Approvals]:
    """The proposals, for a person to decide on; with ``calling`` the vendors can be asked and told, lazily.

    Raises:
        SettingsError: the vendors are to be called, and XDR_TRIAGE is off. StoreUnusable: there is no store.
    """
    if calling and setup.settings.triage == "off":
        raise SettingsError(
            "XDR_TRIAGE is off, so nothing is written to any vendor; set XDR_TRIAGE=approve (docs/triage.md)"
        )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(looking(setup))
        sources = await open_configured(setup, store, stack, polled=False) if calling else []
        yield Approvals(store, writable(sources), holder=holder_name())


async def check_audit(setup: Setup, noted: str) -> tuple[tuple[AuditEntry, ...], Verification]:
    """The log of proposals, as far as it can be read, and what checking it found.

    Raises:
        StoreUnusable: there is no store.
    """
    async with looking(setup) as store:
        rows: list[AuditRow] = []
        while more := await store.audit(rows[-1].seq if rows else 0, AUDITED_AT_ONCE):
            rows += more
        proposals = await store.proposals(limit=sys.maxsize)
    found = verify(rows, proposals, noted)
    return tuple(row.entry for row in rows[: found.rows]), found
