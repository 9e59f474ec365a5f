"""XDR security alerts, live, in any MCP-capable assistant.

The command line is the usual way in (``xdr-mcp --help``). As a library, the names below are the public surface.
"""

__version__ = "0.1.0"
