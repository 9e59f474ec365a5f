"""What an alert is about: hosts, addresses, users, files and so on, wherever in its record they stand.

An alert's own attributes hold few; what its assets and events add comes beside it (``included``), in a page's envelope or in
the record itself. An asset that is only referred to is kept by its id, as a resource.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from xdr_mcp.alert import Entity, EntityKind
from xdr_mcp.vendor_json import as_list, as_text

Json = Mapping[str, Any]

_MOST = 250
_LONGEST_VALUE = 4096
_DEEPEST = 6
_NOTHING_INSIDE = frozenset({str, int, float, bool, type(None)})
_PLAIN_NAMES = frozenset({"name", "value", "values"})
"""What a field may be called whose name says less than its parent's."""
_MOST_SEEN = 512
_MOST_NAMES = 100
_LONGEST_NAMES = 2_048
"""Objects whose fields are remembered, how many each may have, and their characters: 15 MB in all, whatever a vendor sends."""
_SHORT = 128
"""Short values come back in alert after alert: what was made of them is remembered."""

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

_HASH = re.compile(r"[0-9a-fA-F]{32,128}")
_HASH_LENGTHS = frozenset({32, 40, 56, 64, 96, 128})
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_BYTE}\.){{3}}{_BYTE}")
_IPV6 = re.compile(r"[0-9a-fA-F:.]+(?:%.*)?", re.DOTALL)
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
    (_MAC, EntityKind.MAC),
    (_URL, EntityKind.URL),
    (_EMAIL, EntityKind.EMAIL),
    (_REGISTRY, EntityKind.REGISTRY),
    (_FILE, EntityKind.FILE),
    (_DOMAIN, EntityKind.DOMAIN),
)


def entities_of(record: Json, attributes: Json, included: Sequence[Any]) -> tuple[Entity, ...]:
    """The entities of a record and of what comes beside it, each once, in the order they are met; at most 250."""
    referred = referred_by(record)
    beside = [*as_list(record.get("included")), *(item for item in included if reference_of(item) in referred)]
    found = _Found()
    for item in beside:
        found.add_beside(_object(item))
    for artefact in (*as_list(attributes.get("artefacts")), *as_list(attributes.get("artifacts"))):
        found.add_artefact(artefact)
    for name in ("assets", "supportingData", "primarySecondaryFields"):
        found.add_named(attributes.get(name), None, _DEEPEST)
    for name, kind in _fields_named(attributes).items():
        if isinstance(value := attributes[name], str):
            found.add(kind, value)
    known = {reference_of(item) for item in beside}
    for sort, identifier in referred:
        if sort == "asset" and (sort, identifier) not in known:
            found.add(EntityKind.RESOURCE, identifier)
    return tuple(found.entities)


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


class _Found:
    """Entities on their way. When there are enough, nothing more is looked at."""

    def __init__(self) -> None:
        self.entities: dict[Entity, None] = {}

    def add(self, kind: EntityKind, text: str) -> None:
        """Take a value of a known kind, unless it cannot be one."""
        value = text.strip()
        if not value or len(self.entities) >= _MOST:
            return
        entity = Entity(kind, value[:_LONGEST_VALUE])
        if entity not in self.entities and ((possible := _POSSIBLE.get(kind)) is None or possible(value)):
            self.entities[entity] = None

    def add_beside(self, item: Json) -> None:
        """Take what an asset or an event of ``included`` is about."""
        attributes = _object(item.get("attributes")) or item
        if as_text(item.get("type")) != "asset":
            self.add_named({name: value for name, value in attributes.items() if name != "source"}, None, _DEEPEST)
            return
        sort, name = as_text(attributes.get("type")).lower(), as_text(attributes.get("name"))
        self.add_named({key: attributes.get(key) for key in ("hostname", "ipAddress")}, None, _DEEPEST)
        if name and any(word in sort for word in ("user", "account", "identity")):
            self.add(EntityKind.USER, name)
        elif name and any(word in sort for word in ("host", "endpoint", "device", "server", "workstation")):
            self.add(EntityKind.HOST, name)
        elif name:
            self._add_by_shape(name)

    def add_artefact(self, value: object) -> None:
        """Take a bare text, or an object that names its type beside its value."""
        if isinstance(value, str):
            self._add_by_shape(value)
            return
        artefact = _object(value)
        kind = _kind_named(as_text(artefact.get("type") or artefact.get("artefactType")))
        text = as_text(artefact.get("value"))
        if kind and text:
            self.add(kind, text)
        elif artefact:
            self.add_named(artefact, None, _DEEPEST)
        else:
            self._add_by_shape(as_text(value))

    def add_named(self, value: object, kind: EntityKind | None, depth: int) -> None:
        """Take what fields hold that have the names of such things, wherever they lie; ``kind`` is what the value is called."""
        if not depth or len(self.entities) >= _MOST:
            return
        if isinstance(value, dict):
            named = _fields_named(value)
            for name, item in value.items():
                meant = kind if kind and name in _PLAIN_NAMES else named.get(name)
                if type(item) is not str:
                    self.add_named(item, meant, depth - 1)
                elif meant and depth > 1:
                    self.add(meant, item)
        elif isinstance(value, list):
            if kind or not _NOTHING_INSIDE.issuperset(map(type, value)):
                for item in value:
                    self.add_named(item, kind, depth - 1)
        elif kind and isinstance(value, str):
            self.add(kind, value)

    def _add_by_shape(self, text: str) -> None:
        value = text.strip()
        if len(value) <= _LONGEST_VALUE and len(self.entities) < _MOST and (kind := _shape(value)):
            self.entities[Entity(kind, value)] = None


_fields_seen: dict[tuple[str, ...], dict[str, EntityKind]] = {}


def _fields_named(value: Json) -> dict[str, EntityKind]:
    """The fields whose names say what they hold, and what. The same fields come back in alert after alert of one product."""
    names = tuple(value)
    named = _fields_seen.get(names)
    if named is None:
        named = {name: kind for name in names if (kind := _kind_named(name))}
        if len(_fields_seen) >= _MOST_SEEN:
            _fields_seen.clear()
        if len(names) <= _MOST_NAMES and len("".join(names)) <= _LONGEST_NAMES:
            _fields_seen[names] = named
    return named


@lru_cache(4096)  # where each alert has other fields, their names still come back
def _kind_named(name: str) -> EntityKind | None:
    """What a field of this name holds, however it is spelt: ``Src-IP``, ``src_ip``, ``srcIp``."""
    return _KIND_OF_NAME.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def _shape(value: str) -> EntityKind | None:
    """What a text is by its looks. Hashes and addresses differ in each alert, and are told quickly."""
    if len(value) in _HASH_LENGTHS and _is_hash(value):
        return EntityKind.HASH
    if _is_address(value):
        return EntityKind.IP
    return _other_shape_again(value) if len(value) <= _SHORT else _other_shape(value)


def _other_shape(value: str) -> EntityKind | None:
    return next((kind for pattern, kind in _SHAPES if pattern.fullmatch(value)), None)


_other_shape_again = lru_cache(4096)(_other_shape)


def _is_hash(value: str) -> bool:
    return len(value) in _HASH_LENGTHS and _HASH.fullmatch(value) is not None


def _is_address(value: str) -> bool:
    if ":" not in value:
        return _IPV4.fullmatch(value) is not None
    if not _IPV6.fullmatch(value):
        return False
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _is_domain(value: str) -> bool:
    return _DOMAIN.fullmatch(value) is not None


_POSSIBLE = {EntityKind.HASH: _is_hash, EntityKind.IP: _is_address, EntityKind.DOMAIN: _is_domain}
"""What a value of a kind must look like."""


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}
