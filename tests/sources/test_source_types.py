"""Finding source types among what is installed."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from xdr_mcp.errors import SettingsError
from xdr_mcp.sources import SourceTypes, source_types
from xdr_mcp.sources.xdr import XdrOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xdr_mcp.interfaces import SourceType


def types(**targets: str) -> Mapping[str, SourceType]:
    return SourceTypes(EntryPoint(name, target, "xdr_mcp.sources") for name, target in targets.items())


def test_what_is_installed_is_listed_by_kind_ours_included() -> None:
    assert {"microsoft", "xdr"} <= set(source_types())
    assert source_types()["xdr"].Options is XdrOptions


def test_an_unknown_kind_names_those_that_are_known() -> None:
    with pytest.raises(SettingsError, match=r"no source type 'crowdstrike'; installed are: .*microsoft.*xdr"):
        source_types()["crowdstrike"]
    assert "crowdstrike" not in source_types()
    assert source_types().get("crowdstrike") is None


def test_a_missing_package_is_named_with_the_command_that_installs_it_and_harms_no_other_kind() -> None:
    kinds = types(acme="acme_xdr_mcp_that_is_not_there.source:Source", xdr="xdr_mcp.sources.xdr:XdrSource")
    with pytest.raises(SettingsError, match=r"needs acme_xdr_mcp_that_is_not_there.*pip install"):
        kinds["acme"]
    assert "acme" in kinds
    assert kinds["xdr"].Options is XdrOptions


def test_a_package_that_lacks_what_it_registered_is_told_to_be_installed_anew() -> None:
    with pytest.raises(SettingsError, match=r"'acme' cannot be loaded from xdr_mcp\.sources:Nothing"):
        types(acme="xdr_mcp.sources:Nothing")["acme"]
