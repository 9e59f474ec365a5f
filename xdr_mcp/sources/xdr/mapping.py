"""A record of the XDR Alert Management API as an ``Alert``: every drift of its shapes seen in public is absorbed here.

What the alert is about (``entities.py``) stands in many places, partly beside the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

from xdr_mcp.alert import Alert, Attack, Severity, Status, Verdict
from xdr_mcp.sources.xdr.entities import entities_of
from xdr_mcp.vendor_json import as_list, as_text, parse_time

Json = Mapping[str, Any]

_STATUSES = {
    "NEW": Status.NEW,
    "OPEN": Status.NEW,
    "IN_PROGRESS": Status.IN_PROGRESS,
    "ACK_COMPLETE": Status.RESOLVED,
    "ACK_FP": Status.RESOLVED,
    "CLOSED": Status.RESOLVED,
    "RESOLVED": Status.RESOLVED,
    "SUPPRESS": Status.SUPPRESSED,
    "SUPPRESSED": Status.SUPPRESSED,
}
_SEVERITIES = tuple(Severity)
_WORDS = {"info": Severity.INFORMATIONAL, **{severity.value: severity for severity in Severity}}
_TOP_OF_SCALE = 5
_NO_SUCH_NUMBER = 1e15


def to_alert(source: str, record: Json, included: Sequence[Any] = ()) -> Alert:
    """The record normalised.

    Raises:
        ValueError: it has no id, or no time at all.
    """
    attributes = _object(record.get("attributes")) or record
    told = attributes.get
    vendor_id = _text(record.get("id") or told("id"))
    if not vendor_id:
        raise ValueError("the record has no id")
    happened, aggregated = _time(told("time")), _time(told("lastAggregatedTime"))
    created, updated = _time(told("createdAt")), _time(told("updatedAt"))
    updated = updated or aggregated or created or happened
    created = created or happened or updated
    if updated is None or created is None:
        raise ValueError(f"the record {vendor_id[:80]!r} has neither updatedAt nor createdAt")
    status = _text(told("status")).upper().replace(" ", "_")
    message = _text(told("message"))
    summary = _first_text(attributes, "genai_summary", "genaiSummary")
    name = _first_text(attributes, "name", "genai_name", "genaiName")
    return Alert(
        source=source,
        vendor_id=vendor_id,
        title=name or message.partition("\n")[0] or "(no name)",
        created=created,
        updated=updated,
        description=f"{message}\n\n{summary}" if message and summary and message != summary else message or summary,
        severity=_severity(told("severity")),
        status=_STATUSES.get(status, Status.UNKNOWN),
        verdict=Verdict.FALSE_POSITIVE if status == "ACK_FP" else Verdict.UNKNOWN,
        risk_score=_risk_score(attributes),
        confidence=_of_five(told("confidence")),
        product=", ".join(_texts(told("sources"))),
        vendor="Trellix",
        tenant=_first_text(attributes, "tenantId", "customerId"),
        category=_first_text(attributes, "category", "generatedBy"),
        rule_id=_text(told("ruleId")),
        rule_name=_text(told("ruleName")),
        assignee=_assignee(told("assignee")),
        count=_count(attributes),
        first_seen=happened,
        last_seen=aggregated,
        attacks=tuple(dict.fromkeys(_attacks(told("attacks")))),
        entities=entities_of(record, attributes, included),
        labels=(*_texts(told("tags")), *_texts(told("labels")), *_case(attributes)),
        recommended_actions=_texts(told("recommendedActions")),
        url=_first_text(attributes, "sourceUrl", "source_url", "alertUrl"),
    )


# ---------------------------------------------------------------- single values


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return (value if isinstance(value, str) else as_text(value)).strip()


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [text for item in as_list(value) if (text := _text(item))]
    return tuple(dict.fromkeys(texts) if len(texts) > 1 else texts)


def _first_text(attributes: Json, *names: str) -> str:
    for name in names:
        if (value := attributes.get(name)) is not None and (text := _text(value)):
            return text
    return ""


def _time(value: object) -> datetime | None:
    return parse_time(value if isinstance(value, str) else _unwrapped(value))


def _unwrapped(value: object) -> Any:
    return value["value"] if isinstance(value, dict) and "value" in value else value


def _number(value: object) -> float | None:
    if value is None:
        return None
    if type(value) is int:
        return value if abs(value) < _NO_SUCH_NUMBER else None
    plain: Any = _unwrapped(value) if isinstance(value, dict) else value
    if isinstance(plain, bool):
        return None
    try:
        number = float(plain)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < _NO_SUCH_NUMBER else None  # also drops nan and inf


def _severity(value: object) -> Severity:
    number = _number(value)
    if number is None:
        return _WORDS.get(_text(value).lower(), Severity.UNKNOWN)
    return _SEVERITIES[int(number)] if 0 <= number <= _TOP_OF_SCALE else Severity.UNKNOWN


def _of_five(value: object) -> int | None:
    """A level of the vendor's scale, 0 to 5 or its word, as a percentage."""
    number = _number(value)
    if number is None:
        word = _WORDS.get(_text(value).lower())
        return word.rank * 20 if word else None
    return int(number * 20) if 0 <= number <= _TOP_OF_SCALE else None


def _risk_score(attributes: Json) -> int | None:
    score = _number(attributes.get("score"))
    return int(score) if score is not None and 0 <= score <= 100 else _of_five(attributes.get("risk"))  # noqa: PLR2004


def _count(attributes: Json) -> int:
    for name in ("totalEventMatchCount", "alertAggregationCount"):
        number = _number(attributes.get(name))
        if number is not None and number >= 0:
            return int(number)
    return 1


def _case(attributes: Json) -> list[str]:
    """The case that an alert belongs to, as a label that related alerts share."""
    case = _first_text(_object(attributes.get("supportingData")), "caseId") or _first_text(attributes, "caseId")
    return [f"case:{case}"] if case else []


def _assignee(value: object) -> str:
    person = _object(value)
    return _first_text(person, "name", "email", "value", "id") if person else _text(value)


# ---------------------------------------------------------------- ATT&CK

_TECHNIQUE = re.compile(r"\bT\d{4}(?:\.\d{3})?\b")
_TACTIC = re.compile(r"\bTA\d{4}\b")
_NESTING = ("techniques", "tactics", "attacks", "value")
"""Fields of an object that holds references rather than being one."""
_PLAIN = frozenset({str, int, type(None)})
"""What fields of a reference are that comes back. Not bool and float: True and 1.0 would be taken for 1."""
_MOST_FIELDS = 20
_SHORT = 512
"""Characters of a reference that is remembered, names and values together."""


def _attacks(value: object) -> Iterable[Attack]:
    """From text, a list of texts, a list of objects, or an object of lists."""
    if isinstance(value, dict):
        return _attacks_of_object(value)
    if isinstance(value, str):
        return _attacks_of_text(value)
    if isinstance(value, list | tuple):
        return [attack for item in value for attack in _attacks(item)]
    return ()


def _attacks_of_text(text: str) -> Iterator[Attack]:
    techniques, tactics = _TECHNIQUE.findall(text), _TACTIC.findall(text)
    if len(techniques) == 1 and not tactics:
        yield Attack(technique=techniques[0], technique_name=_name_beside(text, techniques[0]))
    elif len(tactics) == 1 and not techniques:
        yield Attack(tactic=tactics[0], tactic_name=_name_beside(text, tactics[0]))
    else:
        yield from (Attack(technique=technique) for technique in techniques)
        yield from (Attack(tactic=tactic) for tactic in tactics)


def _attacks_of_object(value: Json) -> Iterable[Attack]:
    if not value.keys().isdisjoint(_NESTING):
        nested = [value[name] for name in _NESTING if value.get(name)]
        if nested:
            return [attack for item in nested for attack in _attacks(item)]
    if len(value) <= _MOST_FIELDS and _PLAIN.issuperset(map(type, value.values())):
        items = tuple(value.items())
        if len("".join(map(str, chain.from_iterable(items)))) <= _SHORT:
            return _attacks_again(items)
    return _attacks_of_items(value)


@lru_cache(1024)
def _attacks_again(items: tuple[tuple[str, Any], ...]) -> tuple[Attack, ...]:
    """The same few techniques come back in alert after alert."""
    return tuple(_attacks_of_items(dict(items)))


def _attacks_of_items(value: Json) -> Iterator[Attack]:
    techniques = next(
        filter(
            None, (_ids(_TECHNIQUE, value.get(name)) for name in ("techniqueId", "technique_id", "technique", "id"))
        ),
        [],
    )
    tactic_text = _first_text(value, "tactic", "tacticId", "tactic_id", "tacticName")
    tactic = next(iter(_TACTIC.findall(tactic_text)), None) or next(iter(_ids(_TACTIC, value.get("id"))), None)
    tactic_name = (_name_beside(tactic_text, tactic) if tactic else tactic_text) or None
    name = _first_text(value, "name", "techniqueName", "technique_name") or None
    for technique in techniques:
        named = name if len(techniques) == 1 else None
        yield Attack(technique=technique, technique_name=named, tactic=tactic, tactic_name=tactic_name)
    if not techniques and (tactic or tactic_name):
        yield Attack(tactic=tactic, tactic_name=tactic_name or name)


def _ids(pattern: re.Pattern[str], value: object) -> list[str]:
    return pattern.findall(" ".join(as_text(item) for item in as_list(value)))


def _name_beside(text: str, identifier: str) -> str | None:
    """``Initial Access`` from ``TA0001 - Initial Access``."""
    return text.replace(identifier, "", 1).strip(" \t-\N{EN DASH}:()") or None
