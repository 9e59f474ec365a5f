"""The alert as every vendor's is seen here: small, frozen, shaped after an OCSF Detection Finding (class 2004).

The vendor's own record is not in here: it travels beside the alert, as the bytes it came in (``interfaces.Record``).
A field's description stands once, on the field, and feeds the tools, the query guide and the documentation.
``extra={"untrusted": True}`` marks text that whoever is on the monitored host, or writes to its people, can choose: directly, or
through a vendor's template that quotes it (docs/security.md says why for each field).
Nothing in an alert can refer back to it, so the collector of reference cycles need not look at it (``gc=False``): thousands are
alive while pages are read.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, TypeAlias, cast

from msgspec import Meta, Struct, json
from msgspec.inspect import Metadata, StructType, Type, VarTupleType, type_info
from msgspec.structs import force_setattr


class Severity(StrEnum):
    """How bad it is, as the vendor says. Ordered: ``rank`` is OCSF's severity_id."""

    UNKNOWN = "unknown"
    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """OCSF severity_id, 0 (unknown) to 5 (critical)."""
        return _SEVERITY_RANK[self]


_SEVERITY_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class Status(StrEnum):
    """Where the work on an alert stands. ``ocsf_id`` is OCSF's status_id."""

    UNKNOWN = "unknown"
    NEW = "new"
    IN_PROGRESS = "in_progress"
    SUPPRESSED = "suppressed"
    RESOLVED = "resolved"

    @property
    def ocsf_id(self) -> int:
        """OCSF status_id: 0 unknown, 1 new, 2 in progress, 3 suppressed, 4 resolved."""
        return _STATUS_ID[self]

    @property
    def closed(self) -> bool:
        """Nobody is expected to work on it any more."""
        return self in {Status.SUPPRESSED, Status.RESOLVED}


_STATUS_ID = {status: number for number, status in enumerate(Status)}


class Verdict(StrEnum):
    """What an analyst, or the vendor, concluded. ``ocsf_id`` is OCSF's verdict_id."""

    UNKNOWN = "unknown"
    FALSE_POSITIVE = "false_positive"
    TRUE_POSITIVE = "true_positive"
    DISREGARD = "disregard"
    SUSPICIOUS = "suspicious"
    BENIGN = "benign"
    TEST = "test"

    @property
    def ocsf_id(self) -> int:
        """OCSF verdict_id, 0 (unknown) to 6 (test)."""
        return _VERDICT_ID[self]


_VERDICT_ID = {verdict: number for number, verdict in enumerate(Verdict)}


class EntityKind(StrEnum):
    """What an entity is; each has an OCSF observable type."""

    HOST = "host"
    IP = "ip"
    MAC = "mac"
    USER = "user"
    EMAIL = "email"
    URL = "url"
    DOMAIN = "domain"
    FILE = "file"
    HASH = "hash"
    PROCESS = "process"
    COMMAND = "command"
    REGISTRY = "registry"
    RESOURCE = "resource"


class Entity(Struct, frozen=True, gc=False):
    """Something an alert is about, to pivot on. Equal kind and value mean the same thing across alerts and vendors."""

    kind: EntityKind
    value: Annotated[str, Meta(extra={"untrusted": True})]


class Attack(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One MITRE ATT&CK reference: a technique, a tactic, or both."""

    technique: Annotated[str | None, Meta(description="ATT&CK technique id, such as T1059 or T1059.001")] = None
    technique_name: str | None = None
    tactic: Annotated[str | None, Meta(description="ATT&CK tactic id, such as TA0002")] = None
    tactic_name: str | None = None


Percent: TypeAlias = Annotated[int, Meta(ge=0, le=100)]


class Alert(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One alert at one moment, normalised.

    Times are aware datetimes; a naive one is refused with ``ValueError``. ``id`` is derived and never passed.
    """

    source: Annotated[str, Meta(description="Name of the configured source it came from")]
    vendor_id: Annotated[str, Meta(description="The vendor's own id of the alert")]
    title: Annotated[str, Meta(description="Short name of what was detected", extra={"untrusted": True})]
    created: Annotated[datetime, Meta(description="When the vendor created the alert")]
    updated: Annotated[datetime, Meta(description="When the vendor last changed it")]
    id: Annotated[str, Meta(description="<source>/<vendor id>: unique across vendors and tenants")] = ""
    description: Annotated[str, Meta(description="What happened, in prose", extra={"untrusted": True})] = ""
    severity: Annotated[Severity, Meta(description="How bad it is")] = Severity.UNKNOWN
    status: Annotated[Status, Meta(description="Where the work on it stands")] = Status.UNKNOWN
    verdict: Annotated[Verdict, Meta(description="What an analyst or the vendor concluded")] = Verdict.UNKNOWN
    risk_score: Annotated[Percent | None, Meta(description="The vendor's risk score, 0 to 100")] = None
    confidence: Annotated[Percent | None, Meta(description="Confidence that it is real, 0 to 100")] = None
    product: Annotated[str, Meta(description="Product that detected it")] = ""
    vendor: Annotated[str, Meta(description="Vendor of that product")] = ""
    tenant: Annotated[str, Meta(description="Tenant or customer id at the vendor")] = ""
    category: Annotated[str, Meta(description="The vendor's own category")] = ""
    rule_id: Annotated[str, Meta(description="Id of the detection rule or analytic")] = ""
    rule_name: Annotated[str, Meta(description="Name of the detection rule or analytic")] = ""
    assignee: Annotated[str, Meta(description="Who works on it", extra={"untrusted": True})] = ""
    count: Annotated[int, Meta(description="How many events it aggregates", ge=0)] = 1
    first_seen: Annotated[datetime | None, Meta(description="First activity")] = None
    last_seen: Annotated[datetime | None, Meta(description="Latest activity")] = None
    attacks: Annotated[tuple[Attack, ...], Meta(description="MITRE ATT&CK references")] = ()
    entities: Annotated[tuple[Entity, ...], Meta(description="Hosts, users, addresses, files and so on")] = ()
    labels: Annotated[tuple[str, ...], Meta(description="The vendor's tags", extra={"untrusted": True})] = ()
    recommended_actions: Annotated[
        tuple[str, ...], Meta(description="What the vendor advises", extra={"untrusted": True})
    ] = ()
    url: Annotated[str, Meta(description="The alert in the vendor's console", extra={"untrusted": True})] = ""

    def __post_init__(self) -> None:
        force_setattr(self, "id", f"{self.source}/{self.vendor_id}")
        for moment in (self.created, self.updated, self.first_seen, self.last_seen):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{self.id}: the time {moment} has no time zone; give it one, UTC if unsure")

    def values_of(self, kind: EntityKind) -> tuple[str, ...]:
        """The values of all entities of one kind, in order."""
        return tuple(entity.value for entity in self.entities if entity.kind is kind)

    @property
    def techniques(self) -> tuple[str, ...]:
        """ATT&CK technique ids, in order, each once."""
        return tuple(dict.fromkeys(attack.technique for attack in self.attacks if attack.technique))

    @property
    def tactics(self) -> tuple[str, ...]:
        """ATT&CK tactic ids, in order, each once."""
        return tuple(dict.fromkeys(attack.tactic for attack in self.attacks if attack.tactic))


def _chosen_by_others(field_type: Type) -> bool:
    """Whether text in it, however deep, is marked as untrusted."""
    match field_type:
        case Metadata():
            return bool((field_type.extra or {}).get("untrusted")) or _chosen_by_others(field_type.type)
        case VarTupleType():
            return _chosen_by_others(field_type.item_type)
        case StructType():
            return any(_chosen_by_others(field.type) for field in field_type.fields)
        case _:
            return False


UNTRUSTED_FIELDS: Final = tuple(
    field.encode_name for field in cast("StructType", type_info(Alert)).fields if _chosen_by_others(field.type)
)
"""Names of the fields of ``Alert`` that hold text of others, in the order of the model."""


class ChangeKind(StrEnum):
    """What a change did to an alert."""

    CREATED = "created"
    UPDATED = "updated"
    CLOSED = "closed"
    REOPENED = "reopened"


class Change(Struct, frozen=True, kw_only=True):
    """One entry of the store's journal: an alert became known, or became different.

    ``seq`` grows by at least one with each change and is never used again; order by it is the order of saving.
    """

    seq: int
    kind: ChangeKind
    revision: Annotated[int, Meta(description="1 for the first version of the alert seen here, then 2, 3, …")]
    alert: Annotated[Alert, Meta(description="The alert after the change")]
    before: Annotated[Alert | None, Meta(description="The alert before it; None when it is new")]
    raw: Annotated[bytes, Meta(description="The vendor's record as the bytes it came in")]
    fetched: Annotated[datetime, Meta(description="When the vendor's answer arrived")]
    saved: Annotated[datetime, Meta(description="When it was stored")]


class KeptChange(Struct, frozen=True, kw_only=True, gc=False):
    """The same entry for those who pass it on: the alert as the bytes it is kept as."""

    seq: int
    kind: ChangeKind
    revision: int
    body: Annotated[bytes, Meta(description="The alert after the change, as JSON")]
    raw: bytes
    fetched: datetime
    saved: datetime

    @property
    def alert(self) -> Alert:
        """The alert after the change, decoded anew each time."""
        return _alert_of(self.body)


_alert_of = json.Decoder(Alert).decode


def change_kind(before: Alert | None, after: Alert) -> ChangeKind:
    """What turned ``before`` into ``after``."""
    if before is None:
        return ChangeKind.CREATED
    if after.status.closed and not before.status.closed:
        return ChangeKind.CLOSED
    if before.status.closed and not after.status.closed:
        return ChangeKind.REOPENED
    return ChangeKind.UPDATED
