"""An alert as an Open Cybersecurity Schema Framework event, for those who speak that: class 2004, Detection Finding, of 1.6.

The tests hold it against the published schema. Entities become observables without a ``name``: that would point to an
attribute of the event, and vendors say which host or user, but rarely in which role.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict

VERSION = "1.6.0"

_CLASS_UID = 2004
_CREATE, _UPDATE, _CLOSE = 1, 2, 3
_ACTIVITIES = {_CREATE: "Create", _UPDATE: "Update", _CLOSE: "Close"}
_RULE = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SUB_TECHNIQUE = re.compile(r"([A-Za-z]+\d+)\.\d+")

_OBSERVABLES = {
    EntityKind.HOST: (1, "Hostname"),
    EntityKind.IP: (2, "IP Address"),
    EntityKind.MAC: (3, "MAC Address"),
    EntityKind.USER: (4, "User Name"),
    EntityKind.EMAIL: (5, "Email Address"),
    EntityKind.URL: (6, "URL String"),
    EntityKind.DOMAIN: (1, "Hostname"),
    EntityKind.FILE: (7, "File Name"),
    EntityKind.HASH: (8, "Hash"),
    EntityKind.PROCESS: (9, "Process Name"),
    EntityKind.COMMAND: (13, "Command Line"),
    EntityKind.REGISTRY: (46, "Registry Key Path"),
    EntityKind.RESOURCE: (10, "Resource UID"),
}
_FILE_PATH = (45, "File Path")


def to_ocsf(alert: Alert) -> dict[str, Any]:
    """The alert as an OCSF 1.6 Detection Finding with the ``incident`` profile; what is not known is left out.

    Times are milliseconds since 1970. The activity is Close for a closed alert, Update for one that the vendor changed after
    creating it, else Create.
    """
    activity = _activity(alert)
    return _known(
        activity_id=activity,
        activity_name=_ACTIVITIES[activity],
        category_uid=2,
        category_name="Findings",
        class_uid=_CLASS_UID,
        class_name="Detection Finding",
        type_uid=_CLASS_UID * 100 + activity,
        type_name=f"Detection Finding: {_ACTIVITIES[activity]}",
        time=_milliseconds(alert.created),
        start_time=_milliseconds(alert.first_seen),
        end_time=_milliseconds(alert.last_seen),
        severity_id=alert.severity.rank,
        severity=_caption(alert.severity),
        status_id=alert.status.ocsf_id,
        status=_caption(alert.status),
        verdict_id=alert.verdict.ocsf_id,
        verdict=_caption(alert.verdict),
        is_alert=not alert.status.closed,
        confidence_score=alert.confidence,
        risk_score=alert.risk_score,
        count=alert.count,
        message=alert.title,
        metadata=_metadata(alert),
        finding_info=_finding_info(alert),
        assignee=_known(name=alert.assignee),
        observables=[_observable(entity) for entity in alert.entities],
        remediation=_known(desc="\n".join(alert.recommended_actions)),
    )


def _activity(alert: Alert) -> int:
    if alert.status.closed:
        return _CLOSE
    return _UPDATE if alert.updated > alert.created else _CREATE


def _metadata(alert: Alert) -> dict[str, Any]:
    return _known(
        version=VERSION,
        profiles=["incident"],
        product=_known(name=alert.product or alert.vendor or alert.source or "unknown", vendor_name=alert.vendor),
        tenant_uid=alert.tenant,
        labels=list(alert.labels),
        modified_time=_milliseconds(alert.updated),
    )


def _finding_info(alert: Alert) -> dict[str, Any]:
    analytic = _known(uid=alert.rule_id, name=alert.rule_name)
    return {
        "uid": alert.vendor_id,
        **_known(
            uid_alt=alert.id,
            title=alert.title,
            desc=alert.description,
            types=[alert.category] if alert.category else [],
            created_time=_milliseconds(alert.created),
            modified_time=_milliseconds(alert.updated),
            first_seen_time=_milliseconds(alert.first_seen),
            last_seen_time=_milliseconds(alert.last_seen),
            analytic={"type_id": _RULE, "type": "Rule", **analytic} if analytic else None,
            attacks=[reference for attack in alert.attacks if (reference := _attack(attack))],
            src_url=alert.url,
        ),
    }


def _attack(attack: Attack) -> dict[str, Any]:
    """One reference; empty when it names neither a technique nor a tactic. A sub-technique's name is its own."""
    named = _known(uid=attack.technique, name=attack.technique_name)
    parent = _SUB_TECHNIQUE.fullmatch(attack.technique or "")
    return _known(
        technique={"uid": parent[1]} if parent else named,
        sub_technique=named if parent else None,
        tactic=_known(uid=attack.tactic, name=attack.tactic_name),
    )


def _observable(entity: Entity) -> dict[str, Any]:
    is_path = entity.kind is EntityKind.FILE and re.search(r"[\\/]", entity.value)
    type_id, caption = _FILE_PATH if is_path else _OBSERVABLES[entity.kind]
    return {"type_id": type_id, "type": caption, "value": entity.value}


def _caption(value: Severity | Status | Verdict) -> str:
    """OCSF's caption of a value: ``in_progress`` is ``In Progress``."""
    return value.replace("_", " ").title()


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)


def _known(**members: Any) -> dict[str, Any]:
    """The members that say something; 0 and False do."""
    return {name: value for name, value in members.items() if value is not None and value not in ("", [], {})}
