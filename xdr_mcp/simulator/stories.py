"""Attack stories that an analyst would recognise, each told from its first trace to the closing of its alerts.

A story is a function that is handed a ``Story`` and tells it. Minutes are counted from the beginning, so the order of the
intrusion can be read off the left margin.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from xdr_mcp.simulator.company import DOMAIN, User
from xdr_mcp.simulator.script import AlertScript, Story

HOUR = 60


class Plot(NamedTuple):
    """A story and the local hours of the day between which it begins."""

    tell: Callable[[Story], None]
    earliest: float
    latest: float


def _ip(rng: Random, network: str = "203.0.113") -> str:
    return f"{network}.{rng.randrange(2, 254)}"


def _sha256(rng: Random) -> str:
    return f"{rng.getrandbits(256):064x}"


def _work(alerts: list[AlertScript], begin: float, status: str, text: str, rng: Random) -> None:
    """Analysts take the alerts one after another and close them together."""
    for number, alert in enumerate(alerts):
        alert.assign(begin + number * 2)
    end = begin + len(alerts) * 2 + rng.randrange(60, 240)
    for number, alert in enumerate(alerts):
        alert.close(end + number, status, text)


def phishing_to_ransomware(story: Story) -> None:
    """An invoice in the morning, hands on the keyboard after dinner, encryption before midnight."""
    rng, company = story.rng, story.company
    victim = rng.choice(company.people_of("Finance"))
    admin = rng.choice(company.people_of("IT"))
    laptop, files, backup, dc = victim.host, company.server("HM-FS"), company.server("HM-BKP"), company.server("HM-DC")
    document = f"Invoice_{rng.randrange(10_000, 99_999)}.docm"
    domain = story.indicator(
        30, "domain", f"cdn-{rng.randrange(100, 999)}.brightparcel.example", "Tidewrack", "ROPE GULL"
    )
    c2 = story.indicator(30, "ip", _ip(rng), "Tidewrack", "ROPE GULL")
    loader = story.indicator(30, "hash", _sha256(rng), "Tidewrack loader", "ROPE GULL")
    shell = "powershell.exe -nop -w hidden -enc SQBFAFgAIAAoAE4AZQB3AC0ATwBiAGoA"
    evening = 11 * HOUR
    chain = [
        story.alert(0, "MAIL-1102", f"{document} from billing@{domain} was delivered to {victim.email}.", user=victim,
                    fields={"sender": f"billing@{domain}", "file_name": document, "sha256": _sha256(rng)}),
        story.alert(18, "EDR-2040", f"WINWORD.EXE started wscript.exe after {victim.name} enabled macros in {document}.", user=victim, host=laptop,
                    fields={"process_name": "wscript.exe", "parent_process": "WINWORD.EXE", "command_line": rf"wscript.exe C:\Users\{victim.account}\AppData\Local\Temp\upd.vbs"}),
        story.alert(19, "EDR-2044", f"An encoded PowerShell command fetched a program from {domain}.", user=victim, host=laptop,
                    fields={"process_name": "powershell.exe", "command_line": shell, "url": f"https://{domain}/a/upd.bin", "dst_ip": c2, "sha256": loader}),
        story.alert(24, "NET-3105", f"{laptop.name} calls {domain} every 60 seconds.", user=victim, host=laptop,
                    fields={"src_ip": laptop.ip, "dst_ip": c2, "domain": domain, "dst_port": 443}).gather(90, 66).gather(300, 210, 88),
        story.alert(31, "EDR-2051", "The task OneDriveSync starts a program from the user's profile at every logon.", user=victim, host=laptop,
                    fields={"process_name": "schtasks.exe", "command_line": rf'schtasks /create /tn OneDriveSync /sc onlogon /tr "C:\Users\{victim.account}\AppData\Roaming\odsync.exe"', "file_path": rf"C:\Users\{victim.account}\AppData\Roaming\odsync.exe", "sha256": loader}),
    ]  # fmt: skip
    chain[1].assign(45).note(60, "Macro runs a script; waiting for the user to call back.")
    chain += [
        story.alert(evening, "EDR-2060", f"odsync.exe wrote into explorer.exe on {laptop.name}.", user=victim, host=laptop,
                    fields={"process_name": "odsync.exe", "target_process": "explorer.exe", "sha256": loader}),
        story.alert(evening + 12, "EDR-2071", "net.exe and nltest.exe listed domain admins and trusts.", user=victim, host=laptop,
                    fields={"process_name": "net.exe", "command_line": 'net group "Domain Admins" /domain'}).gather(evening + 14, 3),
        story.alert(evening + 27, "EDR-2083", "rundll32.exe with comsvcs.dll wrote the memory of lsass.exe to a file.", user=victim, host=laptop,
                    fields={"process_name": "rundll32.exe", "target_process": "lsass.exe", "command_line": r"rundll32.exe C:\windows\System32\comsvcs.dll, MiniDump 716 C:\Windows\Temp\d.dmp full"}),
        story.alert(evening + 44, "NET-3140", f"{admin.account} logged on to {files.name} from {laptop.name}.", user=admin, host=files,
                    fields={"src_ip": laptop.ip, "dst_ip": files.ip, "dst_port": 3389}),
        story.alert(evening + 52, "EDR-2090", f"PSEXESVC appeared on {files.name}.", user=admin, host=files,
                    fields={"process_name": "PSEXESVC.exe", "src_ip": laptop.ip, "sha256": _sha256(rng)}).gather(evening + 58, 2),
        story.alert(evening + 70, "EDR-2095", f"ntdsutil created installation media on {dc.name}.", user=admin, host=dc,
                    fields={"process_name": "ntdsutil.exe", "command_line": r'ntdsutil "ac i ntds" "ifm" "create full C:\Windows\Temp\x" q q'}),
        story.alert(evening + 88, "EDR-2101", f"Real-time protection was switched off on {files.name}.", user=admin, host=files,
                    fields={"process_name": "powershell.exe", "command_line": "Set-MpPreference -DisableRealtimeMonitoring $true"}),
        story.alert(evening + 104, "EDR-2111", f"Veeam and SQL services were stopped on {backup.name}.", user=admin, host=backup,
                    fields={"process_name": "net.exe", "command_line": "net stop VeeamBackupSvc /y"}).gather(evening + 105, 9),
        story.alert(evening + 107, "EDR-2110", f"vssadmin deleted all shadow copies on {files.name}.", user=admin, host=files,
                    fields={"process_name": "vssadmin.exe", "command_line": "vssadmin delete shadows /all /quiet"}),
    ]  # fmt: skip
    payload = _sha256(rng)
    encrypted = [
        story.alert(evening + 110 + number * 2, "EDR-2120", f"Files on {host.name} are being renamed to *.tidewrack; README_TIDEWRACK.txt was left.", user=admin, host=host,
                    fields={"process_name": "svchost64.exe", "file_path": r"C:\ProgramData\svchost64.exe", "sha256": payload}).gather(evening + 113 + number * 2, 4_000)
        for number, host in enumerate((files, company.server("HM-FS02"), company.server("HM-SQL"), company.server("HM-ERP"), backup, laptop))
    ]  # fmt: skip
    for alert in encrypted:
        alert.assign(evening + 118, "soc-night").note(evening + 125, "Host isolated.", contain=True)
    _work(chain[5:], evening + 130, "ACK_COMPLETE", f"Confirmed intrusion, handled in {story.case}.", rng)
    for alert in (*chain[:5], *encrypted):
        alert.close(evening + 26 * HOUR, "ACK_COMPLETE", f"Confirmed intrusion, handled in {story.case}.")


def identity_takeover(story: Story) -> None:
    """A spray finds one password, a tired thumb approves the prompt, a rule hides the replies."""
    rng, company = story.rng, story.company
    target = rng.choice(company.people_of("Sales"))
    spray = [story.indicator(5, "ip", _ip(rng, "198.51.100"), "Residential proxy", "PALE HERON") for _ in range(3)]
    proxy = spray[0]
    identity = {"src_ip": proxy, "user_agent": "python-requests/2.31", "application": "Office 365 Exchange Online"}
    first = story.alert(0, "IDP-4010", f"{rng.randrange(40, 70)} accounts were tried with a few passwords from {len(spray)} addresses.",
                        fields={"src_ip": spray[1], "src_ips": spray, "application": "Azure AD"})  # fmt: skip
    first.gather(12, 60).gather(25, 80, 70)
    chain = [
        story.alert(47, "IDP-4021", f"{target.email} logged on from Oslo and, 21 minutes later, from São Paulo.", user=target,
                    fields=identity | {"country": "BR", "previous_country": "NO"}),
        story.alert(61, "IDP-4030", f"{target.name} was prompted 14 times in 9 minutes and approved the last one.", user=target, host=target.host,
                    fields=identity | {"prompts": 14}).gather(66, 3, 92),
        story.alert(69, "IDP-4035", f"An authenticator was registered for {target.email} from {proxy}.", user=target, fields=identity | {"factor": "authenticator app"}),
        story.alert(84, "CASB-5012", "A rule named '.' moves messages with 'invoice' or 'payment' to RSS Feeds.", user=target,
                    fields=identity | {"rule_name": ".", "rule_action": "MoveToFolder RSS Feeds"}),
        story.alert(97, "CASB-5015", f"PERFECTDATA read 2,300 messages of {target.email}.", user=target,
                    fields=identity | {"application": "PERFECTDATA SOFTWARE"}).gather(110, 900),
        story.alert(150, "MAIL-1130", f"{target.email} sent 212 colleagues and customers a link to a shared document.", user=target,
                    fields={"sender": target.email, "url": story.indicator(150, "url", f"https://sharedoc-{rng.randrange(100, 999)}.example/view", "Credential phishing", "PALE HERON"), "recipients": 212}),
    ]  # fmt: skip
    chain[1].assign(80).note(95, f"Called {target.name}: approved it by mistake. Sessions revoked.", contain=True)
    _work([first, *chain[:1], *chain[2:]], 165, "ACK_COMPLETE", "Account taken over; password and factors reset.", rng)
    chain[1].close(400, "ACK_COMPLETE", "Account taken over; password and factors reset.")


def insider_exfiltration(story: Story) -> None:
    """Somebody who has handed in notice takes the drawings home, in the evening."""
    rng, company = story.rng, story.company
    leaver = rng.choice(company.people_of("Engineering"))
    laptop = leaver.host
    folder = rf"C:\Users\{leaver.account}\Documents\private"
    chain = [
        story.alert(0, "CASB-5040", f"{leaver.name} downloaded 1,480 documents of Hull Design, 40 times the usual.", user=leaver,
                    fields={"site": f"https://{DOMAIN}/sites/hull-design", "documents": 1480}).gather(35, 600).gather(70, 420, 67),
        story.alert(95, "DLP-6010", f"1,900 files marked confidential were copied to {folder}.", user=leaver, host=laptop,
                    fields={"process_name": "explorer.exe", "file_path": folder}),
        story.alert(128, "DLP-6014", "7z.exe made a password-protected archive of 6.1 GB.", user=leaver, host=laptop,
                    fields={"process_name": "7z.exe", "command_line": rf"7z.exe a -p*** -mhe {folder}\holiday.7z {folder}\*", "file_path": rf"{folder}\holiday.7z", "sha256": _sha256(rng)}),
        story.alert(151, "DLP-6020", "holiday.7z was copied to a USB device never seen before.", user=leaver, host=laptop,
                    fields={"process_name": "explorer.exe", "file_path": r"E:\holiday.7z", "device": f"USBSTOR\\{rng.getrandbits(40):010X}"}),
        story.alert(178, "DLP-6025", "6.1 GB were uploaded to a personal account at megadrive.example.", user=leaver, host=laptop,
                    fields={"process_name": "msedge.exe", "url": "https://megadrive.example/upload", "dst_ip": _ip(rng, "192.0.2")}).gather(190, 12, 90),
    ]  # fmt: skip
    chain[3].assign(185).note(200, "HR confirms notice was given last week; legal informed.", contain=True)
    _work([*chain[:3], chain[4]], 14 * HOUR, "ACK_COMPLETE", f"Handed to HR and legal under {story.case}.", rng)
    chain[3].close(20 * HOUR, "ACK_COMPLETE", f"Handed to HR and legal under {story.case}.")


def someone(story: Story) -> User:
    """Any employee, one in twelve of them a service desk favourite with more noise than others."""
    users = story.company.users
    return users[story.rng.randrange(6)] if story.rng.random() < 1 / 12 else story.rng.choice(users)


PLOTS: Final = {
    "ransomware": Plot(phishing_to_ransomware, 8.5, 11.5),
    "takeover": Plot(identity_takeover, 15, 20.5),
    "insider": Plot(insider_exfiltration, 18.5, 20.5),
}
