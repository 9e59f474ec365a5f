"""Microsoft Defender XDR: alerts of Microsoft Graph, ``GET /v1.0/security/alerts_v2``.

The surprising thing is the paging. Graph documents no ``$orderby`` here, only that the newest come first, and its next links
carry ``$skiptoken`` or plain ``$skip``. A ``$skip`` counts rows, so it steps over one for every row that leaves the
result while it is being read. An alert leaves a closed interval of ``lastUpdateDateTime`` by being updated, and any by being
deleted. Hence:

* A live window has no upper bound. Updates then only move alerts within the result or into it, never out of it. In the
  default order (newest first, by creation or by update) what moves goes up, and rows below it repeat. Asking for ascending
  order by update time, as others do, would move them down past the reader: rows would be lost.
* A window that Graph pages by ``$skip`` is read until a reading sees again all that the one before it saw: the same versions,
  or in a live window the same alerts. That proves the one before: to step over a row it must have lost one that it had
  read, which the next reading can then no longer see.

Names of fields and evidence types: Microsoft's reference of ``microsoft.graph.security`` v1.0.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from xdr_mcp.alert import Alert, Attack, Entity, EntityKind, Severity, Status, Verdict
from xdr_mcp.errors import AuthenticationError, BadResponse, TooLarge, Unavailable, WindowTooLarge
from xdr_mcp.http_client import Answer, HttpClient, OAuth2ClientCredentials
from xdr_mcp.interfaces import Limits, Memory, Page, Window, utc_now
from xdr_mcp.sources.microsoft_triage import MicrosoftTriage
from xdr_mcp.vendor_json import as_list, as_text, parse_time, split, to_page

PATH = "security/alerts_v2"
NEXT_LINK = "@odata.nextLink"
PERMISSION = "SecurityAlert.Read.All"

MOST_READINGS = 6
"""Readings of one window before its alerts are said to change too fast. Each is a few seconds long."""
MOST_PAGES_IN_VAIN = 50
"""Pages in a row with nothing new on them after which the next links are taken to lead nowhere."""


class Cloud(NamedTuple):
    """Where a national cloud's two services are."""

    graph: str
    login: str


CLOUDS = {
    "public": Cloud("https://graph.microsoft.com", "https://login.microsoftonline.com"),
    "usgov": Cloud("https://graph.microsoft.us", "https://login.microsoftonline.us"),
    "dod": Cloud("https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
}


class MicrosoftOptions(BaseModel):
    """An app registration in Microsoft Entra with the application permission ``SecurityAlert.Read.All``."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    tenant_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", description="Directory (tenant) id or domain")
    client_id: str = Field(min_length=1, description="Application (client) id of the app registration")
    client_secret: SecretStr = Field(min_length=1, description="A client secret of the app registration (its value)")
    cloud: Literal["public", "usgov", "dod"] = Field("public", description="Microsoft cloud the tenant lives in")
    base_url: str | None = Field(None, description="Graph's address, when it is not the cloud's own")
    login_url: str | None = Field(None, description="The sign-in service's address, when it is not the cloud's own")
    page_size: int = Field(100, ge=1, le=999, description="Alerts asked for in one request")


class MicrosoftSource:
    """One tenant of Microsoft Defender XDR, read with client credentials."""

    Options: ClassVar[type[BaseModel]] = MicrosoftOptions

    def __init__(self, name: str, client: HttpClient, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.idle_reason = ""
        self.triage = MicrosoftTriage(client, partial(normalise, name))
        """Its ability to be written to (``interfaces.Triage``)."""
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str, options: MicrosoftOptions, memory: Memory) -> AsyncIterator[MicrosoftSource]:
        """Connect lazily: entering makes no request.

        Raises:
            SettingsError: an address is no plain http(s) URL.
        """
        cloud = CLOUDS[options.cloud]
        graph = _without_version(options.base_url or cloud.graph)
        auth = OAuth2ClientCredentials(
            f"{(options.login_url or cloud.login).rstrip('/')}/{options.tenant_id}/oauth2/v2.0/token",
            options.client_id,
            options.client_secret.get_secret_value(),
            scope=f"{graph}/.default",
        )
        limits = Limits(page_size=options.page_size, per_minute=150, hold_back=timedelta(seconds=30))
        # Graph hides values that are newer than v1.0 behind "unknownFutureValue" unless it is asked not to.
        headers = {"Prefer": "include-unknown-enum-members"}
        async with HttpClient(f"{graph}/v1.0", limits=limits, auth=auth, headers=headers, memory=memory) as client:
            yield cls(name, client, limits)

    async def pages(self, window: Window, *, live: bool) -> AsyncGenerator[Page, None]:
        """Every alert whose ``lastUpdateDateTime`` lies in ``window``; see the module for why it may be read twice."""
        before: set[Hashable] | None = None
        for _ in range(MOST_READINGS):
            seen: set[Hashable] = set()
            counts_rows, in_vain = False, 0
            async for page, next_link in self._read(window, live=live):
                known = len(seen)
                seen.update((record.alert.vendor_id, live or record.alert.updated) for record in page.records)
                seen.update(hash(quarantined.raw) for quarantined in page.quarantined)
                counts_rows = counts_rows or "skip=" in next_link.lower()
                in_vain = 0 if len(seen) > known else in_vain + 1
                if in_vain > MOST_PAGES_IN_VAIN:
                    raise BadResponse(self._circles)
                yield page
            if not counts_rows or (before is not None and before <= seen):
                return
            before = seen
        raise Unavailable(
            f"{self.name}: alerts of {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} kept changing through "
            f"{MOST_READINGS} readings; they are read again later"
        )

    async def check(self) -> str:
        """Ask for the newest alert."""
        page, _ = await self._get(PATH, {"$top": 1})
        newest = page.records[0].alert.created if page.records else None
        return (
            f"Microsoft Graph answers; newest alert: {newest:%Y-%m-%d %H:%M} UTC"
            if newest
            else ("Microsoft Graph answers; it holds no alerts")
        )

    def vendor_now(self) -> datetime:
        """Graph's clock, by its last answer."""
        return self._client.vendor_now()

    @property
    def _circles(self) -> str:
        return f"{self.name}: Graph's next links go round in circles; the window is read again later"

    async def _read(self, window: Window, *, live: bool) -> AsyncGenerator[tuple[Page, str], None]:
        """One walk through the pages, each with the link to the next (empty after the last)."""
        page, next_link = await self._get(
            PATH, {"$filter": time_filter(window, live=live), "$top": self.limits.page_size}
        )
        followed: set[str] = set()
        while True:
            yield page, next_link
            if not next_link:
                return
            if next_link in followed:
                raise BadResponse(self._circles)
            followed.add(next_link)
            page, next_link = await self._get(next_link)

    def _page(self, body: bytes, fetched: datetime) -> tuple[Page, str]:
        envelope = split(body, "value")
        next_link = envelope.members.get(NEXT_LINK) or ""
        if not isinstance(next_link, str):
            raise BadResponse(f"{self.name}: {NEXT_LINK} is no text, so the rest of the pages cannot be found")
        return to_page(envelope, lambda record: normalise(self.name, record), fetched), next_link

    async def _get(self, url: str, params: dict[str, str | int] | None = None) -> tuple[Page, str]:
        async def read(answer: Answer) -> tuple[Page, str]:
            return await anyio.to_thread.run_sync(self._page, answer.body, utc_now())

        try:
            return await self._client.read(read, "GET", url, params=params)
        except TooLarge as error:
            raise WindowTooLarge(f"{error}; a shorter interval makes smaller pages") from error
        except AuthenticationError as error:
            if error.status != 403:  # noqa: PLR2004 (Forbidden: the token is good, the permission is missing)
                raise
            remedy = f"grant the app registration the application permission {PERMISSION}, with admin consent"
            raise AuthenticationError(f"{error}; {remedy}", status=error.status) from error


def time_filter(window: Window, *, live: bool) -> str:
    """The window as OData. Graph keeps seven fractional digits and we six, so the upper bound takes in the seventh."""
    since = f"lastUpdateDateTime ge {_seven_digits(window.start)}0Z"
    return since if live else f"{since} and lastUpdateDateTime le {_seven_digits(window.end)}9Z"


def _seven_digits(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def _without_version(address: str) -> str:
    return address.strip().rstrip("/").removesuffix("/v1.0")


# ---------------------------------------------------------------- an alert

_SEVERITIES = {severity.value: severity for severity in Severity}

_STATUSES = {"new": Status.NEW, "inprogress": Status.IN_PROGRESS, "resolved": Status.RESOLVED}

_CLASSIFICATIONS = {"falsepositive": Verdict.FALSE_POSITIVE, "truepositive": Verdict.TRUE_POSITIVE}

# Read only where the classification does not say; both the names of today and those of before 2023.
_DETERMINATIONS = {
    "apt": Verdict.TRUE_POSITIVE,
    "malware": Verdict.TRUE_POSITIVE,
    "unwantedsoftware": Verdict.TRUE_POSITIVE,
    "multistagedattack": Verdict.TRUE_POSITIVE,
    "compromisedaccount": Verdict.TRUE_POSITIVE,
    "compromiseduser": Verdict.TRUE_POSITIVE,
    "phishing": Verdict.TRUE_POSITIVE,
    "malicioususeractivity": Verdict.TRUE_POSITIVE,
    "securitypersonnel": Verdict.TEST,
    "securitytesting": Verdict.TEST,
    "notmalicious": Verdict.FALSE_POSITIVE,
    "clean": Verdict.FALSE_POSITIVE,
    "confirmedactivity": Verdict.BENIGN,
    "confirmeduseractivity": Verdict.BENIGN,
    "lineofbusinessapplication": Verdict.BENIGN,
}

_PRODUCTS = {
    "microsoftdefenderforendpoint": "Microsoft Defender for Endpoint",
    "microsoftdefenderforidentity": "Microsoft Defender for Identity",
    "microsoftdefenderforcloudapps": "Microsoft Defender for Cloud Apps",
    "microsoftdefenderforoffice365": "Microsoft Defender for Office 365",
    "microsoftdefenderforcloud": "Microsoft Defender for Cloud",
    "microsoft365defender": "Microsoft Defender XDR",
    "azureadidentityprotection": "Microsoft Entra ID Protection",
    "microsoftappgovernance": "Microsoft App Governance",
    "datalossprevention": "Microsoft Purview Data Loss Prevention",
    "microsoftinsiderriskmanagement": "Microsoft Purview Insider Risk Management",
    "microsoftsentinel": "Microsoft Sentinel",
    "microsoftthreatintelligence": "Microsoft Threat Intelligence",
    "microsoftsecurityforai": "Microsoft Security for AI",
}

# ATT&CK's enterprise tactics under the names that Graph's ``category`` gives them, without blanks.
_TACTICS = {
    "reconnaissance": ("TA0043", "Reconnaissance"),
    "resourcedevelopment": ("TA0042", "Resource Development"),
    "initialaccess": ("TA0001", "Initial Access"),
    "execution": ("TA0002", "Execution"),
    "persistence": ("TA0003", "Persistence"),
    "privilegeescalation": ("TA0004", "Privilege Escalation"),
    "defenseevasion": ("TA0005", "Defense Evasion"),
    "credentialaccess": ("TA0006", "Credential Access"),
    "discovery": ("TA0007", "Discovery"),
    "lateralmovement": ("TA0008", "Lateral Movement"),
    "collection": ("TA0009", "Collection"),
    "commandandcontrol": ("TA0011", "Command and Control"),
    "exfiltration": ("TA0010", "Exfiltration"),
    "impact": ("TA0040", "Impact"),
}

_TECHNIQUE = re.compile(r"T\d{4}(?:\.\d{3})?", re.IGNORECASE)
_BULLET = re.compile(r"^(?:[\s\ufffd\u2022\u00b7\u2013\u2014*-]+|\d{1,2}[.)]\s+)+")


def normalise(source: str, record: dict[str, Any]) -> Alert:
    """One ``microsoft.graph.security.alert`` as an Alert of ``source``.

    Raises:
        ValueError: it has no id, or no time at all.
    """
    vendor_id = record.get("id")
    if not isinstance(vendor_id, str) or not vendor_id:
        raise ValueError("it has no id")
    created, updated = parse_time(record.get("createdDateTime")), parse_time(record.get("lastUpdateDateTime"))
    moment = updated or created
    if moment is None:
        raise ValueError("it has neither lastUpdateDateTime nor createdDateTime")
    category = as_text(record.get("category") or record.get("categories"))
    service = as_text(record.get("serviceSource"))
    return Alert(
        source=source,
        vendor_id=vendor_id,
        title=as_text(record.get("title")) or as_text(record.get("threatDisplayName")) or category or vendor_id,
        created=created or moment,
        updated=moment,
        description=as_text(record.get("description")),
        severity=_severity(record.get("severity")),
        status=_STATUSES.get(_key(record.get("status")), Status.UNKNOWN),
        verdict=_verdict(record),
        product=as_text(record.get("productName")) or _PRODUCTS.get(_key(service), service),
        vendor="Microsoft",
        tenant=as_text(record.get("tenantId")),
        category=category,
        rule_id=as_text(record.get("detectorId")) or as_text(record.get("alertPolicyId")),
        assignee=as_text(record.get("assignedTo")),
        first_seen=parse_time(record.get("firstActivityDateTime")),
        last_seen=parse_time(record.get("lastActivityDateTime")),
        attacks=_attacks(record),
        entities=tuple(dict.fromkeys(_entities(record))),
        labels=tuple(dict.fromkeys(_labels(record))),
        recommended_actions=_recommended_actions(record.get("recommendedActions")),
        url=as_text(record.get("alertWebUrl")),
    )


def _key(value: object) -> str:
    return as_text(value).replace(" ", "").lower()


def _severity(value: object) -> Severity:
    return _SEVERITIES.get(_key(value), Severity.UNKNOWN)


def _verdict(record: dict[str, Any]) -> Verdict:
    classification, determination = _key(record.get("classification")), _key(record.get("determination"))
    concluded = _DETERMINATIONS.get(determination, Verdict.UNKNOWN)
    if classification == "informationalexpectedactivity":
        return Verdict.TEST if concluded is Verdict.TEST else Verdict.BENIGN
    return _CLASSIFICATIONS.get(classification, concluded)


def _attacks(record: dict[str, Any]) -> tuple[Attack, ...]:
    """Techniques as told, and the tactic that the category names: Graph does not say which belongs to which."""
    techniques = [
        Attack(technique=technique.upper())
        for text in as_list(record.get("mitreTechniques"))
        for technique in _TECHNIQUE.findall(as_text(text))
    ]
    categories = [*as_list(record.get("category")), *as_list(record.get("categories"))]
    tactics = [_TACTICS[_key(category)] for category in categories if _key(category) in _TACTICS]
    return tuple(dict.fromkeys([*techniques, *(Attack(tactic=number, tactic_name=name) for number, name in tactics)]))


def _labels(record: dict[str, Any]) -> Iterator[str]:
    """Graph's tags, the threat and the actor by name, and the incident that the alert belongs to."""
    yield from filter(None, map(as_text, as_list(record.get("systemTags"))))
    yield from filter(
        None, (as_text(record.get(f"{what}Name")) for what in ("threatFamily", "threatDisplay", "actorDisplay"))
    )
    if incident := as_text(record.get("incidentId")):
        yield f"incident:{incident}"


def _recommended_actions(value: object) -> tuple[str, ...]:
    lines = (_BULLET.sub("", line).strip() for line in as_text(value).splitlines())
    return tuple(line for line in lines if line)


# ---------------------------------------------------------------- its evidence

_HOST, _IP, _URL, _EMAIL = EntityKind.HOST, EntityKind.IP, EntityKind.URL, EntityKind.EMAIL
_HASH, _RESOURCE = EntityKind.HASH, EntityKind.RESOURCE

# Fields whose name says what they hold wherever they stand, so that an evidence type of tomorrow is read too.
_BY_NAME = {
    "deviceDnsName": _HOST,
    "deviceName": _HOST,
    "hostName": _HOST,
    "ipAddress": _IP,
    "ipInterfaces": _IP,
    "lastExternalIpAddress": _IP,
    "lastIpAddress": _IP,
    "senderIP": _IP,
    "senderIp": _IP,
    "macAddress": EntityKind.MAC,
    "upn": EntityKind.USER,
    "email": _EMAIL,
    "emailAddress": _EMAIL,
    "mailboxPrimaryAddress": _EMAIL,
    "primaryAddress": _EMAIL,
    "recipient": _EMAIL,
    "recipientEmailAddress": _EMAIL,
    "recipients": _EMAIL,
    "sender": _EMAIL,
    "senderFromAddress": _EMAIL,
    "submitter": _EMAIL,
    "suspiciousRecipients": _EMAIL,
    "url": _URL,
    "urls": _URL,
    "webUrl": _URL,
    "activeDirectoryDomainName": EntityKind.DOMAIN,
    "md5": _HASH,
    "sha1": _HASH,
    "sha256": _HASH,
    "sha256Ac": _HASH,
    "processCommandLine": EntityKind.COMMAND,
    "agentName": _RESOURCE,
    "amazonResourceId": _RESOURCE,
    "containerId": _RESOURCE,
    "fullResourceName": _RESOURCE,
    "imageId": _RESOURCE,
    "internetMessageId": _RESOURCE,
    "networkMessageId": _RESOURCE,
    "networkMessageIds": _RESOURCE,
    "repoId": _RESOURCE,
    "resourceId": _RESOURCE,
    "resourceName": _RESOURCE,
    "servicePrincipalName": _RESOURCE,
}

# Fields whose meaning hangs on the type they stand in: an account's ``domainName`` is no DNS domain.
_BY_TYPE = {
    ("dns", "domainName"): EntityKind.DOMAIN,
    ("emailSender", "domainName"): EntityKind.DOMAIN,
    ("fileHash", "value"): _HASH,
    ("cloudApplication", "displayName"): _RESOURCE,
    ("cloudApplication", "instanceName"): _RESOURCE,
    ("oauthApplication", "displayName"): _RESOURCE,
    ("oauthApplication", "appId"): _RESOURCE,
    ("servicePrincipal", "appId"): _RESOURCE,
    ("securityGroup", "displayName"): _RESOURCE,
    ("containerRegistry", "registry"): _RESOURCE,
    ("gitHubOrganization", "login"): _RESOURCE,
    ("gitHubUser", "login"): EntityKind.USER,
    ("named", "name"): _RESOURCE,
}

# What stands under a field when it does not say so itself: Graph leaves the type out where the schema fixes it.
_TYPE_OF_FIELD = {
    "userAccount": "account",
    "loggedOnUsers": "account",
    "fileDetails": "file details",
    "imageFile": "image",
    "parentProcessImageFile": "image",
    "p1Sender": "emailSender",
    "p2Sender": "emailSender",
    "fileHashes": "fileHash",
    "registry": "containerRegistry",
    "blobContainer": "named",
    "cluster": "named",
    "containers": "container",
    "controller": "named",
    "ephemeralContainers": "container",
    "initContainers": "container",
    "namespace": "named",
    "pod": "named",
    "serviceAccount": "named",
}


def _entities(record: dict[str, Any]) -> Iterator[Entity]:
    """The entities of all evidence, in the order told. Some relays move evidence out of its list, under its type's name."""
    evidence = [
        *as_list(record.get("evidence")),
        *(value for name, value in record.items() if name.endswith("Evidence")),
    ]
    for item in evidence:
        if isinstance(item, dict):
            yield from _entities_in(item, _type_of(item))


def _type_of(node: dict[str, Any]) -> str:
    """``#microsoft.graph.security.deviceEvidence`` is ``device``. Some relays spell the key's ``@`` out."""
    told = node.get("@odata.type") or node.get("at_sign_odata_type")
    name = told.rpartition(".")[2].removesuffix("Evidence") if isinstance(told, str) else ""
    return "named" if name.startswith(("kubernetes", "blob")) else name


def _entities_in(node: dict[str, Any], kind: str) -> Iterator[Entity]:
    if reader := _READERS.get(kind):
        yield from reader(node)
    for field, value in node.items():
        meaning = _BY_TYPE.get((kind, field)) or _BY_NAME.get(field)
        for item in as_list(value):
            if isinstance(item, dict):
                yield from _entities_in(item, _TYPE_OF_FIELD.get(field) or _type_of(item))
            elif meaning and (text := _text(item)):
                yield Entity(meaning, text)


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _first_text(node: dict[str, Any], *fields: str) -> str:
    return next(filter(None, (_text(node.get(field)) for field in fields)), "")


def _account(node: dict[str, Any]) -> Iterator[Entity]:
    r"""The principal name and ``DOMAIN\name``; only where there is neither, what else identifies the account.

    The short forms of both, which people search by, are the query language's to make.
    """
    name, domain, principal = (_text(node.get(field)) for field in ("accountName", "domainName", "userPrincipalName"))
    local, _, realm = principal.lower().partition("@")
    if principal and name.lower() == local and domain.lower() in {"", realm}:
        name = ""
    elif name and domain:
        name = f"{domain}\\{name}"
    names = [principal, name]
    if not any(names):
        names = [_first_text(node, "displayName", "userSid", "azureAdUserId")]
    yield from (Entity(EntityKind.USER, name) for name in names if name)


def _file(node: dict[str, Any]) -> Iterator[Entity]:
    if path := _path(_text(node.get("filePath")), _text(node.get("fileName"))):
        yield Entity(EntityKind.FILE, path)


def _path(folder: str, name: str) -> str:
    """``filePath`` is a folder by the reference, and a whole path in some products' alerts."""
    if not folder:
        return name
    slash = "\\" if "\\" in folder or folder[1:2] == ":" else "/"
    if not name or folder.lower().endswith(f"{slash}{name}".lower()):
        return folder
    return f"{folder.rstrip(slash)}{slash}{name}"


def _image(node: dict[str, Any]) -> Iterator[Entity]:
    """A process is told by its image: the name makes the process, the path the file."""
    name, folder = _text(node.get("fileName")), _text(node.get("filePath"))
    if name:
        yield Entity(EntityKind.PROCESS, name)
    if folder:
        yield Entity(EntityKind.FILE, _path(folder, name))


def _registry(node: dict[str, Any]) -> Iterator[Entity]:
    parts = [_text(node.get(field)) for field in ("registryHive", "registryKey")]
    if key := "\\".join(filter(None, parts)):
        yield Entity(EntityKind.REGISTRY, key)
        if name := _text(node.get("registryValueName")):
            yield Entity(EntityKind.REGISTRY, f"{key}\\{name}")


def _device(node: dict[str, Any]) -> Iterator[Entity]:
    """A device without a name is known by its id alone."""
    if not _first_text(node, "deviceDnsName", "hostName") and (
        number := _first_text(node, "mdeDeviceId", "azureAdDeviceId")
    ):
        yield Entity(EntityKind.HOST, number)


def _container(node: dict[str, Any]) -> Iterator[Entity]:
    if name := _text(node.get("name")):
        yield Entity(EntityKind.RESOURCE, name)
    words = [_text(word) for field in ("command", "args") for word in as_list(node.get(field))]
    if command := " ".join(filter(None, words)):
        yield Entity(EntityKind.COMMAND, command)


_READERS: dict[str, Callable[[dict[str, Any]], Iterator[Entity]]] = {
    "account": _account,
    "container": _container,
    "device": _device,
    "file details": _file,
    "image": _image,
    "registryKey": _registry,
    "registryValue": _registry,
}
