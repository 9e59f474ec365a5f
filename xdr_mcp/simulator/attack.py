"""A small extract of MITRE ATT&CK Enterprise: the tactics, and the techniques that the stories use.

Ids, names and tactics are MITRE's (attack.mitre.org); a technique may serve several tactics, so a rule names its own.
"""

from __future__ import annotations

from typing import Any, Final

VERSIONS: Final = ("16.1", "15.1", "14.1")
"""Newest first; the extract is the same in each."""

TACTICS: Final = {
    "TA0043": "Reconnaissance",
    "TA0042": "Resource Development",
    "TA0001": "Initial Access",
    "TA0002": "Execution",
    "TA0003": "Persistence",
    "TA0004": "Privilege Escalation",
    "TA0005": "Defense Evasion",
    "TA0006": "Credential Access",
    "TA0007": "Discovery",
    "TA0008": "Lateral Movement",
    "TA0009": "Collection",
    "TA0011": "Command and Control",
    "TA0010": "Exfiltration",
    "TA0040": "Impact",
}
"""Tactic id to name, in the order of an intrusion."""

TECHNIQUES: Final = {
    "T1003.001": ("OS Credential Dumping: LSASS Memory", ("TA0006",)),
    "T1003.003": ("OS Credential Dumping: NTDS", ("TA0006",)),
    "T1018": ("Remote System Discovery", ("TA0007",)),
    "T1021.001": ("Remote Services: Remote Desktop Protocol", ("TA0008",)),
    "T1021.002": ("Remote Services: SMB/Windows Admin Shares", ("TA0008",)),
    "T1027": ("Obfuscated Files or Information", ("TA0005",)),
    "T1036.005": ("Masquerading: Match Legitimate Name or Location", ("TA0005",)),
    "T1046": ("Network Service Discovery", ("TA0007",)),
    "T1047": ("Windows Management Instrumentation", ("TA0002",)),
    "T1052.001": ("Exfiltration Over Physical Medium: Exfiltration over USB", ("TA0010",)),
    "T1053.005": ("Scheduled Task/Job: Scheduled Task", ("TA0002", "TA0003", "TA0004")),
    "T1055": ("Process Injection", ("TA0005", "TA0004")),
    "T1059.001": ("Command and Scripting Interpreter: PowerShell", ("TA0002",)),
    "T1059.005": ("Command and Scripting Interpreter: Visual Basic", ("TA0002",)),
    "T1069.002": ("Permission Groups Discovery: Domain Groups", ("TA0007",)),
    "T1071.001": ("Application Layer Protocol: Web Protocols", ("TA0011",)),
    "T1074.001": ("Data Staged: Local Data Staging", ("TA0009",)),
    "T1078.004": ("Valid Accounts: Cloud Accounts", ("TA0001", "TA0003", "TA0004", "TA0005")),
    "T1087.002": ("Account Discovery: Domain Account", ("TA0007",)),
    "T1098.005": ("Account Manipulation: Device Registration", ("TA0003", "TA0004")),
    "T1105": ("Ingress Tool Transfer", ("TA0011",)),
    "T1110.001": ("Brute Force: Password Guessing", ("TA0006",)),
    "T1110.003": ("Brute Force: Password Spraying", ("TA0006",)),
    "T1114.002": ("Email Collection: Remote Email Collection", ("TA0009",)),
    "T1176": ("Browser Extensions", ("TA0003",)),
    "T1189": ("Drive-by Compromise", ("TA0001",)),
    "T1190": ("Exploit Public-Facing Application", ("TA0001",)),
    "T1204.002": ("User Execution: Malicious File", ("TA0002",)),
    "T1213.002": ("Data from Information Repositories: Sharepoint", ("TA0009",)),
    "T1219": ("Remote Access Software", ("TA0011",)),
    "T1482": ("Domain Trust Discovery", ("TA0007",)),
    "T1486": ("Data Encrypted for Impact", ("TA0040",)),
    "T1489": ("Service Stop", ("TA0040",)),
    "T1490": ("Inhibit System Recovery", ("TA0040",)),
    "T1534": ("Internal Spearphishing", ("TA0008",)),
    "T1543.003": ("Create or Modify System Process: Windows Service", ("TA0003", "TA0004")),
    "T1547.001": ("Boot or Logon Autostart Execution: Registry Run Keys / Startup Folder", ("TA0003", "TA0004")),
    "T1560.001": ("Archive Collected Data: Archive via Utility", ("TA0009",)),
    "T1562.001": ("Impair Defenses: Disable or Modify Tools", ("TA0005",)),
    "T1564.008": ("Hide Artifacts: Email Hiding Rules", ("TA0005",)),
    "T1566.001": ("Phishing: Spearphishing Attachment", ("TA0001",)),
    "T1566.002": ("Phishing: Spearphishing Link", ("TA0001",)),
    "T1567.002": ("Exfiltration Over Web Service: Exfiltration to Cloud Storage", ("TA0010",)),
    "T1570": ("Lateral Tool Transfer", ("TA0008",)),
    "T1595.001": ("Active Scanning: Scanning IP Blocks", ("TA0043",)),
    "T1621": ("Multi-Factor Authentication Request Generation", ("TA0006",)),
}
"""Technique id to name and the tactics it serves."""

_PRIORITY = {tactic: number for number, tactic in enumerate(TACTICS, start=1)}


def attack(technique: str, tactic: str) -> dict[str, Any]:
    """An element of an alert's ``attacks``. Raises KeyError or ValueError on a pair that ATT&CK does not know."""
    name, tactics = TECHNIQUES[technique]
    if tactic not in tactics:
        raise ValueError(f"{technique} does not serve {tactic}")
    return {
        "id": f"{tactic}/{technique}",
        "name": name,
        "tactic": f"{tactic} - {TACTICS[tactic]}",
        "tacticPriority": _PRIORITY[tactic],
        "techniqueId": technique,
    }


def technique_resource(technique: str) -> dict[str, Any]:
    """A technique as ``/mitreAttack/techniques/{id}`` gives it. Raises KeyError when the extract lacks it."""
    name, tactics = TECHNIQUES[technique]
    attributes = {
        "isSubTechnique": "." in technique,
        "name": name,
        "tactics": [f"{tactic} - {TACTICS[tactic]}" for tactic in tactics],
        "techniqueId": technique,
        "url": f"https://attack.mitre.org/techniques/{technique.replace('.', '/')}/",
    }
    return {"id": technique, "type": "technique", "attributes": attributes}


def tactic_resource(tactic: str) -> dict[str, Any]:
    """A tactic with its techniques, as ``/mitreAttack/tactics/{id}`` gives it. Raises KeyError when there is none."""
    techniques = [
        {"id": technique, "name": name} for technique, (name, tactics) in TECHNIQUES.items() if tactic in tactics
    ]
    attributes = {"name": TACTICS[tactic], "tacticPriority": _PRIORITY[tactic], "techniques": techniques}
    return {"id": tactic, "type": "tactic", "attributes": attributes}


def matrix_resource(version: str) -> dict[str, Any]:
    """The whole matrix, as ``/mitreAttack`` gives it."""
    tactics = [{"id": tactic, **tactic_resource(tactic)["attributes"]} for tactic in TACTICS]
    return {"id": version, "type": "mitreAttack", "attributes": {"version": version, "tactics": tactics}}
