"""Every store that the contract runs over, how a test fills one, and what it may be asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import strategies as st
from model_vendor import START, ManualClock
from strategies import moments

from xdr_mcp.alert import Alert
from xdr_mcp.interfaces import Lease, Page, Quarantined, Record, Saved, Store
from xdr_mcp.query import And, Comparison, Level, Moment, Node, Not, Or, Pattern, Term, Words, terms_of, texts_of
from xdr_mcp.store import open_store

TTL = timedelta(seconds=9)

Opener: TypeAlias = Callable[[Path, ManualClock], AbstractAsyncContextManager[Store]]


def sqlite(folder: Path, clock: ManualClock) -> AbstractAsyncContextManager[Store]:
    return open_store(folder / "store.db", clock=clock)


OPENERS = [pytest.param(sqlite, id="sqlite")]


def page(*records: Record, quarantined: tuple[Quarantined, ...] = ()) -> Page:
    return Page(records, START, quarantined)


async def lease_of(store: Store, name: str = "poll:model", holder: str = "me") -> Lease:
    lease = await store.acquire(name, holder, TTL)
    assert lease is not None
    return lease


async def save(store: Store, *records: Record, source: str = "model") -> Saved:
    return await store.save(source, page(*records), await lease_of(store))


def nodes(stored: list[Alert]) -> st.SearchStrategy[Node]:
    """Trees about what these alerts hold, and about what they do not."""
    pairs = sorted({pair for alert in stored for pair in terms_of(alert)} | {("host", "no-such"), ("label", "")})
    words = sorted({tuple(text.split()) for alert in stored for _, text in texts_of(alert) if text} | {("none",)})
    comparisons = st.sampled_from(Comparison)

    @st.composite
    def terms(draw: st.DrawFn) -> Node:
        field, value = draw(st.sampled_from(pairs))
        cuts = sorted(draw(st.lists(st.integers(0, len(value)), max_size=4)))
        pieces = [value[start:end] for start, end in zip([0, *cuts], [*cuts, len(value)], strict=True)]
        kept = [piece if index in {0, len(pieces) - 1} else piece[1:] for index, piece in enumerate(pieces)]
        blank = draw(st.booleans()) and len(kept) > 1
        return Term(field, Pattern(("", *kept[1:]) if blank else tuple(kept)))

    @st.composite
    def phrases(draw: st.DrawFn) -> Node:
        text = draw(st.sampled_from(words))
        start = draw(st.integers(0, len(text) - 1))
        chosen = list(text[start : draw(st.integers(start + 1, min(len(text), start + 4)))])
        prefix = draw(st.booleans())
        if prefix:
            chosen[-1] = chosen[-1][: draw(st.integers(1, len(chosen[-1])))]
        return Words(tuple(chosen), prefix, draw(st.sampled_from([None, "title", "description"])))

    ranks = st.builds(Level, st.sampled_from(["severity", "status", "verdict"]), comparisons, st.integers(-1, 7))
    large = st.integers(0, 100) | st.sampled_from([alert.count for alert in stored]) | st.integers(-(2**70), 2**70)
    numbers = st.builds(Level, st.sampled_from(["risk_score", "confidence", "count"]), comparisons, large)
    times = st.builds(
        Moment,
        st.sampled_from(["created", "updated", "first_seen", "last_seen"]),
        comparisons,
        moments | st.sampled_from([alert.created for alert in stored]),
    )
    leaves = st.one_of(terms(), phrases(), ranks, numbers, times)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
            st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
            inner.map(Not),
        ),
        max_leaves=6,
    )
