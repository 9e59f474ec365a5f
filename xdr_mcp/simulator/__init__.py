"""The other side of the wire: a simulated XDR with attack stories, vices and a truth to compare with.

It imports nothing of ours, so that what we believe about the vendor is written twice and can disagree.
"""

from xdr_mcp.simulator.api import create_app
from xdr_mcp.simulator.auth import DEFAULT_TOKEN, Auth
from xdr_mcp.simulator.drift import DRIFTS, BadDrift, Drift
from xdr_mcp.simulator.faults import VICES, BadFaults, Faults
from xdr_mcp.simulator.scenario import Estate
from xdr_mcp.simulator.serving import running, serve
from xdr_mcp.simulator.simulation import Simulator

__all__ = [
    "DEFAULT_TOKEN",
    "DRIFTS",
    "VICES",
    "Auth",
    "BadDrift",
    "BadFaults",
    "Drift",
    "Estate",
    "Faults",
    "Simulator",
    "create_app",
    "running",
    "serve",
]
