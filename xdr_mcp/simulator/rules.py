"""The detection rules of the simulated XDR: what each looks for, how bad it is, which ATT&CK technique it shows."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rule(NamedTuple):
    """A detection rule; severity and confidence run from 0 to 5, score from 0 to 100."""

    id: str
    name: str
    severity: int
    score: int
    confidence: int
    product: str
    attacks: tuple[tuple[str, str], ...] = ()
    """Pairs of technique and the tactic it serves here."""
    actions: tuple[str, ...] = ()


_ISOLATE = ("Isolate the host from the network", "Collect a memory image before any clean-up")
_RESET = ("Revoke all sessions of the account", "Reset the password and the registered factors")
_REVIEW = ("Confirm with the user's manager whether this was agreed",)
_EDR, _MAIL, _NET, _IDP, _CASB, _DLP, _AV = (
    "Endpoint Detection",
    "Email Security",
    "Network Detection",
    "Identity Analytics",
    "Cloud Access Security",
    "Data Loss Prevention",
    "Endpoint Security",
)

_ALL = (
    # from a phishing mail to ransomware
    Rule("MAIL-1102", "Suspicious attachment delivered: macro-enabled document", 2, 38, 3, _MAIL, (("T1566.001", "TA0001"),), ("Purge the message from all mailboxes",)),
    Rule("EDR-2040", "Office application started a script interpreter", 4, 78, 4, _EDR, (("T1204.002", "TA0002"), ("T1059.005", "TA0002")), _ISOLATE),
    Rule("EDR-2044", "PowerShell ran an encoded download command", 4, 82, 4, _EDR, (("T1059.001", "TA0002"), ("T1027", "TA0005"), ("T1105", "TA0011")), _ISOLATE),
    Rule("NET-3105", "Beaconing to a newly registered domain", 4, 80, 3, _NET, (("T1071.001", "TA0011"),), ("Block the domain at the proxy", *_ISOLATE)),
    Rule("EDR-2051", "Scheduled task runs from a user's profile", 3, 61, 3, _EDR, (("T1053.005", "TA0003"),), ("Export and delete the task",)),
    Rule("EDR-2060", "Code injected into a system process", 4, 84, 4, _EDR, (("T1055", "TA0005"),), _ISOLATE),
    Rule("EDR-2071", "Domain reconnaissance from a workstation", 3, 58, 3, _EDR, (("T1087.002", "TA0007"), ("T1069.002", "TA0007"), ("T1482", "TA0007"))),
    Rule("EDR-2083", "LSASS memory read by an unusual process", 5, 93, 5, _EDR, (("T1003.001", "TA0006"),), (*_ISOLATE, "Reset every credential that was used on the host")),
    Rule("NET-3140", "Remote desktop logon to a server from a workstation never seen there", 3, 63, 3, _NET, (("T1021.001", "TA0008"),)),
    Rule("EDR-2090", "Service installed remotely through an administrative share", 4, 86, 4, _EDR, (("T1021.002", "TA0008"), ("T1543.003", "TA0003"), ("T1570", "TA0008")), _ISOLATE),
    Rule("EDR-2095", "Copy of the directory database (NTDS.dit) created", 5, 97, 5, _EDR, (("T1003.003", "TA0006"),), ("Treat every domain credential as known to the attacker", "Rotate krbtgt twice")),
    Rule("EDR-2101", "Endpoint protection tampered with", 4, 88, 4, _EDR, (("T1562.001", "TA0005"),), _ISOLATE),
    Rule("EDR-2110", "Volume shadow copies deleted", 5, 96, 5, _EDR, (("T1490", "TA0040"),), ("Disconnect the backup server", *_ISOLATE)),
    Rule("EDR-2111", "Database and backup services stopped in bulk", 4, 85, 4, _EDR, (("T1489", "TA0040"),)),
    Rule("EDR-2120", "Ransomware behaviour: mass encryption of files", 5, 100, 5, _EDR, (("T1486", "TA0040"),), ("Isolate every affected host now", "Start the ransomware playbook", "Protect the backups")),
    # identity takeover
    Rule("IDP-4010", "Password spray against many accounts", 3, 64, 4, _IDP, (("T1110.003", "TA0006"),), ("Block the addresses", "Look for a success among the failures")),
    Rule("IDP-4021", "Impossible travel", 3, 66, 3, _IDP, (("T1078.004", "TA0001"),), _RESET),
    Rule("IDP-4030", "Repeated second-factor prompts, then one approved", 4, 87, 4, _IDP, (("T1621", "TA0006"),), _RESET),
    Rule("IDP-4035", "New second factor registered from an unfamiliar address", 4, 81, 4, _IDP, (("T1098.005", "TA0003"),), _RESET),
    Rule("CASB-5012", "Inbox rule hides messages about payments", 4, 89, 4, _CASB, (("T1564.008", "TA0005"),), ("Delete the rule", *_RESET)),
    Rule("CASB-5015", "Mailbox read by an unusual application", 4, 77, 3, _CASB, (("T1114.002", "TA0009"),), _RESET),
    Rule("MAIL-1130", "Internal phishing: a colleague's mailbox sends links in bulk", 4, 83, 4, _MAIL, (("T1534", "TA0008"), ("T1566.002", "TA0001")), ("Purge the messages", *_RESET)),
    # an insider
    Rule("CASB-5040", "Unusual volume of downloads from the document library", 3, 59, 3, _CASB, (("T1213.002", "TA0009"),), _REVIEW),
    Rule("DLP-6010", "Many confidential files copied to a local folder", 3, 62, 3, _DLP, (("T1074.001", "TA0009"),), _REVIEW),
    Rule("DLP-6014", "Password-protected archive of confidential files", 4, 74, 4, _DLP, (("T1560.001", "TA0009"),), _REVIEW),
    Rule("DLP-6020", "Confidential files copied to a USB device", 4, 80, 4, _DLP, (("T1052.001", "TA0010"),), ("Involve HR and legal before contacting the user",)),
    Rule("DLP-6025", "Upload to personal cloud storage", 4, 82, 4, _DLP, (("T1567.002", "TA0010"),), ("Involve HR and legal before contacting the user",)),
    # every day's noise
    Rule("AV-0101", "Potentially unwanted program removed", 1, 12, 3, _AV, (), ("None: removed automatically",)),
    Rule("AV-0107", "Adware browser extension blocked", 1, 15, 3, _AV, (("T1176", "TA0003"),)),
    Rule("AV-0110", "EICAR test file detected", 1, 5, 5, _AV),
    Rule("AV-0120", "Autostart entry of an unknown program", 2, 31, 2, _AV, (("T1547.001", "TA0003"),)),
    Rule("NET-3010", "Port scan from the Internet", 1, 18, 4, _NET, (("T1595.001", "TA0043"),)),
    Rule("NET-3012", "Port scan inside the network", 2, 34, 2, _NET, (("T1046", "TA0007"),)),
    Rule("NET-3020", "Exploit attempt against a web server blocked", 2, 36, 3, _NET, (("T1190", "TA0001"),)),
    Rule("IDP-4001", "Failed logons above the usual number", 1, 20, 2, _IDP, (("T1110.001", "TA0006"),)),
    Rule("EDR-2005", "Remote administration tool started", 2, 33, 2, _EDR, (("T1219", "TA0011"),)),
    Rule("EDR-2008", "Administrator used WMI on another machine", 1, 22, 2, _EDR, (("T1047", "TA0002"),)),
    Rule("MAIL-1101", "Message reported by a user as phishing", 1, 25, 1, _MAIL, (("T1566.002", "TA0001"),)),
    Rule("WEB-7003", "Drive-by download blocked at the proxy", 2, 29, 3, _NET, (("T1189", "TA0001"),)),
    Rule("AV-0150", "Outbreak: the same file blocked on many hosts", 3, 57, 4, _AV, (("T1570", "TA0008"),)),
)  # fmt: skip

RULES: Final = {rule.id: rule for rule in _ALL}
