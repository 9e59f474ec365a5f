"""The company that is attacked: people, laptops, servers, addresses. The same seed gives the same company.

Every outside name and address is from the ranges reserved for documentation, so nothing here points at anybody.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

DOMAIN = "halden-marine.example"
_FIRST = [
    "Aino",
    "Amara",
    "Anna",
    "Bjørn",
    "Carlos",
    "Chloé",
    "Daniel",
    "Dmitri",
    "Elif",
    "Emma",
    "Fatima",
    "Felix",
    "Grace",
    "Hana",
    "Ingrid",
    "Jakub",
    "João",
    "Jürgen",
    "Kofi",
    "Lars",
    "Leila",
    "Łukasz",
    "Mateo",
    "Maya",
    "Mei",
    "Mikkel",
    "Nadia",
    "Noah",
    "Olga",
    "Oscar",
    "Priya",
    "Rafael",
    "Rosa",
    "Samir",
    "Sofia",
    "Tomás",
    "Uwe",
    "Vera",
    "Yusuf",
    "Zoë",
]
_LAST = [
    "Andersen",
    "Bakker",
    "Becker",
    "Costa",
    "Dahl",
    "Demir",
    "Eriksen",
    "Fischer",
    "García",
    "Hansen",
    "Ito",
    "Jansen",
    "Kaya",
    "Keller",
    "Khan",
    "Kowalski",
    "Larsen",
    "Lindqvist",
    "Marković",
    "Meyer",
    "Moreau",
    "Müller",
    "Nakamura",
    "Nguyen",
    "Novák",
    "Okafor",
    "Olsen",
    "Patel",
    "Petrov",
    "Rossi",
    "Santos",
    "Schäfer",
    "Silva",
    "Singh",
    "Tanaka",
    "Virtanen",
    "Weber",
    "Wójcik",
    "Çelik",
    "Zhang",
]
_DEPARTMENTS = (
    ("Finance", "FIN", "Accounts Payable Clerk", "Controller", "Treasury Analyst"),
    ("Sales", "SAL", "Account Manager", "Sales Engineer", "Regional Director"),
    ("Engineering", "ENG", "Design Engineer", "Simulation Engineer", "Naval Architect"),
    ("Human Resources", "HR", "Recruiter", "Payroll Specialist", "HR Partner"),
    ("Operations", "OPS", "Yard Planner", "Logistics Coordinator", "Shift Lead"),
    ("IT", "IT", "System Administrator", "Service Desk Agent", "Network Engineer"),
)
_SERVERS = (
    ("HM-DC01", "10.10.0.11", "domain controller"),
    ("HM-DC02", "10.10.0.12", "domain controller"),
    ("HM-FS01", "10.10.1.21", "file server"),
    ("HM-FS02", "10.10.1.22", "file server"),
    ("HM-SQL01", "10.10.2.31", "database server"),
    ("HM-ERP01", "10.10.2.41", "ERP application server"),
    ("HM-BKP01", "10.10.3.51", "backup server"),
    ("HM-JUMP01", "10.10.4.61", "jump host"),
    ("HM-WEB01", "10.30.0.71", "web server"),
    ("HM-WEB02", "10.30.0.72", "web server"),
    ("HM-VPN01", "10.30.0.81", "VPN gateway"),
)
_ASCII = str.maketrans("øéłãüáóćöäëåÅØŁÖÜíÇ", "oelauaocoaeaAOLOUiC")


class Host(NamedTuple):
    """A machine."""

    id: str
    name: str
    ip: str
    role: str
    location: str


class User(NamedTuple):
    """A person with an account, a mailbox and, usually, a laptop."""

    id: str
    name: str
    account: str
    email: str
    department: str
    title: str
    host: Host


def stable_uuid(*parts: object) -> str:
    """The same UUID for the same parts, in every process."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
    return str(UUID(bytes=digest, version=4))


class Company:
    """Who works there and on what."""

    def __init__(self, seed: int, people: int = 72) -> None:
        rng = Random(f"company/{seed}")  # noqa: S311 (repeatable, not secret)
        self.tenant = stable_uuid(seed, "tenant")
        self.customer = f"hm{seed:04d}"
        self.servers = tuple(
            Host(stable_uuid(seed, "host", name), name, ip, role, "Oslo data centre") for name, ip, role in _SERVERS
        )
        self.users = tuple(self._hire(seed, number, rng) for number in range(people))
        self.analysts = ("i.solberg", "m.okonkwo", "r.delacroix", "t.watanabe", "soc-night")
        self.by_host = {user.host.name: user for user in self.users}

    def server(self, prefix: str) -> Host:
        """The first server whose name begins so."""
        return next(host for host in self.servers if host.name.startswith(prefix))

    def people_of(self, department: str) -> tuple[User, ...]:
        """Everybody in a department."""
        return tuple(user for user in self.users if user.department == department)

    def assets(self) -> list[dict[str, Any]]:
        """Every asset: JSON:API resources with the attributes that never change."""
        hosts = [*self.servers, *(user.host for user in self.users)]
        return [*map(host_asset, hosts), *map(user_asset, self.users)]

    @staticmethod
    def _hire(seed: int, number: int, rng: Random) -> User:
        first, last = rng.choice(_FIRST), rng.choice(_LAST)
        department, code, *titles = _DEPARTMENTS[number % len(_DEPARTMENTS)]
        account = f"{first[0]}{last}{number:02d}".translate(_ASCII).lower().encode("ascii", "ignore").decode()
        where = rng.choice(("Oslo", "Gdańsk", "Rotterdam"))
        laptop = f"{code}-LT-{1000 + number * 7}"
        address = f"10.20.{number // 200}.{20 + number % 200}"
        host = Host(stable_uuid(seed, "host", laptop), laptop, address, "laptop", where)
        return User(
            stable_uuid(seed, "user", account),
            f"{first} {last}",
            account,
            f"{account}@{DOMAIN}",
            department,
            rng.choice(titles),
            host,
        )


def host_asset(host: Host) -> dict[str, Any]:
    """A machine as an asset."""
    attributes = {
        "hash": stable_uuid("asset", host.id).replace("-", ""),
        "hostname": host.name,
        "ipAddress": host.ip,
        "location": host.location,
        "name": host.name,
        "risk": 2 if host.role == "laptop" else 4,
        "source": "EDR",
        "type": "host",
        "uebaAssetId": None,
    }
    return {"attributes": attributes, "id": host.id, "type": "asset"}


def user_asset(user: User) -> dict[str, Any]:
    """An account as an asset."""
    attributes = {
        "hash": stable_uuid("asset", user.id).replace("-", ""),
        "hostname": None,
        "ipAddress": None,
        "location": user.host.location,
        "name": user.email,
        "risk": 4 if user.department == "IT" else 1,
        "source": "UEBA",
        "type": "user",
        "uebaAssetId": f"ueba-{user.account}",
    }
    return {"attributes": attributes, "id": user.id, "type": "asset"}
