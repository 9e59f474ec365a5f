"""The filter language: what an analyst types, parsed once, evaluated in memory (``matches``) or by a store."""

from xdr_mcp.query.nodes import And, Comparison, Level, Moment, Node, Not, Or, Pattern, Query, Term, Words
from xdr_mcp.query.text import TEXT_LIMIT, VALUE_LIMIT, WORD_LIMIT, fold, terms_of, texts_of, words_of

__all__ = [
    "TEXT_LIMIT",
    "VALUE_LIMIT",
    "WORD_LIMIT",
    "And",
    "Comparison",
    "Level",
    "Moment",
    "Node",
    "Not",
    "Or",
    "Pattern",
    "Query",
    "Term",
    "Words",
    "fold",
    "terms_of",
    "texts_of",
    "words_of",
]
