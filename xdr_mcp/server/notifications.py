"""Tells assistants what changed, in both protocol eras. Everything that differs between the eras is in this module.

* 2026-07-28: ``subscriptions/listen``. The SDK serves the stream; its handler is wrapped, to learn what is watched.
* 2025-11-25 and before: ``resources/subscribe``, then notifications on the connection's own channel. The SDK has no public
  hook for it: the methods are registered on its low-level server, as its migration guide says to.

Both eras name the same watches, so a change is matched once per query, however many watch it, and never against a query
that nobody watches. A notification is a hint and carries no alert: whoever missed one reads and is up to date.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from xdr_mcp.alert import Change
from xdr_mcp.errors import QueryError
from xdr_mcp.interfaces import Clock, Store
from xdr_mcp.query import Query, matcher, parse
from xdr_mcp.server.address import OneAlert, Recent, Search, Status, Topic, topic_of
from xdr_mcp.server.refusals import in_words
from xdr_mcp.untrusted import contained_line

logger = logging.getLogger(__name__)

WINDOW = 0.5
"""Seconds between two notifications of the same URI; the first is never delayed."""
WIDEST = 8
"""So many windows lie between two notifications of a URI while a storm lasts: each that is not quiet doubles the next."""
PER_CONNECTION = 64
"""URIs one stream, or one connection of the older era, may watch."""
STREAMS = 1_024
"""Streams open at a time."""
SEARCHES = 256
"""Different queries watched at a time, by everybody together."""

_BATCH = 200
_IDLE_WAIT = 1.0
_SEND_LIMIT = 5.0
_BACKLOG = 256
_PARSED_FOR = timedelta(seconds=30)
_LONGEST_PAUSE = 30.0
_URI_SHOWN = 200


class Watch:
    """One watched topic: the spellings of its URI that clients used, and when it was last told."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.spellings: dict[str, int] = {}
        self.told_at = -math.inf
        self.waiting = False
        self.widened = 1
        """How many windows lie between two notifications now."""
        self._parsed: tuple[datetime, Query] | None = None

    def query(self, now: datetime) -> Query:
        """The query of a search, parsed anew now and then: what is ``since:-24h`` moves on."""
        assert isinstance(self.topic, Search)
        if self._parsed is None or now - self._parsed[0] > _PARSED_FOR:
            self._parsed = now, parse(self.topic.text, now=now)
        return self._parsed[1]


class Watches:
    """What is watched now, by streams and connections of both eras."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_topic: dict[Topic, Watch] = {}
        self.version = 0
        """Grows with every new topic."""

    def __iter__(self) -> Iterator[Watch]:
        return iter(tuple(self._by_topic.values()))

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._by_topic

    def __len__(self) -> int:
        return sum(sum(watch.spellings.values()) for watch in self)

    @property
    def need_changes(self) -> bool:
        """Somebody watches what only the changes themselves can tell."""
        return any(isinstance(topic, OneAlert | Search) for topic in self._by_topic)

    def check(self, uris: Iterable[str]) -> None:
        """Refuse, with a reason the client can act on, what cannot be watched."""
        for uri in uris:
            topic = topic_of(uri)
            if topic is None:
                raise MCPError(INVALID_PARAMS, f"Unknown resource: {contained_line(uri, _URI_SHOWN)}", {"uri": uri})
            if isinstance(topic, Search) and topic not in self._by_topic:
                self._check_search(topic, uri)

    def _check_search(self, search: Search, uri: str) -> None:
        try:
            parse(search.text, now=self._clock())
        except QueryError as error:
            raise MCPError(INVALID_PARAMS, in_words(error), {"uri": uri}) from error
        if sum(isinstance(topic, Search) for topic in self._by_topic) >= SEARCHES:
            raise MCPError(INVALID_PARAMS, f"More than {SEARCHES} searches are watched already", {"uri": uri})

    def add(self, uri: str) -> None:
        """Watch a URI that was checked."""
        topic = topic_of(uri)
        assert topic is not None, f"{uri} was not checked"
        watch = self._by_topic.get(topic)
        if watch is None:
            watch = self._by_topic[topic] = Watch(topic)
            self.version += 1
        watch.spellings[uri] = watch.spellings.get(uri, 0) + 1

    def discard(self, uri: str) -> None:
        """One watcher of this URI less."""
        topic = topic_of(uri)
        watch = self._by_topic.get(topic) if topic else None
        if watch is None or topic is None or uri not in watch.spellings:
            return
        watch.spellings[uri] -= 1
        if not watch.spellings[uri]:
            del watch.spellings[uri]
        if not watch.spellings:
            del self._by_topic[topic]

    @contextmanager
    def watching(self, uris: Sequence[str]) -> Iterator[None]:
        """Watch these as long as the context is open."""
        for uri in uris:
            self.add(uri)
        try:
            yield
        finally:
            for uri in uris:
                self.discard(uri)


class Notifier:
    """Follows the store's changes, live from now on, and tells who watches.

    ``run`` may be left and entered again: it keeps its place, so an error on the way costs time, never a change.
    """

    def __init__(self, store: Store, clock: Clock, *, window: float = WINDOW) -> None:
        self.watches = Watches(clock)
        self.bus = InMemorySubscriptionBus()
        self.failures = 0
        """Iterations that failed, in a row."""
        self.alive_at = -math.inf
        """When the last iteration ended well, on the event loop's clock."""
        self._store = store
        self._clock = clock
        self._window = window
        self._seen = 0
        self._states: frozenset[tuple[str, str]] | None = None
        self._states_at = -math.inf

    async def begin(self) -> None:
        """Take the place to follow from: what is saved after this is told."""
        self._seen = await self._store.last_seq()
        self.alive_at = anyio.current_time()

    async def run(self) -> None:
        """Follow until cancelled, from where ``begin`` was called."""
        async with anyio.create_task_group() as later:
            while True:
                try:
                    await self._step(later)
                    self.failures, self.alive_at = 0, anyio.current_time()
                except Exception:  # the outermost loop of a task: an escape would leave a server that answers nothing
                    self.failures += 1
                    pause = min(_LONGEST_PAUSE, 0.1 * 2 ** min(self.failures, 10))
                    logger.exception("Following the store failed (%d in a row); again in %.1f s", self.failures, pause)
                    await anyio.sleep(pause)

    async def states(self) -> frozenset[tuple[str, str]]:
        """Each source with its state: what ``xdr://status`` is told for."""
        return frozenset((state.source, state.health.state) for state in await self._store.states())

    async def prepare(self, uris: Iterable[str]) -> None:
        """What has to be known before the first notification about these can be right."""
        if any(isinstance(topic_of(uri), Status) for uri in uris) and Status() not in self.watches:
            self._states = await self.states()

    async def _step(self, later: TaskGroup) -> None:
        if await self._store.wait(self._seen, _IDLE_WAIT):
            await self._catch_up(later)
        if Status() in self.watches and anyio.current_time() - self._states_at >= _IDLE_WAIT:
            self._states_at = anyio.current_time()
            await self._compare_states(later)

    async def _catch_up(self, later: TaskGroup) -> None:
        if not self.watches.need_changes:
            version, last = self.watches.version, await self._store.last_seq()
            if version == self.watches.version:  # or else somebody began to watch one of the changes just skipped
                self._seen = last
                await self._tell(later, [watch for watch in self.watches if isinstance(watch.topic, Recent)])
                return
        while changes := await self._store.changes(self._seen, _BATCH):
            await self._tell(later, await self._concerned(changes))
            self._seen = changes[-1].seq

    async def _concerned(self, changes: Sequence[Change]) -> list[Watch]:
        """The watches that these changes are for, but for searches that are to be told anyway."""
        ids = {change.alert.id for change in changes}
        concerned: list[Watch] = []
        searches: list[Watch] = []
        for watch in self.watches:
            match watch.topic:
                case Recent():
                    concerned.append(watch)
                case OneAlert(id=alert_id) if alert_id in ids:
                    concerned.append(watch)
                case Search() if not watch.waiting:
                    searches.append(watch)
        return concerned + await self._matched(searches, changes)

    async def _matched(self, searches: list[Watch], changes: Sequence[Change]) -> list[Watch]:
        """The searches that one of the changes matches, before it or after it."""
        matched: list[Watch] = []
        for change in changes:
            if not searches:
                break
            sides = [matcher(side) for side in (change.alert, change.before) if side is not None]
            hits = [watch for watch in searches if any(side(self._query(watch)) for side in sides)]
            matched += hits
            searches = [watch for watch in searches if watch not in hits]
            await anyio.lowlevel.checkpoint()  # many queries over many changes: let others have a turn
        return matched

    def _query(self, watch: Watch) -> Query:
        return watch.query(self._clock())

    async def _compare_states(self, later: TaskGroup) -> None:
        before, self._states = self._states, await self.states()
        if before is not None and before != self._states:
            await self._tell(later, [watch for watch in self.watches if isinstance(watch.topic, Status)])

    async def _tell(self, later: TaskGroup, watches: Iterable[Watch]) -> None:
        """At once where the last time is long ago, at the end of the window where it is not; the next is then wider."""
        for watch in watches:
            if watch.waiting:
                continue
            if anyio.current_time() - watch.told_at >= watch.widened * self._window:
                watch.widened = 1
                await self._publish(watch)
            else:
                watch.waiting = True
                later.start_soon(self._publish_later, watch)

    async def _publish_later(self, watch: Watch) -> None:
        try:
            await anyio.sleep_until(watch.told_at + watch.widened * self._window)
        finally:
            watch.waiting = False
        watch.widened = min(WIDEST, 2 * watch.widened)
        await self._publish(watch)

    async def _publish(self, watch: Watch) -> None:
        watch.told_at = anyio.current_time()
        for uri in tuple(watch.spellings):
            await self.bus.publish(ResourceUpdated(uri=uri))


class Streams:
    """``subscriptions/listen``: the SDK's handler, told apart from it what is watched, and closable at shutdown."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._listen = ListenHandler(notifier.bus, max_subscriptions=STREAMS, max_buffered_events=_BACKLOG)

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream until the client leaves or ``close``."""
        uris = [str(uri) for uri in params.notifications.resource_subscriptions or ()]
        if len(uris) > PER_CONNECTION:
            raise MCPError(INVALID_PARAMS, f"A stream may watch {PER_CONNECTION} resources, not {len(uris)}")
        self._notifier.watches.check(uris)
        await self._notifier.prepare(uris)
        with self._notifier.watches.watching(uris):
            return await self._listen(ctx, params)

    def close(self) -> None:
        """End every stream gracefully: each client is told that it ended on purpose."""
        self._listen.close()


class Peer:
    """One connection of the older era: its URIs, and what is yet to be sent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.uris: set[str] = set()
        self.unsent: dict[str, None] = {}
        self.sending = False


class Peers:
    """``resources/subscribe`` and ``resources/unsubscribe``, and the sending that goes with them.

    A publisher never waits for a client: it marks a URI as unsent, and one task per busy peer writes. A peer that takes
    nothing for five seconds is dropped.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._peers: dict[int, Peer] = {}
        self._senders: TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver as long as the context is open."""
        async with anyio.create_task_group() as senders:
            self._senders = senders
            unsubscribe = self._notifier.bus.subscribe(self._mark)
            try:
                yield
            finally:
                unsubscribe()
                self._senders = None
                senders.cancel_scope.cancel()

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        """Watch one resource until unsubscribed or disconnected."""
        uri, peer = str(params.uri), self._peer_of(ctx)
        if uri in peer.uris:
            return EmptyResult()
        if len(peer.uris) >= PER_CONNECTION:
            raise MCPError(INVALID_PARAMS, f"A connection may watch {PER_CONNECTION} resources", {"uri": uri})
        self._notifier.watches.check([uri])
        await self._notifier.prepare([uri])
        if uri not in peer.uris and id(peer.connection) in self._peers:
            peer.uris.add(uri)
            self._notifier.watches.add(uri)
        return EmptyResult()

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        """Watch it no longer. Harmless when it was not watched."""
        uri, peer = str(params.uri), self._peer_of(ctx)
        if uri in peer.uris:
            peer.uris.discard(uri)
            peer.unsent.pop(uri, None)
            self._notifier.watches.discard(uri)
        return EmptyResult()

    def _peer_of(self, ctx: ServerRequestContext[Any, Any]) -> Peer:
        connection = ctx.session._connection  # noqa: SLF001 (a session is made per request; only this is per client)
        if not connection.has_standalone_channel:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
        peer = self._peers.get(id(connection))
        if peer is None:
            peer = self._peers[id(connection)] = Peer(connection)
            connection.exit_stack.callback(self._drop, peer)
        return peer

    def _mark(self, event: ServerEvent) -> None:
        if not isinstance(event, ResourceUpdated) or self._senders is None:
            return
        for peer in self._peers.values():
            if event.uri in peer.uris:
                peer.unsent[event.uri] = None
                if not peer.sending:
                    peer.sending = True
                    self._senders.start_soon(self._send, peer)

    async def _send(self, peer: Peer) -> None:
        try:
            while peer.unsent:
                uri = next(iter(peer.unsent))
                del peer.unsent[uri]
                with anyio.fail_after(_SEND_LIMIT):
                    await peer.connection.send_resource_updated(uri)
        except TimeoutError:
            logger.warning("A client took no notification for %.0f s; it is told nothing more", _SEND_LIMIT)
            self._drop(peer)
        except Exception:  # the outermost loop of a task: one broken client must not end the others
            logger.exception("Notifying a client failed; it is told nothing more")
            self._drop(peer)
        finally:
            peer.sending = False

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(id(peer.connection), None) is not None:
            for uri in peer.uris:
                self._notifier.watches.discard(uri)
            peer.uris.clear()
            peer.unsent.clear()


def install(mcp: MCPServer[Any], streams: Streams, peers: Peers) -> None:
    """Serve both eras' methods, and say so in what ``initialize`` and ``server/discover`` answer."""
    low = mcp._lowlevel_server  # noqa: SLF001 (the way the SDK's migration guide gives; a public one is planned)
    low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, streams)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, peers.subscribe)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, peers.unsubscribe)
