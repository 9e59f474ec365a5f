"""The fields a query can name: one table, from which the parser, the tool descriptions and the documentation are made.

Aliases are the names people bring along from other products; every field also answers to its plural.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from xdr_mcp.alert import Alert, EntityKind


class FieldKind(StrEnum):
    """What a field takes, and so which operators it knows."""

    KEYWORD = "keyword"
    """Whole values, ``*`` for any characters: ``:`` ``=`` ``!=``."""
    WORDS = "words"
    """Words and phrases in text: ``:`` ``=`` ``!=``."""
    CHOICE = "choice"
    """One of a few words: ``:`` ``=`` ``!=``."""
    RANK = "rank"
    """One of a few words that have an order: every operator."""
    NUMBER = "number"
    """A whole number: every operator."""
    TIME = "time"
    """A time: every operator."""
    BOUND = "bound"
    """A time as one end of an interval of ``created``: ``:`` and ``=``."""


class Field(Struct, frozen=True):
    """One name a query can use."""

    name: str
    kind: FieldKind
    description: str
    example: str
    """A condition that parses."""
    aliases: tuple[str, ...] = ()


def _described() -> dict[str, str]:
    """The descriptions that stand on the fields of ``Alert``."""
    described: dict[str, str] = {}
    for field in msgspec.inspect.type_info(Alert).fields:  # type: ignore[attr-defined]
        extra: Any = getattr(field.type, "extra_json_schema", None) or {}
        described[field.encode_name] = extra.get("description", "")
    return described


_ALERT = _described()
_K = FieldKind


def _field(name: str, kind: FieldKind, example: str, aliases: str = "", description: str = "") -> Field:
    return Field(name, kind, description or _ALERT[name], example, tuple(aliases.split()))


# fmt: off (a table is read in rows)
_TABLE = (
    _field(
        "severity",
        _K.RANK,
        "severity>=high",
        "sev level event.severity severity_id alert_severity",
        _ALERT["severity"] + ": unknown, informational, low, medium, high, critical",
    ),
    _field(
        "status",
        _K.CHOICE,
        "status:open",
        "state status_id alert_status event.status workflow_status",
        _ALERT["status"] + ": unknown, new, in_progress, suppressed, resolved; "
        "closed is suppressed or resolved, open is the rest",
    ),
    _field(
        "verdict",
        _K.CHOICE,
        "verdict:true_positive",
        "classification determination verdict_id",
        _ALERT["verdict"] + ": unknown, false_positive, true_positive, disregard, suspicious, benign, test",
    ),
    _field("since", _K.BOUND, "since:-24h", "", "Created at this time or later"),
    _field("until", _K.BOUND, "until:-1h", "", "Created at this time or earlier"),
    _field(
        "created", _K.TIME, "created:2026-01-01", "created_at time timestamp @timestamp date created_time event.created"
    ),
    _field(
        "updated", _K.TIME, "updated>-30m", "updated_at modified modified_at modified_time last_updated last_modified"
    ),
    _field("first_seen", _K.TIME, "first_seen>=2026-01-01T08:00Z", "firstseen first_activity event.start start_time"),
    _field("last_seen", _K.TIME, "last_seen<-2h", "lastseen last_activity event.end end_time"),
    _field(
        "host",
        _K.KEYWORD,
        "host:web*",
        "hostname host_name host.name host.hostname device device.name device.hostname computer computer_name machine "
        "endpoint agent.name",
        "Host name; also its first label",
    ),
    _field(
        "ip",
        _K.KEYWORD,
        "ip:10.0.0.0/8",
        "src_ip dst_ip source_ip dest_ip destination_ip source.ip destination.ip host.ip client.ip server.ip "
        "ip_address ipaddress address",
        "IP address, with * or as an IPv4 network",
    ),
    _field("mac", _K.KEYWORD, "mac:00:1a:2b*", "mac_address host.mac source.mac destination.mac", "Hardware address"),
    _field(
        "user",
        _K.KEYWORD,
        "user:alice",
        "username user_name user.name account account_name actor upn principal source.user.name",
        "User or account; also without its domain",
    ),
    _field(
        "email",
        _K.KEYWORD,
        "email:*@example.com",
        "mail sender recipient email_address user.email email.from.address email.to.address",
        "Mail address or mailbox",
    ),
    _field("url", _K.KEYWORD, "url:*/login.php*", "uri link url.full url.original", "URL that was seen"),
    _field(
        "domain",
        _K.KEYWORD,
        "domain:*.example.com",
        "dns dns_name domain_name url.domain dns.question.name destination.domain",
        "Domain name that was seen",
    ),
    _field(
        "file",
        _K.KEYWORD,
        "file:invoice*.exe",
        "filename file_name file.name file_path filepath path file.path",
        "File path; also its last part",
    ),
    _field(
        "hash",
        _K.KEYWORD,
        "hash:d41d8cd98f00b204e9800998ecf8427e",
        "md5 sha1 sha256 sha512 file_hash filehash file.hash.md5 file.hash.sha1 file.hash.sha256 process.hash.md5 "
        "process.hash.sha1 process.hash.sha256",
        "File hash of any algorithm",
    ),
    _field(
        "process",
        _K.KEYWORD,
        "process:powershell.exe",
        "process_name processname process.name process.executable proc image",
        "Process name or path; also the path's last part",
    ),
    _field(
        "command",
        _K.KEYWORD,
        'command:*"-enc "*',
        "cmd cmdline command_line commandline process.command_line process.args",
        "Command line",
    ),
    _field(
        "registry",
        _K.KEYWORD,
        r"registry:*\CurrentVersion\Run*",
        "registry_key regkey registry.key registry.path",
        "Registry key or value",
    ),
    _field(
        "resource",
        _K.KEYWORD,
        "resource:*prod*",
        "cloud_resource resource.id resource.name cloud.resource bucket container",
        "Cloud or other resource",
    ),
    _field(
        "entity",
        _K.KEYWORD,
        "entity:10.1.2.3",
        "observable ioc indicator artifact related",
        "Any of the entities above, from host to resource",
    ),
    _field(
        "technique",
        _K.KEYWORD,
        "technique:T1059",
        "mitre attack mitre_attack att&ck ttp technique_id technique_name threat.technique.id threat.technique.name "
        "threat.technique.subtechnique.id subtechnique",
        "ATT&CK technique, id or name; a technique also finds its sub-techniques",
    ),
    _field(
        "tactic",
        _K.KEYWORD,
        "tactic:TA0002",
        "tactic_id tactic_name threat.tactic.id threat.tactic.name",
        "ATT&CK tactic, id or name",
    ),
    _field(
        "rule",
        _K.KEYWORD,
        "rule:*brute*",
        "rule_id rule_name rule.id rule.name detection analytic signature",
        "Detection rule or analytic, id or name",
    ),
    _field("source", _K.KEYWORD, "source:xdr", "connector"),
    _field("product", _K.KEYWORD, "product:*defender*", "product_name observer.product"),
    _field("vendor", _K.KEYWORD, "vendor:microsoft", "vendor_name observer.vendor"),
    _field("tenant", _K.KEYWORD, "tenant:acme", "tenant_id customer customer_id org organization organization.id"),
    _field("category", _K.KEYWORD, "category:malware", "event.category type"),
    _field("assignee", _K.KEYWORD, "assignee:*", "assigned assigned_to owner analyst"),
    _field("label", _K.KEYWORD, "label:vip", "tag", _ALERT["labels"]),
    _field(
        "id",
        _K.KEYWORD,
        "id:4711",
        "alert_id alert.id event.id vendor_id uid _id",
        "Id of the alert, with its source or without",
    ),
    _field("risk_score", _K.NUMBER, "risk_score>=80", "risk score riskscore event.risk_score"),
    _field("confidence", _K.NUMBER, "confidence>=50", "confidence_score"),
    _field("count", _K.NUMBER, "count>100", "event_count hits"),
    _field("title", _K.WORDS, "title:ransom*", "name alert_name alert.name"),
    _field("description", _K.WORDS, 'description:"lateral movement"', "desc message"),
    _field(
        "text",
        _K.WORDS,
        "text:mimikatz",
        "any anything",
        "Title, description and everything else worth searching; the same as the word alone",
    ),
)
# fmt: on

FIELDS: Mapping[str, Field] = MappingProxyType({field.name: field for field in _TABLE})
"""Every field by its name, in the order people look for them."""

ENTITY_FIELDS = tuple(kind.value for kind in EntityKind)
"""The fields that name one kind of entity."""

_NAMES = {name: field for field in _TABLE for name in (field.name, *field.aliases)}


def field_named(name: str) -> Field | None:
    """The field that goes by this name, alias or plural, in any case; None when there is none."""
    wanted = name.casefold().replace("-", "_")
    return _NAMES.get(wanted) or _NAMES.get(wanted.removesuffix("s"))


def nearest_field(name: str) -> Field | None:
    """The field whose name or alias looks most like this; None when nothing comes near."""
    wanted = name.casefold().replace("-", "_")
    for part in (wanted, wanted.rpartition(".")[2]):
        if field := field_named(part):
            return field
        if close := difflib.get_close_matches(part, _NAMES, n=1, cutoff=0.75):
            return _NAMES[close[0]]
    return None


def guide() -> str:
    """How to write a query, for an assistant's tool description: at most 1,200 bytes."""
    names = {kind: " ".join(field.name for field in _TABLE if field.kind is kind) for kind in FieldKind}
    return f"""\
Example: severity>=high and host:web* and not status:resolved since:-24h "lateral movement"
and (implied), or, not (also -), parentheses. field:value, field!=value, field:(a or b), field:a,b, field:* (has one), \
field:"" (has none). * is the only wildcard; a quoted value is literal: command:*"-enc "*. Case and accents never count.
Text: {names[_K.KEYWORD]}. entity is any from host to resource; ip takes 10.0.0.0/8.
Words: bare words, "a phrase", ransom*, or in one field: {names[_K.WORDS]}.
severity (< <= > >=): informational low medium high critical. status: new in_progress suppressed resolved, open, closed. \
verdict: true_positive false_positive benign suspicious disregard test.
Numbers (< <= > >=): {names[_K.NUMBER]}.
Times (< <= > >=): {names[_K.TIME]}; since:T and until:T bound created. T is -30m, -24h, -7d, today, yesterday, \
2026-01-31 or 2026-01-31T08:00Z (UTC unless it says)."""
