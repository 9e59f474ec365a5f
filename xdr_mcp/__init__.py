"""XDR security alerts, live, in any MCP-capable assistant.

The command line is the usual way in (``xdr-mcp --help``). As a library, start at ``xdr_mcp.sources.xdr.XdrClient``,
``xdr_mcp.store.open_store`` and ``xdr_mcp.query.parse`` (docs/library.md); they are imported from where they are, so that no
command pays for what it does not use.
"""

__version__ = "0.1.0"
