"""The filter language: what an analyst types, parsed once, evaluated in memory (``matches``) or by a store.

Text is folded in Python and nowhere else, because LIKE, ILIKE and fnmatch disagree about case, accents, ``?``, ``[``, ``%``
and ``_``. A store keeps folded values and folded words, so both ways of evaluating a query see the same characters.
"""

from xdr_mcp.query.evaluate import LEVELS, matcher, matches
from xdr_mcp.query.fields import ENTITY_FIELDS, FIELDS, Field, FieldKind, field_named, guide
from xdr_mcp.query.grouping import MOST_COMBINATIONS, Facet, Grouping, bucket, facets, keyword
from xdr_mcp.query.nodes import And, Comparison, Level, Moment, Node, Not, Or, Pattern, Query, Term, Words
from xdr_mcp.query.parser import instant, parse
from xdr_mcp.query.rendering import describe, literal
from xdr_mcp.query.text import (
    TEXT_LIMIT,
    VALUE_LIMIT,
    WORD_LIMIT,
    fold,
    forms_of,
    spelling,
    terms_of,
    texts_of,
    value_of,
    words_of,
)
from xdr_mcp.query.values import name_of

__all__ = [
    "ENTITY_FIELDS",
    "FIELDS",
    "LEVELS",
    "MOST_COMBINATIONS",
    "TEXT_LIMIT",
    "VALUE_LIMIT",
    "WORD_LIMIT",
    "And",
    "Comparison",
    "Facet",
    "Field",
    "FieldKind",
    "Grouping",
    "Level",
    "Moment",
    "Node",
    "Not",
    "Or",
    "Pattern",
    "Query",
    "Term",
    "Words",
    "bucket",
    "describe",
    "facets",
    "field_named",
    "fold",
    "forms_of",
    "guide",
    "instant",
    "keyword",
    "literal",
    "matcher",
    "matches",
    "name_of",
    "parse",
    "spelling",
    "terms_of",
    "texts_of",
    "value_of",
    "words_of",
]
