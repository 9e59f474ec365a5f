"""What every source that can be written to owes (``interfaces.Triage``), asked of each one in the same words."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import fake_graph
import fake_xdr
import pytest
import stamina
from fake_graph import FakeGraph
from fake_xdr import FakeXdr
from msgspec import structs
from remembered import Remembered
from starlette.responses import JSONResponse

from xdr_mcp.alert import Status, Verdict
from xdr_mcp.errors import NotFound, SourceError, TriageError, Unavailable
from xdr_mcp.interfaces import Record, Triage
from xdr_mcp.proposal import TriageChange
from xdr_mcp.sources import source_types

pytestmark = pytest.mark.anyio

MARK = "xdr-mcp 7-1a2b3c4d"
CREATED = "2026-05-01T00:00:00.000Z"


class WritableVendor(ABC):
    """One tenant that can be written to."""

    type: str
    fake: Any
    """A ``FakeGraph`` or a ``FakeXdr``."""

    @abstractmethod
    def put(self, vendor_id: str, **told: Any) -> None:
        """An alert, as the vendor words it."""

    @property
    @abstractmethod
    def comments(self) -> list[str]:
        """What was added as a comment, in order."""

    @abstractmethod
    def serving(self) -> Any:
        """Behind a socket; a context with the base URL."""

    @abstractmethod
    def options(self, url: str) -> dict[str, Any]:
        """The source's settings."""

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[Any]:
        kind = source_types()[self.type]
        async with self.serving() as url:
            told = kind.Options(**self.options(url) | options)
            async with kind.open("acme", told, Remembered()) as source:
                yield source


class Graph(WritableVendor):
    type = "microsoft"

    def __init__(self) -> None:
        self.fake = FakeGraph()

    def put(self, vendor_id: str, **told: Any) -> None:
        times = {"createdDateTime": CREATED, "lastUpdateDateTime": CREATED}
        self.fake.put({"id": vendor_id, "title": "Beacon", "status": "new", **times} | told)

    @property
    def comments(self) -> list[str]:
        return [body["comment"] for body in self.fake.written if "comment" in body]

    def serving(self) -> Any:
        return fake_graph.serving(self.fake)

    def options(self, url: str) -> dict[str, Any]:
        return fake_graph.options(url)


class Xdr(WritableVendor):
    type = "xdr"

    def __init__(self) -> None:
        self.fake = FakeXdr()

    def put(self, vendor_id: str, **told: Any) -> None:
        attributes = {"name": "Beacon", "status": "NEW", "createdAt": CREATED, "updatedAt": CREATED}
        self.fake.put({"id": vendor_id, "type": "alert", "attributes": attributes | told})

    @property
    def comments(self) -> list[str]:
        return [body["note"] for body in self.fake.written if "note" in body]

    def serving(self) -> Any:
        return fake_xdr.serving(self.fake)

    def options(self, url: str) -> dict[str, Any]:
        return {"base_url": url, "auth_token": fake_xdr.TOKEN, "requests_per_minute": 60_000, "write_back": True}


@pytest.fixture(params=[Graph, Xdr], ids=["microsoft", "xdr"])
def vendor(request: pytest.FixtureRequest) -> WritableVendor:
    made: WritableVendor = request.param()
    return made


@pytest.fixture
async def triage(vendor: WritableVendor) -> AsyncIterator[Triage]:
    vendor.put("a1")
    async with vendor.opened() as source:
        yield source.triage


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


async def apply(triage: Triage, vendor_id: str, change: TriageChange) -> Record:
    """Send all that is lacking; the alert afterwards."""
    for request in triage.plan(await triage.read(vendor_id), change, MARK).requests:
        await triage.send(request)
    return await triage.read(vendor_id)


def values(record: Record) -> dict[str, Any]:
    return {name: getattr(record.alert, name) for name in ("status", "verdict", "assignee")}


async def test_every_status_and_verdict_that_it_says_it_takes_is_read_back_as_such(
    vendor: WritableVendor, triage: Triage
) -> None:
    asked = [TriageChange(status=status) for status in triage.takes.statuses]
    asked += [TriageChange(status=Status.RESOLVED, verdict=verdict) for verdict in triage.takes.verdicts]
    for number, change in enumerate(asked):
        vendor.put(f"b{number}")
        after = await apply(triage, f"b{number}", change)
        assert (after.alert.status, after.alert.verdict) == (change.status, change.verdict or Verdict.UNKNOWN)


async def test_status_verdict_and_assignee_can_be_put_back(triage: Triage) -> None:
    told: dict[str, Any] = {
        "status": Status.RESOLVED,
        "verdict": Verdict.FALSE_POSITIVE,
        "assignee": "alice@example.com",
    }
    assert values(await apply(triage, "a1", TriageChange(**told))) == told
    before: dict[str, Any] = {"status": Status.NEW, "verdict": Verdict.UNKNOWN, "assignee": ""}
    assert values(await apply(triage, "a1", TriageChange(**before))) == before


async def test_a_plan_says_what_the_alert_will_be_and_sends_nothing(vendor: WritableVendor, triage: Triage) -> None:
    before = await triage.read("a1")
    change = TriageChange(status=Status.RESOLVED, verdict=Verdict.FALSE_POSITIVE, assignee="alice", comment="Known.")
    plan = triage.plan(before, change, MARK)
    assert vendor.fake.written == []
    after = await apply(triage, "a1", change)
    assert values(after) == values(Record(plan.after, b""))


async def test_what_is_in_place_is_not_sent_again(vendor: WritableVendor, triage: Triage) -> None:
    change = TriageChange(status=Status.RESOLVED, verdict=Verdict.FALSE_POSITIVE, assignee="alice", comment="Known.")
    after = await apply(triage, "a1", change)
    written = len(vendor.fake.written)
    assert triage.plan(after, change, MARK).requests == ()
    await apply(triage, "a1", change)
    assert len(vendor.fake.written) == written
    assert len(triage.plan(after, change, "xdr-mcp 8-ffffffff").requests) == 1


async def test_only_what_differs_is_sent(vendor: WritableVendor, triage: Triage) -> None:
    await apply(triage, "a1", TriageChange(assignee="alice"))
    (written,) = vendor.fake.written
    assert list(written) == [{"microsoft": "assignedTo", "xdr": "assignee"}[vendor.type]]


async def test_a_comment_carries_its_mark_and_what_was_there_stays(vendor: WritableVendor, triage: Triage) -> None:
    await apply(triage, "a1", TriageChange(comment="first"))
    for request in triage.plan(await triage.read("a1"), TriageChange(comment="second"), "xdr-mcp 8-ffffffff").requests:
        await triage.send(request)
    assert vendor.comments == [f"first\n[{MARK}]", "second\n[xdr-mcp 8-ffffffff]"]
    raw = (await triage.read("a1")).raw
    assert b"first" in raw
    assert b"second" in raw


async def test_a_request_that_adds_is_sent_once_though_its_answer_is_lost(
    vendor: WritableVendor, triage: Triage
) -> None:
    change = TriageChange(comment="Known.")
    vendor.fake.canned.append(JSONResponse({}, 503))
    with pytest.raises(Unavailable):
        await apply(triage, "a1", change)
    assert len(vendor.comments) == 1
    await apply(triage, "a1", change)
    assert len(vendor.comments) == 1


async def test_a_request_that_sets_is_patient(vendor: WritableVendor, triage: Triage) -> None:
    vendor.fake.canned.append(JSONResponse({}, 503))
    after = await apply(triage, "a1", TriageChange(status=Status.IN_PROGRESS))
    assert after.alert.status is Status.IN_PROGRESS
    assert len(vendor.fake.written) == 2


async def test_an_alert_that_is_not_there_is_not_found(triage: Triage) -> None:
    with pytest.raises(NotFound):
        await triage.read("nowhere")


async def test_a_hostile_id_stays_one_segment_of_the_path(vendor: WritableVendor, triage: Triage) -> None:
    with pytest.raises(NotFound):
        await triage.read("../a1/..%2f?x=#y")
    hostile = Record(structs.replace((await triage.read("a1")).alert, vendor_id="../../a1?x=#y"), b"")
    for request in triage.plan(hostile, TriageChange(comment="x"), MARK).requests:
        with pytest.raises(NotFound):
            await triage.send(request)
    assert vendor.fake.written == []


@pytest.mark.parametrize("vendor_id", ["", ".", "..", "..."])
async def test_an_id_that_a_path_takes_for_another_place_is_refused_in_words(triage: Triage, vendor_id: str) -> None:
    hostile = Record(structs.replace((await triage.read("a1")).alert, vendor_id=vendor_id), b"")
    with pytest.raises(SourceError, match="cannot be asked for by its id"):
        await triage.read(vendor_id)
    with pytest.raises(SourceError, match="cannot be asked for by its id"):
        triage.plan(hostile, TriageChange(comment="x"), MARK)


async def test_what_is_shown_of_a_request_is_the_path_that_is_sent(triage: Triage) -> None:
    odd = Record(structs.replace((await triage.read("a1")).alert, vendor_id="a/1?x"), b"")
    (request,) = triage.plan(odd, TriageChange(status=Status.RESOLVED), MARK).requests
    assert request.path.endswith("/a%2F1%3Fx")


# ---------------------------------------------------------------- each vendor's own words


async def test_graph_is_told_a_verdict_as_classification_and_determination() -> None:
    vendor = Graph()
    vendor.put("a1", assignedTo="bob")
    async with vendor.opened() as source:
        await apply(source.triage, "a1", TriageChange(verdict=Verdict.TEST, assignee="", status=Status.RESOLVED))
    assert vendor.fake.written == [
        {
            "status": "resolved",
            "classification": "informationalExpectedActivity",
            "determination": "securityTesting",
            "assignedTo": None,
        }
    ]


async def test_graph_without_the_permission_says_which() -> None:
    vendor = Graph()
    vendor.put("a1")
    vendor.fake.may_write = False
    async with vendor.opened() as source:
        with pytest.raises(Exception, match=r"SecurityAlert\.ReadWrite\.All"):
            await apply(source.triage, "a1", TriageChange(status=Status.RESOLVED))


async def test_the_xdr_api_is_written_to_only_where_its_option_says_so() -> None:
    vendor = Xdr()
    async with vendor.opened(write_back=False) as source:
        assert source.triage is None
    async with vendor.opened(auth_token="dev-dummy-token") as source:
        assert source.triage is None


async def test_the_xdr_api_says_a_false_positive_by_closing() -> None:
    vendor = Xdr()
    vendor.put("a1")
    async with vendor.opened() as source:
        with pytest.raises(TriageError, match="give both"):
            await apply(source.triage, "a1", TriageChange(verdict=Verdict.FALSE_POSITIVE))
        await apply(source.triage, "a1", TriageChange(verdict=Verdict.FALSE_POSITIVE, status=Status.RESOLVED))
        plan = source.triage.plan(await source.triage.read("a1"), TriageChange(status=Status.IN_PROGRESS), MARK)
    assert vendor.fake.written == [{"status": "ACK_FP"}]
    assert plan.after.verdict is Verdict.UNKNOWN
    assert json.loads(json.dumps(plan.requests[0].body)) == {
        "data": {"id": "a1", "type": "alert", "attributes": {"status": "IN_PROGRESS"}}
    }
