"""What is told about alerts, by tools, resources and prompts alike: listings, whole alerts, and how far the picture reaches.

Every answer carries coverage, because an empty list from a source that was never read means something else than an empty list.
"""

from xdr_mcp.server.answers.coverage import caveat
from xdr_mcp.server.answers.desk import Answers, UnknownAlert, UnknownField, summary

__all__ = ["Answers", "UnknownAlert", "UnknownField", "caveat", "summary"]
