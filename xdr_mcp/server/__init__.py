"""What assistants talk to: an MCP server over the store, in both protocol eras, over stdio and HTTP."""

from xdr_mcp.server.build import Background, XdrServer, build_server

__all__ = ["Background", "XdrServer", "build_server"]
