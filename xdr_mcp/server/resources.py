"""The resources: recent alerts, one alert, a saved search, and how the sources are doing. All JSON, all watchable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import ResourceSecurity
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS
from pydantic import AnyUrl

from xdr_mcp.errors import QueryError, XdrMcpError
from xdr_mcp.server.address import ALERT_TEMPLATE, RECENT, SEARCH_TEMPLATE, STATUS, topic_of, uri_of
from xdr_mcp.server.answers.budget import MOST
from xdr_mcp.server.answers.desk import Desk, UnknownAlert
from xdr_mcp.server.answers.listing import newest
from xdr_mcp.server.answers.one import one_alert
from xdr_mcp.server.answers.status import status as status_of_sources
from xdr_mcp.server.refusals import in_words
from xdr_mcp.untrusted import spell

_JSON = "application/json"


class AlertServer(MCPServer[Any]):
    """An ``MCPServer`` that takes every spelling of a resource's URI."""

    async def read_resource(self, uri: AnyUrl | str, context: Context | None = None) -> Any:
        """Read what the URI names, whichever way it is written."""
        topic = topic_of(str(uri))
        return await super().read_resource(uri_of(topic) if topic else uri, context)


def add_resources(mcp: MCPServer[Any], desk: Desk) -> None:
    """Register the resources."""

    @mcp.resource(
        RECENT, name="recent-alerts", title="Recent alerts", mime_type=_JSON, description="The newest 25 alerts"
    )
    async def recent() -> str:
        with _told():
            return _json((await newest(desk)).structured())

    @mcp.resource(
        STATUS,
        name="status",
        title="Status",
        mime_type=_JSON,
        description="Per source: state, freshness, gaps, lag, last error, who polls; the journal, and how far sinks have come",
    )
    async def status() -> str:
        with _told():
            return _json(await status_of_sources(desk))

    @mcp.resource(
        SEARCH_TEMPLATE,
        name="search",
        title="Saved search",
        mime_type=_JSON,
        description="The newest 25 alerts that match a query in the language of filter_alerts",
        security=ResourceSecurity(exempt_params={"q"}),
    )
    async def search(q: str = "") -> str:
        with _told():
            return _json((await newest(desk, q)).structured())

    @mcp.resource(
        ALERT_TEMPLATE,
        name="alert",
        title="Alert",
        mime_type=_JSON,
        description="One alert in full, with the vendor's own record; its id percent-encoded",
        security=ResourceSecurity(exempt_params={"id"}),
    )
    async def alert(id: str) -> str:  # noqa: A002 (the template's variable)
        with _told():
            return _json((await one_alert(desk, spell(id), raw=True, budget=MOST)).structured())


def _json(answer: Any) -> str:
    return msgspec.json.encode(answer).decode()


@contextmanager
def _told() -> Iterator[None]:
    """Errors as the protocol words them: not found and bad queries are the client's, all else is ours."""
    try:
        yield
    except UnknownAlert as error:
        raise ResourceNotFoundError(in_words(error)) from error
    except QueryError as error:
        raise MCPError(INVALID_PARAMS, in_words(error)) from error
    except XdrMcpError as error:
        raise ResourceError(in_words(error)) from error
