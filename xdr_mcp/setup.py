"""What every command starts from: the settings that are in force, the places that follow from them, and logging.

Neither the store nor the network is touched, and no vendor's module is loaded before its options are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from xdr_mcp import telemetry
from xdr_mcp.errors import SettingsError
from xdr_mcp.interfaces import SourceType
from xdr_mcp.places import Places, places
from xdr_mcp.settings import Choice, Configuration, Settings, SourceName, load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """What every command starts from."""

    configuration: Configuration
    places: Places
    trouble: telemetry.Counter

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings


def set_up(given: Mapping[str, Mapping[str, Any]] | None = None, *, alone: bool = False, quiet: bool = False) -> Setup:
    """Read the settings and start logging; touches no store and no network.

    ``given`` and ``alone`` are as for ``settings.load``. With ``quiet`` only errors are logged, unless debugging was asked
    for: the command's result says it all, save what the store keeps it waiting for.

    Raises:
        SettingsError: a setting is wrong.
    """
    configuration = load(given, alone=alone)
    settings = configuration.settings
    quiet = quiet and settings.log_level != "debug"
    trouble = telemetry.configure("error" if quiet else settings.log_level, settings.log_format)
    patient = quiet and settings.log_level != "error"
    logging.getLogger("xdr_mcp.store").setLevel(logging.WARNING if patient else logging.NOTSET)
    if settings.http_token:
        telemetry.hide(settings.http_token.get_secret_value())
    for choice in configuration.choices:
        log.debug("%s=%s (%s)", choice.variable, choice.shown, choice.origin)
    return Setup(configuration, places(configuration), trouble)


def source_type(source: SourceName) -> SourceType:
    """The vendor's module behind a configured source.

    Raises:
        SettingsError: there is no such type, or what it needs is not installed.
    """
    from xdr_mcp.sources import source_types  # noqa: PLC0415 (see the module's docstring)

    return source_types()[source.type]


def chosen_settings(setup: Setup) -> list[Choice]:
    """Every setting in force, the sources' own included as far as they can be read."""
    choices = list(setup.configuration.choices)
    for source in setup.settings.sources:
        with suppress(SettingsError):  # told by who opens the source
            choices += setup.configuration.options(source, source_type(source).Options)[1]
    return choices


def warn_of_unknown(setup: Setup) -> None:
    """Log a line for each variable and key that nothing reads."""
    for line in unknown_settings(setup):
        log.warning("%s", line)


def unknown_settings(setup: Setup) -> list[str]:
    """A line for each variable and key that nothing reads; none where a source's type, and so what it reads, is not known."""
    try:
        options = [(source, source_type(source).Options) for source in setup.settings.sources]
    except SettingsError:  # told by who opens the source
        return []
    return setup.configuration.unknown(options)
