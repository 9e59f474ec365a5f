"""Finding source types: what is installed registers under the entry point group ``xdr_mcp.sources``, ours included.

A type is imported when it is asked for, so a vendor whose extra is not installed costs only those who configure it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from xdr_mcp.errors import SettingsError
from xdr_mcp.interfaces import SourceType

GROUP = "xdr_mcp.sources"


class UnknownSourceType(SettingsError, KeyError):
    """No installed package registers this kind of source."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class SourceTypes(Mapping[str, SourceType]):
    """Source types by kind, in alphabetical order."""

    def __init__(self, registered: Iterable[EntryPoint]) -> None:
        by_name = sorted(registered, key=lambda entry_point: entry_point.name)
        self._registered = {entry_point.name: entry_point for entry_point in by_name}

    def __getitem__(self, kind: str) -> SourceType:
        if kind not in self._registered:
            known = ", ".join(self) or "none"
            raise UnknownSourceType(f"there is no source type {kind!r}; installed are: {known}")
        entry_point = self._registered[kind]
        try:
            return cast("SourceType", entry_point.load())
        except ModuleNotFoundError as error:
            raise SettingsError(_missing(entry_point, error.name or str(error))) from error
        except (ImportError, AttributeError) as error:
            raise SettingsError(
                f"the source type {kind!r} cannot be loaded from {entry_point.value}: {error}; reinstall its package"
            ) from error

    def __contains__(self, kind: object) -> bool:
        return kind in self._registered

    def __iter__(self) -> Iterator[str]:
        return iter(self._registered)

    def __len__(self) -> int:
        return len(self._registered)


def source_types() -> Mapping[str, SourceType]:
    """The installed source types by kind, in alphabetical order; each is imported when it is looked up.

    Looking one up raises SettingsError: the kind is unknown (a KeyError as well), or the package it needs is not installed.
    """
    return SourceTypes(entry_points(group=GROUP))


def _missing(entry_point: EntryPoint, module: str) -> str:
    distribution: Any = entry_point.dist
    package = distribution.name if distribution else "xdr-mcp"
    extras = (distribution.metadata.get_all("Provides-Extra") or []) if distribution else []
    remedy = f"{package}[{entry_point.name}]" if entry_point.name in extras else module.partition(".")[0]
    return f"the source type {entry_point.name!r} needs {module}, which is not installed; run: pip install '{remedy}'"
