"""``python -m xdr_mcp``: the same as ``xdr-mcp``."""

from xdr_mcp.cli import main

if __name__ == "__main__":
    main(prog_name="xdr-mcp")
