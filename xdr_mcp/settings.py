"""What an operator can choose, and where each choice came from.

A later one wins: default, ``xdr-mcp.toml``, ``.env``, environment, command line. A source's own options are not listed here:
each source type has its model, read by the same rules under ``XDR_<NAME>_<FIELD>`` or ``[sources.<name>]``, so that a new
vendor needs no edit in this file.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from xdr_mcp.errors import SettingsError

PREFIX: Final = "XDR_"
PRIMARY: Final = "xdr"
"""The source whose options carry no name of their own: ``XDR_BASE_URL``, not ``XDR_XDR_BASE_URL``."""
TOML: Final = "xdr-mcp.toml"
COMMAND_LINE: Final = "command line"
LOOPBACK: Final = "127.0.0.1"
SHORTEST_TOKEN: Final = 16

Model = TypeVar("Model", bound=BaseModel)

# ---------------------------------------------------------------- kinds of value

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse_duration(value: object) -> timedelta:
    """``90`` (seconds), ``30s``, ``15m``, ``24h``, ``7d``, ``1h30m`` or ISO 8601 (``PT15M``).

    Raises:
        ValueError: it is none of these, or negative.
    """
    duration = _duration(value)
    if duration is None or duration < timedelta(0):
        raise ValueError("is not a duration; write it like 90 (seconds), 30s, 15m, 24h, 7d or PT15M")
    return duration


def _duration(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    text = str(value).strip().lower()
    with suppress(ValueError, OverflowError):
        return timedelta(seconds=float(text))
    with suppress(OverflowError):
        if parts := _DURATION.findall(text) if _DURATION.sub("", text) == "" else []:
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    with suppress(ValidationError):
        return TypeAdapter(timedelta).validate_python(text.upper()) if text.startswith("p") else None
    return None


def show_duration(duration: timedelta) -> str:
    """As a person would write it, in one unit: ``60s``, ``5m``, ``1h``, ``24h``, ``7d``."""
    seconds = duration.total_seconds()
    for unit in ("w", "d", "h", "m"):
        count = seconds / _UNITS[unit]
        if count.is_integer() and (count > 1 or (count == 1 and unit == "h")):
            return f"{count:g}{unit}"
    return f"{seconds:g}s"


def _positive(duration: timedelta) -> timedelta:
    if not duration:
        raise ValueError("must be longer than nothing")
    return duration


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < SHORTEST_TOKEN:
        raise ValueError(f"is shorter than {SHORTEST_TOKEN} characters, which can be guessed")
    return secret


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]

_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class SourceName:
    """One configured source: what it is called here, and which source type reads it."""

    name: str
    type: str

    def __str__(self) -> str:
        return self.name if self.name == self.type else f"{self.name}={self.type}"

    @property
    def prefix(self) -> str:
        """What its variables begin with."""
        return PREFIX if self.name == PRIMARY else f"{PREFIX}{self.name.upper()}_"


def _source_names(value: object) -> object:
    """From ``xdr,contoso=microsoft``, a list of such, or the tables of xdr-mcp.toml."""
    if isinstance(value, Mapping):
        pairs = [(name, table.get("type", name)) for name, table in value.items() if isinstance(table, Mapping)]
    else:
        parts = _split(value)
        if not isinstance(parts, (list, tuple)):
            raise ValueError("is no list of sources; write it like xdr,contoso=microsoft")  # noqa: TRY004 (pydantic's)
        pairs = [
            (name.strip(), (kind or name).strip()) for name, _, kind in (str(part).partition("=") for part in parts)
        ]
    return tuple(_source_name(name, kind) for name, kind in _distinct(pairs))


def _source_name(name: str, kind: str) -> SourceName:
    if not _SOURCE_NAME.fullmatch(name):
        raise ValueError(
            f"has a source named {name!r}; a name is lower-case letters, digits and _, and begins with a letter"
        )
    return SourceName(name, kind)


def _distinct(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if not pairs:
        raise ValueError("names no source; write it like xdr or xdr,contoso=microsoft")
    for name in (names := [name for name, _ in pairs]):
        if names.count(name) > 1:
            raise ValueError(f"names {name!r} twice; call the second tenant something else: xdr,contoso={name}")
    return pairs


# ---------------------------------------------------------------- the settings


class Settings(BaseModel):
    """Everything but the sources' own options. Each field is ``XDR_<FIELD>`` in the environment."""

    model_config = ConfigDict(frozen=True)

    sources: Annotated[tuple[SourceName, ...], BeforeValidator(_source_names)] = Field(
        (SourceName(PRIMARY, PRIMARY),),
        description="Vendors to poll, by comma. `name=type` gives a second tenant a name of its own: `xdr,contoso=microsoft`. "
        "In xdr-mcp.toml each table `[sources.<name>]` names one.",
    )
    poll_enabled: bool = Field(
        default=True, description="Whether this process may poll. With `false`, `serve` follows what others poll."
    )
    poll_interval: PositiveDuration = Field(
        timedelta(seconds=60),
        description="Time between two polls. The vendor's platform allows 2,000 calls a day, which a poll every 30 s exceeds.",
    )
    initial_lookback: PositiveDuration = Field(
        timedelta(hours=24), description="How far back a store's very first poll reads."
    )
    shortest_look_back: Duration = Field(
        timedelta(minutes=5),
        description="Every poll re-reads at least this much, for alerts that the vendor indexed late. The stretch follows the "
        "lag that was measured.",
    )
    longest_look_back: Duration = Field(timedelta(hours=24), description="Every poll re-reads at most this much.")
    rescan_every: PositiveDuration = Field(
        timedelta(hours=1),
        description="How often a longer stretch is re-read, for what arrived later than any lag measured.",
    )
    rescan_span: PositiveDuration = Field(timedelta(hours=24), description="How long that stretch is.")
    keep: PositiveDuration | None = Field(
        None,
        description="Alerts that are closed are dropped from the store when they have not changed for so long, such as `90d`. "
        "Not set, they are kept; an alert that is not closed has no age.",
    )
    keep_alerts: int | None = Field(
        None, description="Most alerts in the store; those that changed longest ago are dropped, open ones too.", ge=1
    )
    keep_bytes: ByteSize | None = Field(
        None,
        description="Most bytes that the store fills, such as `10GB`; alerts that changed longest ago are dropped, open ones too.",
        ge=1,
    )
    triage: Annotated[Literal["off", "approve"], BeforeValidator(lambda value: str(value).strip().lower())] = Field(
        "off",
        description="With `approve`, assistants may propose changes of status, verdict, assignee and comments, and `xdr-mcp approve` "
        "has a person decide on each. `off`: nothing is ever written to a vendor.",
    )
    data_dir: Folder = Field(
        Path(".xdr-mcp"),
        description="Where the store lies. Relative to the working directory; where that can't be written, the per-user data "
        "directory is taken instead, and told.",
    )
    alerts_dir: Folder = Field(
        Path("alerts"), description="Where the archive writes its JSON files. The same fallback as for `XDR_DATA_DIR`."
    )
    http_host: str = Field(LOOPBACK, description="Address that `serve --http` listens on.", min_length=1)
    http_port: int = Field(8765, description="Port that `serve --http` listens on; 0 takes a free one.", ge=0, le=65535)
    http_token: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        None,
        description="Bearer token that HTTP clients must send. Required to listen on anything but loopback.",
    )
    http_unauthenticated: bool = Field(
        default=False,
        description="Listen beyond loopback without a token, because something in front of the server asks who calls.",
    )
    http_allowed_hosts: Names = Field(
        (),
        description="Host headers taken beside the address listened on, by comma: `xdr.example.com,xdr.example.com:*`.",
    )
    http_allowed_origins: Names = Field(
        (), description="Origins of web pages that may call, by comma: `https://console.example.com`."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda value: str(value).strip().lower())
    ] = Field("info", description="Least important kind of line that is logged: debug, info, warning or error.")
    log_format: Annotated[Literal["plain", "json"], BeforeValidator(lambda value: str(value).strip().lower())] = Field(
        "plain", description="`plain` for people, `json` for one JSON object a line. Logs go to stderr."
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Settings:
        if self.shortest_look_back > self.longest_look_back:
            raise ValueError(
                "XDR_SHORTEST_LOOK_BACK is longer than XDR_LONGEST_LOOK_BACK; make it shorter, or the other longer"
            )
        return self


# ---------------------------------------------------------------- reading them


@dataclass(frozen=True)
class Choice:
    """One setting as it is in force, fit to be shown: a secret is only ``set`` or ``not set``."""

    variable: str
    shown: str
    origin: str
    """``default``, ``xdr-mcp.toml``, ``.env``, ``environment`` or ``command line``."""


@dataclass(frozen=True)
class Configuration:
    """The settings in force. Made by ``load``."""

    settings: Settings
    folder: Path
    """The working directory that relative paths, ``.env`` and ``xdr-mcp.toml`` are looked up in."""
    given: Mapping[str, Mapping[str, Any]]
    """The command line's: source name → field → value, the settings' own under the empty name."""
    file: Mapping[str, Any]
    """What xdr-mcp.toml holds."""
    choices: tuple[Choice, ...]
    alone: bool = False

    def options(self, source: SourceName, model: type[Model]) -> tuple[Model, tuple[Choice, ...]]:
        """A source's own options, and where each came from.

        Raises:
            SettingsError: one is missing or wrong.
        """
        self._check_prefix(source, model)
        table = _table(_table(self.file, "sources"), source.name)
        given = self.given.get(source.name, {})
        where = f"[sources.{source.name}] in {TOML}"
        return _read(model, _Lookup(source.prefix, where, table, given, self.folder, self.alone))

    def origin(self, variable: str) -> str:
        """Where a setting's value came from."""
        return next((choice.origin for choice in self.choices if choice.variable == variable), "default")

    def unknown(self, options: Iterable[tuple[SourceName, type[BaseModel]]]) -> list[str]:
        """A line for each ``XDR_`` variable, and each key of xdr-mcp.toml, that nothing reads: most are typing errors."""
        if self.alone:
            return []
        options = tuple(options)
        known = {*_variables(Settings, PREFIX)}
        known.update(*(_variables(model, source.prefix) for source, model in options))
        found = {**_dotenv(self.folder), **os.environ}
        lines = [_unknown_line(name, known) for name in sorted(found) if name.startswith(PREFIX) and name not in known]
        for name, keys, fields in self._tables(options):
            lines += [f"{TOML}: {_unknown_line(key, fields, name)}" for key in sorted(keys - fields)]
        return lines

    def _tables(
        self, options: tuple[tuple[SourceName, type[BaseModel]], ...]
    ) -> Iterator[tuple[str, set[str], set[str]]]:
        yield "", set(self.file), {*Settings.model_fields, "sources"}
        for source, model in options:
            table = _table(_table(self.file, "sources"), source.name)
            yield f"[sources.{source.name}] ", set(table), {*model.model_fields, "type"}

    def _check_prefix(self, source: SourceName, model: type[BaseModel]) -> None:
        clash = _variables(Settings, PREFIX) & _variables(model, source.prefix)
        if clash:
            raise SettingsError(
                f"XDR_SOURCES: a source cannot be named {source.name!r}, because {min(clash)} means something else already; "
                "choose another name"
            )


def load(
    given: Mapping[str, Mapping[str, Any]] | None = None, folder: Path | None = None, *, alone: bool = False
) -> Configuration:
    """Read the settings. ``given`` is the command line's (see ``Configuration.given``); ``folder`` the working directory.

    With ``alone`` nothing but ``given`` counts: neither files nor the environment.

    Raises:
        SettingsError: a value is wrong; the message names the variable, the problem and the remedy, and no secret.
    """
    folder = folder or Path.cwd()
    given = given or {}
    file = {} if alone else _toml(folder / TOML)
    settings, choices = _read(Settings, _Lookup(PREFIX, TOML, file, given.get("", {}), folder, alone))
    return Configuration(settings, folder, given, file, choices, alone)


@dataclass(frozen=True)
class _Lookup:
    """Where the values of one model are looked for."""

    prefix: str
    where: str
    """What its part of xdr-mcp.toml is called in a message."""
    table: Mapping[str, Any]
    given: Mapping[str, Any]
    folder: Path
    alone: bool
    """Nothing but ``given`` counts."""


def _read(model: type[Model], lookup: _Lookup) -> tuple[Model, tuple[Choice, ...]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in _layers(model, lookup):
        known = {name: value for name, value in layer.items() if name in model.model_fields}
        values |= known
        origins |= dict.fromkeys(known, origin)
    try:
        read = model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        explained = (_explain(dict(problem), model, lookup, origins) for problem in problems)
        raise SettingsError("\n".join(explained)) from None  # the cause would quote the values
    return read, tuple(
        Choice(_variable(lookup.prefix, name), show(getattr(read, name)), origins.get(name, "default"))
        for name in model.model_fields
    )


def _said(model: type[BaseModel], prefix: str, variables: Mapping[str, str | None]) -> dict[str, Any]:
    """What these variables say, by field name; a list or a table may be written as JSON."""
    texts = {name.upper(): text for name, text in variables.items() if text}
    said: dict[str, Any] = {}
    for name in model.model_fields:
        if text := texts.get(_variable(prefix, name)):
            said[name] = text
            if text[0] in "[{" and _holds_several(model.model_fields[name].annotation):
                with suppress(ValueError):  # no JSON: as it is written, for the field's own validator
                    said[name] = json.loads(text)
    return said


def _holds_several(annotation: Any) -> bool:
    kinds = [get_origin(each) or each for each in (annotation, *get_args(annotation))]  # of an optional one, too
    several = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, (Collection, BaseModel))]
    return any(not issubclass(kind, (str, bytes)) for kind in several)


def _layers(model: type[BaseModel], lookup: _Lookup) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each place says, by field name; a later layer wins. An empty variable is an unset one."""
    if lookup.alone:
        yield COMMAND_LINE, lookup.given
        return
    yield TOML, lookup.table
    try:
        dotenv = _dotenv(lookup.folder)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {lookup.folder / '.env'}: {error}; mend the file or remove it") from error
    yield ".env", _said(model, lookup.prefix, dotenv)
    yield "environment", _said(model, lookup.prefix, os.environ)
    yield COMMAND_LINE, {name: value for name, value in lookup.given.items() if value is not None}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}; mend the file or remove it") from error


def _dotenv(folder: Path) -> dict[str, str | None]:
    if not (folder / ".env").exists():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 (where there is such a file)

    return dict(dotenv_values(folder / ".env", encoding="utf-8-sig"))


def _table(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = mapping.get(name)
    return value if isinstance(value, Mapping) else {}


# ---------------------------------------------------------------- telling about them


def _variable(prefix: str, name: str) -> str:
    return f"{prefix}{name}".upper()


def _variables(model: type[BaseModel], prefix: str) -> set[str]:
    return {_variable(prefix, name) for name in model.model_fields}


def _unknown_line(name: str, known: Iterable[str], where: str = "") -> str:
    nearest = get_close_matches(name, known, n=1)
    return f"{where}{name} is not a setting and does nothing" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _is_secret(model: type[BaseModel], name: str) -> bool:
    return "Secret" in str(model.model_fields[name].annotation)


def show(value: object) -> str:  # noqa: PLR0911 (one a kind of value)
    """A setting's value, fit to be shown: ``set`` for a secret, no password in a URL."""
    match value:
        case None | () | "":
            return "not set"
        case SecretStr():
            return "set" if value.get_secret_value() else "not set"
        case bool():
            return str(value).lower()
        case timedelta():
            return show_duration(value)
        case ByteSize():
            return value.human_readable(decimal=True)
        case tuple() | list():
            return ",".join(map(str, value))
        case _:
            return without_password(str(value))


def without_password(text: str) -> str:
    """A URL without the user and password that may stand before its host."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _explain(problem: Mapping[str, Any], model: type[BaseModel], lookup: _Lookup, origins: Mapping[str, str]) -> str:
    """One line: the variable, its value unless secret, where it was said, what is wrong, the remedy."""
    said = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:  # two settings that contradict each other: the message names both
        return said
    name = str(problem["loc"][0])
    variable, declared = _variable(lookup.prefix, name), model.model_fields[name]
    meaning = f" {declared.description.partition('. ')[0].rstrip('.')}." if declared.description else ""
    if problem["type"] == "missing":
        return f"{variable} is not set.{meaning} Set it in the environment, in .env, or as {name} under {lookup.where}."
    value = "" if _is_secret(model, name) else f"={without_password(repr(problem['input'])[:80])}"
    default = "" if declared.is_required() else f" (default: {show(declared.get_default())})"
    origin = origins.get(name, "default")
    where = origin if origin in {TOML, ".env"} else f"the {origin}"
    return f"{variable}{value} from {where}: {said[:1].lower()}{said[1:]}.{meaning}{default}"
