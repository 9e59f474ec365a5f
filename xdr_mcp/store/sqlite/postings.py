"""What an alert is found by in the full-text index: its text as folded words, and its keyword values as tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdr_mcp.query import own_terms_of, texts_of

if TYPE_CHECKING:
    from xdr_mcp.alert import Alert

_BLANK, _BLANK_IN_VALUE = " ", "\N{NO-BREAK SPACE}"
"""A token ends at a blank; folding leaves no no-break space in a value."""


def posted(alert: Alert) -> tuple[str, str, str, str]:
    """What stands in the columns ``title``, ``description``, ``other`` and ``terms``."""
    terms = own_terms_of(alert)  # how an entity is asked for: vocabulary.py
    tokens = [f"{field}:{value}" for field, value in terms]
    tokens += [f":{field}" for field in dict.fromkeys([field for field, _ in terms])]
    tokens += ("everything", f"s{alert.severity.rank}", f"w{alert.status.ocsf_id}", f"v{alert.verdict.ocsf_id}")
    title, description, other = (text for _, text in texts_of(alert))
    return title, description, other, "\n".join(tokens).replace(_BLANK, _BLANK_IN_VALUE).replace("\n", _BLANK)


def token(field: str, value: str) -> str:
    """The token of a value; of a part of it, what its token begins with."""
    return f"{field}:{value.replace(_BLANK, _BLANK_IN_VALUE)}"


def value_of_token(field: str, found: str) -> str:
    """The value that has this token."""
    return found[len(field) + 1 :].replace(_BLANK_IN_VALUE, _BLANK)


def presence(field: str) -> str:
    """The token of an alert that has any value of this field."""
    return f":{field}"
