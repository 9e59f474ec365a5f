"""A record of the XDR Alert Management API as an ``Alert``: every drift of its shapes seen in public is absorbed here.

An alert's own attributes hold few entities; what its assets and events add comes beside it (``included``), in a page's
envelope or in the record itself. An asset that is only referred to is kept by its id, as a resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict
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
_MOST_ENTITIES = 250
_LONGEST_VALUE = 4096
_DEEPEST = 6


def to_alert(source: str, record: Json, included: Sequence[Any] = ()) -> Alert:
    """The record normalised.

    Raises:
        ValueError: it has no id, or no time at all.
    """
    attributes = _object(record.get("attributes")) or record
    vendor_id = as_text(record.get("id") or attributes.get("id")).strip()
    if not vendor_id:
        raise ValueError("the record has no id")
    happened, aggregated = _time(attributes, "time"), _time(attributes, "lastAggregatedTime")
    created, updated = _time(attributes, "createdAt"), _time(attributes, "updatedAt")
    updated = updated or aggregated or created or happened
    created = created or happened or updated
    if updated is None or created is None:
        raise ValueError(f"the record {vendor_id[:80]!r} has neither updatedAt nor createdAt")
    status = as_text(attributes.get("status")).strip().upper().replace(" ", "_")
    message = as_text(attributes.get("message")).strip()
    summary = _first_text(attributes, "genai_summary", "genaiSummary")
    name = _first_text(attributes, "name", "genai_name", "genaiName")
    return Alert(
        source=source,
        vendor_id=vendor_id,
        title=name or message.partition("\n")[0] or "(no name)",
        created=created,
        updated=updated,
        description="\n\n".join(dict.fromkeys(filter(None, (message, summary)))),
        severity=_severity(attributes.get("severity")),
        status=_STATUSES.get(status, Status.UNKNOWN),
        verdict=Verdict.FALSE_POSITIVE if status == "ACK_FP" else Verdict.UNKNOWN,
        risk_score=_risk_score(attributes),
        confidence=_of_five(attributes.get("confidence")),
        product=", ".join(_texts(attributes.get("sources"))),
        vendor="Trellix",
        tenant=_first_text(attributes, "tenantId", "customerId"),
        category=_first_text(attributes, "category", "generatedBy"),
        rule_id=_first_text(attributes, "ruleId"),
        rule_name=_first_text(attributes, "ruleName"),
        assignee=_assignee(attributes.get("assignee")),
        count=_count(attributes),
        first_seen=happened,
        last_seen=aggregated,
        attacks=tuple(dict.fromkeys(_attacks(attributes.get("attacks")))),
        entities=_entities(record, attributes, included),
        labels=(*_texts(attributes.get("tags")), *_texts(attributes.get("labels")), *_case(attributes)),
        recommended_actions=tuple(_texts(attributes.get("recommendedActions"))),
        url=_first_text(attributes, "sourceUrl", "source_url", "alertUrl"),
    )


# ---------------------------------------------------------------- single values


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    return list(dict.fromkeys(filter(None, (as_text(item).strip() for item in as_list(value)))))


def _first_text(attributes: Json, *names: str) -> str:
    for name in names:
        value = attributes.get(name)
        text = (value if isinstance(value, str) else as_text(value)).strip()
        if text:
            return text
    return ""


def _time(attributes: Json, name: str) -> datetime | None:
    return parse_time(_unwrapped(attributes.get(name)))


def _unwrapped(value: object) -> Any:
    return value["value"] if isinstance(value, dict) and "value" in value else value


def _number(value: object) -> float | None:
    plain = _unwrapped(value)
    if isinstance(plain, bool):
        return None
    try:
        number = float(plain)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None  # noqa: PLR2004 (also drops nan and inf)


def _severity(value: object) -> Severity:
    number = _number(value)
    if number is None:
        return _WORDS.get(as_text(value).strip().lower(), Severity.UNKNOWN)
    return _SEVERITIES[int(number)] if 0 <= number <= _TOP_OF_SCALE else Severity.UNKNOWN


def _of_five(value: object) -> int | None:
    """A level of the vendor's scale, 0 to 5 or its word, as a percentage."""
    number = _number(value)
    if number is None:
        word = _WORDS.get(as_text(value).strip().lower())
        return word.rank * 20 if word else None
    return int(number * 20) if 0 <= number <= _TOP_OF_SCALE else None


def _risk_score(attributes: Json) -> int | None:
    score = _number(attributes.get("score"))
    return int(score) if score is not None and 0 <= score <= 100 else _of_five(attributes.get("risk"))  # noqa: PLR2004


def _count(attributes: Json) -> int:
    numbers = (_number(attributes.get(name)) for name in ("totalEventMatchCount", "alertAggregationCount"))
    return int(next((number for number in numbers if number is not None and number >= 0), 1))


def _case(attributes: Json) -> list[str]:
    """The case that an alert belongs to, as a label that related alerts share."""
    case = _first_text(_object(attributes.get("supportingData")), "caseId") or _first_text(attributes, "caseId")
    return [f"case:{case}"] if case else []


def _assignee(value: object) -> str:
    person = _object(value)
    return _first_text(person, "name", "email", "value", "id") if person else as_text(value).strip()


# ---------------------------------------------------------------- ATT&CK

_TECHNIQUE = re.compile(r"\bT\d{4}(?:\.\d{3})?\b")
_TACTIC = re.compile(r"\bTA\d{4}\b")


def _attacks(value: object) -> Iterator[Attack]:
    """From text, a list of texts, a list of objects, or an object of lists."""
    if isinstance(value, dict):
        yield from _attacks_of_object(value)
    elif isinstance(value, str):
        yield from _attacks_of_text(value)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _attacks(item)


def _attacks_of_text(text: str) -> Iterator[Attack]:
    techniques, tactics = _TECHNIQUE.findall(text), _TACTIC.findall(text)
    if len(techniques) == 1 and not tactics:
        yield Attack(technique=techniques[0], technique_name=_name_beside(text, techniques[0]))
    elif len(tactics) == 1 and not techniques:
        yield Attack(tactic=tactics[0], tactic_name=_name_beside(text, tactics[0]))
    else:
        yield from (Attack(technique=technique) for technique in techniques)
        yield from (Attack(tactic=tactic) for tactic in tactics)


def _attacks_of_object(value: Json) -> Iterator[Attack]:
    nested = [value[name] for name in ("techniques", "tactics", "attacks", "value") if value.get(name)]
    if nested:
        for item in nested:
            yield from _attacks(item)
        return
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


# ---------------------------------------------------------------- entities

_KINDS = {
    EntityKind.HOST: "host hostname agenthostname devicename computername endpoint endpointname machinename dnshostname "
    "srchost dsthost sourcehost destinationhost",
    EntityKind.IP: "ip ipaddress ipv4 ipv6 ipv4address ipv6address srcip dstip srcipv4 dstipv4 srcipv6 dstipv6 sourceip "
    "destinationip remoteip localip clientip externalip internalip hostip",
    EntityKind.MAC: "mac macaddress srcmac dstmac",
    EntityKind.USER: "user username useraccount account accountname srcuser dstuser srcusername dstusername sourceuser "
    "targetuser targetusername principal principalname userprincipalname upn subjectusername loginname",
    EntityKind.EMAIL: "email emailaddress sender recipient mailfrom rcptto fromaddress toaddress",
    EntityKind.URL: "url uri requesturl",
    EntityKind.DOMAIN: "domain domainname fqdn dnsquery dnsname queryname",
    EntityKind.FILE: "file filename filepath fullpath targetfilename",
    EntityKind.HASH: "hash md5 sha1 sha256 sha512 filehash md5hash sha1hash sha256hash filemd5 filesha1 filesha256",
    EntityKind.PROCESS: "process processname processpath image pprocess parentprocess parentprocessname parentimage",
    EntityKind.COMMAND: "commandline cmdline processcommandline parentcommandline command",
    EntityKind.REGISTRY: "registry registrykey regkey registrypath",
}
_KIND_OF_NAME = {name: kind for kind, names in _KINDS.items() for name in names.split()}

_HASH = re.compile("|".join(rf"[0-9a-fA-F]{{{length}}}" for length in (32, 40, 56, 64, 96, 128)))
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
_EMAIL = re.compile(r"[^@\s/]+@[^@\s/]+\.[^@\s/.]+")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{1,20}://\S+")
_REGISTRY = re.compile(r"(?:HKLM|HKCU|HKCR|HKU|HKEY_[A-Z_]+)\\.+", re.IGNORECASE | re.DOTALL)
_FILE = re.compile(
    r"(?:[a-zA-Z]:\\|\\\\|/).+|[^/\\\s]+\.(?:exe|dll|sys|ps1|bat|cmd|vbs|js|docx?m?|xlsx?m?|pdf|zip|iso|lnk|sh|py)",
    re.IGNORECASE,
)
_DOMAIN = re.compile(r"(?=.{4,253}$)(?:[a-zA-Z0-9_](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z][a-zA-Z0-9-]{1,62}")
_SHAPES = (
    (_HASH, EntityKind.HASH),
    (_MAC, EntityKind.MAC),
    (_URL, EntityKind.URL),
    (_EMAIL, EntityKind.EMAIL),
    (_REGISTRY, EntityKind.REGISTRY),
    (_FILE, EntityKind.FILE),
    (_DOMAIN, EntityKind.DOMAIN),
)


def _entities(record: Json, attributes: Json, included: Sequence[Any]) -> tuple[Entity, ...]:
    found: dict[Entity, None] = {}
    for entity in _all_entities(record, attributes, included):
        found[entity] = None
        if len(found) == _MOST_ENTITIES:
            break
    return tuple(found)


def _all_entities(record: Json, attributes: Json, included: Sequence[Any]) -> Iterator[Entity]:
    referred = referred_by(record)
    beside = [*as_list(record.get("included")), *(item for item in included if reference_of(item) in referred)]
    for item in beside:
        yield from _entities_beside(_object(item))
    for artefact in as_list(attributes.get("artefacts")) + as_list(attributes.get("artifacts")):
        yield from _artefact(artefact)
    for name in ("assets", "supportingData", "primarySecondaryFields"):
        yield from _named(attributes.get(name), "", _DEEPEST)
    for name, value in attributes.items():
        if isinstance(value, str) and (kind := _kind_named(name)):
            yield from _entity(kind, value)
    known = {reference_of(item) for item in beside}
    for sort, identifier in referred:
        if sort == "asset" and (sort, identifier) not in known:
            yield from _entity(EntityKind.RESOURCE, identifier)


def reference_of(item: object) -> tuple[str, str]:
    """What an item is referred to by: its type and id."""
    return as_text(_object(item).get("type")), as_text(_object(item).get("id"))


def referred_by(record: Json) -> dict[tuple[str, str], None]:
    """The references that a record's relationships hold, in order."""
    relationships = _object(record.get("relationships")) or _object(record.get("relationship"))
    references: dict[tuple[str, str], None] = {}
    for relationship in relationships.values():
        for item in as_list(_object(relationship).get("data")):
            references[reference_of(item)] = None
    return references


def _entities_beside(item: Json) -> Iterator[Entity]:
    """What an asset or an event of ``included`` is about."""
    attributes = _object(item.get("attributes")) or item
    if as_text(item.get("type")) != "asset":
        yield from _named({name: value for name, value in attributes.items() if name != "source"}, "", _DEEPEST)
        return
    sort, name = as_text(attributes.get("type")).lower(), as_text(attributes.get("name"))
    yield from _named({key: attributes.get(key) for key in ("hostname", "ipAddress")}, "", _DEEPEST)
    if name and any(word in sort for word in ("user", "account", "identity")):
        yield from _entity(EntityKind.USER, name)
    elif name and any(word in sort for word in ("host", "endpoint", "device", "server", "workstation")):
        yield from _entity(EntityKind.HOST, name)
    elif name:
        yield from _by_shape(name)


def _artefact(value: object) -> Iterator[Entity]:
    """A bare text, or an object that names its type beside its value."""
    artefact = _object(value)
    kind = _kind_named(as_text(artefact.get("type") or artefact.get("artefactType")))
    text = as_text(artefact.get("value"))
    if kind and text:
        yield from _entity(kind, text)
    elif artefact:
        yield from _named(artefact, "", _DEEPEST)
    else:
        yield from _by_shape(as_text(value))


def _named(value: object, name: str, depth: int) -> Iterator[Entity]:
    """Entities by the names of the fields that hold them, wherever they lie."""
    if not depth:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            inherited = key in {"name", "value", "values"} and _kind_named(name) is not None
            yield from _named(item, name if inherited else key, depth - 1)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, name, depth - 1)
    elif isinstance(value, str) and (kind := _kind_named(name)):
        yield from _entity(kind, value)


@lru_cache(4096)
def _kind_named(name: str) -> EntityKind | None:
    """What a field of this name holds, however it is spelt: ``Src-IP``, ``src_ip``, ``srcIp``."""
    return _KIND_OF_NAME.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def _by_shape(text: str) -> Iterator[Entity]:
    value = text.strip()
    if len(value) > _LONGEST_VALUE:
        return
    if _is_address(value):
        yield Entity(EntityKind.IP, value)
        return
    kind = next((kind for pattern, kind in _SHAPES if pattern.fullmatch(value)), None)
    if kind:
        yield Entity(kind, value)


def _entity(kind: EntityKind, text: str) -> Iterator[Entity]:
    value = text.strip()
    if not value or (kind is EntityKind.IP and not _is_address(value)):
        return
    if (kind is EntityKind.HASH and not _HASH.fullmatch(value)) or (
        kind is EntityKind.DOMAIN and not _DOMAIN.fullmatch(value)
    ):
        return
    yield Entity(kind, value[:_LONGEST_VALUE])


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True
