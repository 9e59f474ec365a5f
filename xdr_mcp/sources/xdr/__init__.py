"""The primary source: the XDR Alert Management API (Trellix, ``/xdr-alert``), and its client as a library.

async with XdrClient(XdrOptions(base_url="https://…/xdr-alert", auth_token="…", preset="trellix")) as client:
    alert = await client.alert("0d5c1f6e-…", fields=["name", "severity"])
"""

from __future__ import annotations

from xdr_mcp.sources.xdr.client import XdrClient
from xdr_mcp.sources.xdr.mapping import to_alert
from xdr_mcp.sources.xdr.options import XdrOptions
from xdr_mcp.sources.xdr.paging import Listing
from xdr_mcp.sources.xdr.source import XdrSource

__all__ = ["Listing", "XdrClient", "XdrOptions", "XdrSource", "to_alert"]
