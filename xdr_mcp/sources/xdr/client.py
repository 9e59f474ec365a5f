"""The XDR Alert Management API as an async client: all of its endpoints, usable as a library without the rest of the house.

The API speaks a dialect of JSON:API: ``fields`` is a plain comma list, a filter is a comma list or a JSON object of operators,
and a single object may come back as a list of one. No call is made with the development token.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypedDict, TypeVar, Unpack

import anyio
import anyio.to_thread
import httpx
import msgspec

from xdr_mcp.errors import AuthenticationError, BadResponse, SettingsError, SourceError, Unavailable
from xdr_mcp.http_client import Answer, HttpClient, path_segment
from xdr_mcp.interfaces import Clock, Memory, Window, utc_now
from xdr_mcp.sources.xdr.options import DEVELOPMENT_TOKEN, XdrOptions
from xdr_mcp.sources.xdr.paging import Included, Item, Listing, Make, Reader, read_listing, updated_at
from xdr_mcp.vendor_json import split

log = logging.getLogger(__name__)

Filter = str | Sequence[str] | Mapping[str, Any]
"""``"NEW"``, ``["NEW", "IN_PROGRESS"]`` (any of them), or operators: ``{"eq": "High"}``."""

Kind = Literal["alerts", "events", "assets", "intel"]
Callback = Callable[[Sequence[dict[str, Any]]], Awaitable[None] | None]
CallbackT = TypeVar("CallbackT", bound=Callback)

T = TypeVar("T")

Told = OrderedDict[tuple[str, int], None]

_OVERLAP = timedelta(minutes=5)
_REMEMBERED = 50_000
IDLE_REASON = f"development mode: the token is {DEVELOPMENT_TOKEN}, so the XDR is never called"


class Selection(TypedDict, total=False):
    """What a list is narrowed to. The vendor's defaults are 10 items from offset 0."""

    fields: Sequence[str]
    filters: Mapping[str, Filter]
    sort: str
    limit: int
    offset: int
    search_text: str


class XdrClient:
    """One tenant of the API. Use it inside ``async with``; every method raises SourceError when the vendor fails."""

    def __init__(
        self,
        options: XdrOptions,
        *,
        memory: Memory | None = None,
        clock: Clock = utc_now,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare; nothing is connected. ``memory`` keeps the daily budget and what was learnt about the API.

        Raises:
            SettingsError: the base URL or the credential is missing or wrong.
        """
        self.options = options
        self._memory = memory or _Forgetful()
        self._clock = clock
        self._callbacks: list[Callback] = []
        self._http = None if options.development else _http(options, self._memory, clock, transport)

    async def __aenter__(self) -> Self:
        if self._http:
            await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._http:
            await self._http.__aexit__(kind, error, traceback)

    def vendor_now(self) -> datetime:
        """The vendor's clock as its last answer told it; ours before."""
        return self._http.vendor_now() if self._http else self._clock()

    # -- alerts

    async def alerts(self, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of alerts."""
        return await self._list("/api/v1/alerts", selection)

    async def alerts_as(self, make: Make[Item], **selection: Unpack[Selection]) -> Listing[Item]:
        """One page of alerts, each of which is made into something else, in a thread, while the next is not yet decoded."""
        return await self._read("/api/v1/alerts", selection, make)

    async def alert(self, alert_id: str, *, fields: Sequence[str] = ()) -> dict[str, Any]:
        """One alert. Raises NotFound."""
        return await self._one(f"/api/v1/alerts/{path_segment(alert_id)}", fields)

    async def update_alert(self, alert_id: str, attributes: Mapping[str, Any], *, repeatable: bool = True) -> Any:
        """Change attributes of an alert (PATCH). That the API takes it is not documented; see the option ``write_back``.

        One that is not ``repeatable`` is sent once, though its answer may be lost.
        """
        path = f"/api/v1/alerts/{path_segment(alert_id)}"
        return await self._send("PATCH", path, json=update_body(alert_id, attributes), repeatable=repeatable)

    async def alert_record(self, alert_id: str) -> tuple[bytes, dict[str, Any]]:
        """One alert as the bytes it came in, and decoded. Raises NotFound."""
        return await self._single(f"/api/v1/alerts/{path_segment(alert_id)}", ())

    async def alert_events(self, alert_id: str, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of an alert's events; ``sort="-time"`` for the newest first."""
        return await self._list(f"/api/v1/alerts/{path_segment(alert_id)}/events", selection)

    async def update_alert_events(self, alert_id: str, change: Mapping[str, Any]) -> Any:
        """Change an alert's timeline (PATCH). The vendor does not publish the shape of ``change``: it is sent as it is."""
        return await self._send("PATCH", f"/api/v1/alerts/{path_segment(alert_id)}/events", json=change)

    async def alert_event_stats(self, alert_id: str) -> Any:
        """Counts over an alert's events, as the vendor shapes them."""
        return await self._send("GET", f"/api/v1/alerts/{path_segment(alert_id)}/events/stats")

    async def alert_assets(self, alert_id: str, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of an alert's assets; ``sort="-updatedAt"`` for the latest changed first."""
        return await self._list(f"/api/v1/alerts/{path_segment(alert_id)}/assets", selection)

    async def alert_asset_stats(self, alert_id: str) -> Any:
        """Counts over an alert's assets, as the vendor shapes them."""
        return await self._send("GET", f"/api/v1/alerts/{path_segment(alert_id)}/assets/stats")

    async def alert_intelligence(self, alert_id: str, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of the intelligence about an alert."""
        return await self._list(f"/api/v1/alerts/{path_segment(alert_id)}/intelligence", selection)

    # -- everything else that can be listed

    async def events(self, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of events, over all alerts."""
        return await self._list("/api/v1/events", selection)

    async def assets(self, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of assets."""
        return await self._list("/api/v1/assets", selection)

    async def asset(self, asset_id: str, *, fields: Sequence[str] = ()) -> dict[str, Any]:
        """One asset. Raises NotFound."""
        return await self._one(f"/api/v1/assets/{path_segment(asset_id)}", fields)

    async def intel(self, **selection: Unpack[Selection]) -> Listing[dict[str, Any]]:
        """One page of intelligence."""
        return await self._list("/api/v1/intel", selection)

    async def intel_item(self, intel_id: str, *, fields: Sequence[str] = ()) -> dict[str, Any]:
        """One piece of intelligence. Raises NotFound."""
        return await self._one(f"/api/v1/intel/{path_segment(intel_id)}", fields)

    async def intel_context(self, search: Mapping[str, Any], *, fields: Sequence[str] = ()) -> Any:
        """What is known about the subjects of ``search``, which is sent as the JSON body (POST)."""
        return await self._send("POST", "/api/v1/intelContext", json={**search, **_query({"fields": fields})})

    async def intel_context_of_case(self, case_id: str, *, fields: Sequence[str] = ()) -> Any:
        """What is known about the subjects of a case."""
        return await self._send("GET", "/api/v1/intelContext/case", {"caseId": case_id, **_query({"fields": fields})})

    async def walk(self, kind: Kind, **selection: Unpack[Selection]) -> AsyncGenerator[dict[str, Any], None]:
        """Every item of a list, page by page: memory holds one page. An item may repeat when the list moves meanwhile."""
        page_size = selection.get("limit", self.options.max_alerts_per_poll)

        async def fetch(*, limit: int, offset: int) -> Listing[dict[str, Any]]:
            return await self._list(f"/api/v1/{kind}", {**selection, "limit": limit, "offset": offset})

        reader = Reader(fetch, self._memory, page_size, self._clock)
        async with aclosing(reader.everything(selection.get("offset", 0))) as listings:
            async for listing in listings:
                for item in listing.items:
                    yield item

    # -- MITRE ATT&CK

    async def mitre_attack(self, *, version: str = "", **selection: Unpack[Selection]) -> Any:
        """The ATT&CK matrix as the vendor knows it; ``filters={"technique": "T1059"}`` narrows it."""
        return await self._send(
            "GET", "/api/v1/mitreAttack", ({"version": version} if version else {}) | _query(selection)
        )

    async def mitre_technique(self, technique: str, **selection: Unpack[Selection]) -> Any:
        """One technique, such as T1059."""
        return await self._send("GET", f"/api/v1/mitreAttack/techniques/{path_segment(technique)}", _query(selection))

    async def mitre_tactic(self, tactic: str, **selection: Unpack[Selection]) -> Any:
        """One tactic, such as TA0002."""
        return await self._send("GET", f"/api/v1/mitreAttack/tactics/{path_segment(tactic)}", _query(selection))

    async def mitre_versions(self) -> Any:
        """The versions of ATT&CK on offer."""
        return await self._send("GET", "/api/v1/mitreAttack/versions")

    # -- new alerts, live

    def on_new_alerts(self, callback: CallbackT) -> CallbackT:
        """Have ``callback`` called with the new and changed alerts of each page; plain or async. Also a decorator."""
        self._callbacks.append(callback)
        return callback

    async def watch(self, interval: float = 60.0, since: datetime | None = None) -> NoReturn:
        """Poll every ``interval`` seconds, until cancelled, for alerts changed after ``since`` (now by default).

        What has been told is remembered in bounded memory, for this call only: whoever needs that no alert is lost across
        restarts uses the poller and its store. A vendor that fails for a while is asked again; a callback that fails is
        logged, and stops neither the others nor the watch.

        Raises:
            AuthenticationError: the credential is refused; asking again would not help.
        """
        if self._http is None:
            log.warning(IDLE_REASON)
            await anyio.sleep_forever()
        told: Told = OrderedDict()
        reader = Reader(
            partial(self.alerts_as, _with_its_bytes), self._memory, self.options.max_alerts_per_poll, self._clock
        )
        start = since or self.vendor_now()
        while True:
            pause = interval
            begun = self.vendor_now()
            try:
                await self._tell_since(reader, start, told)
                start = max(start, begun - _OVERLAP)
            except AuthenticationError:
                raise
            except SourceError as error:
                pause = max(interval, (error.retry_after or 0.0) if isinstance(error, Unavailable) else 0.0)
                log.warning("watching for alerts failed, next attempt in %.0f s: %s", pause, error)
            await anyio.sleep(pause)

    async def _tell_since(self, reader: Reader[tuple[bytes, dict[str, Any]]], start: datetime, told: Told) -> None:
        window = Window(start, max(start, self.vendor_now()))
        async with aclosing(reader.window(window, live=True)) as listings:
            async for listing in listings:
                fresh = [item for raw, item in listing.items if _is_news(raw, item, start, told)]
                if fresh:
                    await self._call_back(fresh)

    async def _call_back(self, alerts: Sequence[dict[str, Any]]) -> None:
        for callback in self._callbacks:
            try:
                result = callback(alerts)
                if isawaitable(result):
                    await result
            except Exception:  # whatever foreign code raises must not stop the rest
                log.exception("a callback on new alerts failed")

    # -- the wire

    async def _list(self, path: str, selection: Selection) -> Listing[dict[str, Any]]:
        return await self._read(path, selection, _as_it_is)

    async def _read(self, path: str, selection: Selection, make: Make[Item]) -> Listing[Item]:
        offset = selection.get("offset", 0)
        return await self._get(path, _query(selection), lambda body: read_listing(split(body, "data"), make, offset))

    async def _one(self, path: str, fields: Sequence[str]) -> dict[str, Any]:
        return (await self._single(path, fields))[1]

    async def _single(self, path: str, fields: Sequence[str]) -> tuple[bytes, dict[str, Any]]:
        records = await self._get(path, _query({"fields": fields}), lambda body: split(body, "data").records)
        if len(records) != 1:
            raise BadResponse(f"{path}: {len(records)} objects came where one was asked for")
        return records[0]

    async def _get(self, path: str, params: Mapping[str, str | int], read: Callable[[bytes], T]) -> T:
        async def reader(answer: Answer) -> T:
            return await anyio.to_thread.run_sync(read, answer.body)

        return await self._connected().read(reader, "GET", path, params=params)

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        *,
        repeatable: bool = True,
    ) -> Any:
        """The answer's ``data`` where it has one, else all of it; None when it is empty."""
        answer = await self._connected().request(method, path, params=params, json=json, repeatable=repeatable)
        if not answer.body.strip():
            return None
        try:
            value = msgspec.json.decode(answer.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadResponse(f"{path}: the answer is not JSON ({error}); check the base URL") from error
        return value["data"] if isinstance(value, dict) and "data" in value else value

    def _connected(self) -> HttpClient:
        if self._http is None:
            raise AuthenticationError(f"{IDLE_REASON}; set XDR_AUTH_TOKEN to a real token")
        return self._http


def _as_it_is(_raw: bytes, item: dict[str, Any], _included: Included) -> dict[str, Any]:
    return item


def _with_its_bytes(raw: bytes, item: dict[str, Any], _included: Included) -> tuple[bytes, dict[str, Any]]:
    return raw, item


def update_body(alert_id: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent to change attributes of an alert, in the shape that the API gives alerts in."""
    return {"data": {"id": alert_id, "type": "alert", "attributes": dict(attributes)}}


class _Forgetful:
    """A memory as long as its client's life."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    async def recall(self, key: str) -> str | None:
        return self._kept.get(key)

    async def remember(self, key: str, value: str) -> None:
        self._kept[key] = value

    async def amend(self, key: str, change: Callable[[str | None], str]) -> str:
        self._kept[key] = value = change(self._kept.get(key))
        return value


def _http(options: XdrOptions, memory: Memory, clock: Clock, transport: httpx.AsyncBaseTransport | None) -> HttpClient:
    if not options.base_url:
        raise SettingsError("XDR_BASE_URL is not set; give the address of the API, as in https://api.xdr.example.com")
    return HttpClient(
        options.base_url,
        limits=options.limits,
        auth=options.auth(clock),
        headers=options.headers(),
        memory=memory,
        clock=clock,
        timeout=options.timeout,
        retries=options.max_retries,
        transport=transport,
    )


def _query(selection: Selection) -> dict[str, str | int]:
    """A selection in the API's dialect."""
    query: dict[str, str | int] = {}
    if fields := selection.get("fields"):
        query["fields"] = ",".join(fields)
    if search_text := selection.get("search_text"):
        query["searchText"] = search_text
    if sort := selection.get("sort"):
        query["sort"] = sort
    places = {"page[limit]": selection.get("limit"), "page[offset]": selection.get("offset")}
    query |= {name: place for name, place in places.items() if place is not None}
    query |= {f"filter[{name}]": _filter(wanted) for name, wanted in selection.get("filters", {}).items()}
    return query


def _filter(wanted: Filter) -> str:
    if isinstance(wanted, str):
        return wanted
    return msgspec.json.encode(wanted).decode() if isinstance(wanted, Mapping) else ",".join(wanted)


def _is_news(raw: bytes, item: dict[str, Any], start: datetime, told: Told) -> bool:
    updated = updated_at(item)
    version = (str(item.get("id")), hash(raw))
    if version in told or (updated is not None and updated < start):
        return False
    told[version] = None
    if len(told) > _REMEMBERED:
        told.popitem(last=False)
    return True
