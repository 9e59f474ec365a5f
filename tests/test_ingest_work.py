"""What taking an alert in costs, counted rather than timed, so that a regression fails without a clock.

SQL statements are counted in ``store/test_sqlite_plans.py``, syncs of the store in ``store/test_sqlite_faults.py``, calls to the
file system of an archived batch in ``sinks/test_archive.py``.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import msgspec
import pytest
from model_vendor import START
from pydantic import SecretStr
from remembered import Remembered

from xdr_mcp.interfaces import Page, Window
from xdr_mcp.simulator.bulk import Catalogue, bulk_revisions
from xdr_mcp.simulator.company import Company
from xdr_mcp.sources.xdr import XdrClient, XdrOptions, XdrSource, to_alert
from xdr_mcp.store.sqlite.file import migrations, open_writer
from xdr_mcp.store.sqlite.saving import save_page
from xdr_mcp.store.sqlite.versions import make_forms, prepare
from xdr_mcp.vendor_json import split, to_page

pytestmark = pytest.mark.anyio

ALERTS = 200


@pytest.fixture(scope="module")
def records() -> list[bytes]:
    """Alerts as the vendor writes them."""
    catalogue = Catalogue(1, Company(1))
    stamps = range(1_764_000_000_000, 1_764_000_000_000 + ALERTS)
    return [catalogue.write(one) for one in bulk_revisions(1, 0, stamps, catalogue)]


@pytest.fixture(scope="module")
def body(records: list[bytes]) -> bytes:
    """An answer of the vendor."""
    return b'{"data":[' + b",".join(records) + b"]}"


def calls(work: Callable[[], object]) -> Counter[str]:
    """How often each function is called while ``work`` runs, built-in or not."""
    told: Counter[str] = Counter()

    def note(frame: FrameType, event: str, function: Any) -> None:
        if event in {"call", "c_call"}:
            told[function.__qualname__ if event == "c_call" else frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return told


def steps(work: Callable[[], object]) -> int:
    """How many instructions of Python's own machine ``work`` takes, beside what built-in functions do."""
    with counted_steps() as told:
        work()
    return told()


@contextmanager
def counted_steps() -> Iterator[Callable[[], int]]:
    """Count the instructions that this thread takes meanwhile."""
    told = 0

    def note(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal told
        told += event == "opcode"
        return note

    def begin(frame: FrameType, _event: str, _argument: object) -> Any:
        frame.f_trace_opcodes = True
        return note

    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for a frame that asks for them when tracing begins
    sys.settrace(begin)
    try:
        yield lambda: told
    finally:
        sys.settrace(None)
    assert told, "this Python tells of no instructions"


def taken(body: bytes) -> Page:
    return to_page(split(body, "data"), lambda record: to_alert("xdr", record), START)


def test_a_record_is_decoded_once_and_each_page_twice(body: bytes) -> None:
    told = calls(lambda: taken(body))
    assert told["Decoder.decode"] == ALERTS + 2  # the list, then what stands beside it, are only cut
    assert told["_list_first"] == 1
    assert told["_list_anywhere"] == 0  # goes through the whole page first, and then through its list


def test_a_record_is_made_an_alert_in_a_bounded_number_of_steps_and_calls(body: bytes) -> None:
    """2,500 and 260 when this was written, 3,450 and 350 when each field's name was looked up in each record."""
    taken(body)  # what is remembered of names and values that come back is remembered
    assert steps(lambda: taken(body)) / ALERTS < 2_900
    assert sum(calls(lambda: taken(body)).values()) / ALERTS < 310


def test_fields_that_come_and_go_are_known_by_their_names(records: list[bytes]) -> None:
    """2,980 steps when this was written, 4,380 when the names of each new set of fields were spelled out again."""
    names = [name for name in msgspec.json.decode(records[0])["attributes"] if name != "updatedAt"]
    varied = [msgspec.json.decode(record) for record in records]
    for number, record in enumerate(varied):
        del record["attributes"][names[number % len(names)]]
        record["attributes"][f"x-{number}"] = 1
    body = msgspec.json.encode({"data": varied})
    assert steps(lambda: taken(body)) / ALERTS < 3_500


async def test_the_event_loop_hardly_looks_at_a_single_alert(records: list[bytes]) -> None:
    """12 steps an alert when this was written: whether it was seen before. One look at the time of each would take 60 more."""
    await steps_on_the_loop(records)  # what is loaded at first is loaded
    fewer, more = ALERTS * 3 // 5, ALERTS
    few, many = [await steps_on_the_loop(records[:count]) for count in (fewer, more)]
    assert (many - few) / (more - fewer) < 30


async def steps_on_the_loop(records: list[bytes]) -> int:
    """What it takes this thread to read a list of one page, which is decoded in another."""

    async def answer(request: httpx.Request) -> httpx.Response:
        wanted = request.url.params
        first = int(wanted["page[offset]"]) if "page[offset]" in wanted else 0
        page = records[first : first + int(wanted["page[limit]"])]
        return httpx.Response(
            200, content=b'{"data":[%b],"meta":{"totalRecords":%d}}' % (b",".join(page), len(records))
        )

    options = XdrOptions(
        base_url="https://xdr.example", auth_token=SecretStr("t"), max_alerts_per_poll=len(records) + 1
    )
    async with XdrClient(options, transport=httpx.MockTransport(answer)) as client:
        source = XdrSource("xdr", client, Remembered())
        with counted_steps() as told:
            pages = [page async for page in source.pages(Window(START - timedelta(days=3650), START), live=True)]
    assert sum(len(page.records) for page in pages) >= len(records)
    return told()


def test_an_alert_is_written_once_read_back_once_and_its_record_hashed_once(body: bytes) -> None:
    page = taken(body)

    def work() -> None:
        make_forms(prepare(page).versions, set())

    told = calls(work)
    assert (told["Encoder.encode"], told["Decoder.decode"], told["openssl_sha256"]) == (ALERTS, ALERTS, ALERTS)


def test_of_a_record_that_is_known_nothing_is_made_but_its_digest(body: bytes) -> None:
    page = taken(body)
    known = {(version.uid, version.updated, version.digest) for version in prepare(page).versions}
    told = calls(lambda: make_forms(prepare(page).versions, known))
    assert told["openssl_sha256"] == ALERTS
    assert told["Encoder.encode"] + told["Decoder.decode"] == 0


def test_a_record_that_is_compared_with_many_versions_is_itself_decoded_once(body: bytes) -> None:
    one, *others = prepare(taken(body)).versions

    def work() -> None:
        assert not any(one.same_content(other.record.raw) for other in others)

    assert calls(work)["json_decode"] == 1 + len(others)


def test_an_alert_takes_a_bounded_number_of_calls(body: bytes) -> None:
    """400 of all kinds when this was written, and they are most of the time: a quarter more is to be a decision."""
    taken(body)  # what is remembered of values that come back is remembered
    told = calls(lambda: make_forms(prepare(taken(body)).versions, set()))
    assert sum(told.values()) / ALERTS < 500


def test_what_an_alert_is_kept_as_takes_a_bounded_number_of_steps(body: bytes) -> None:
    """1,020 when this was written, nearly all of them for what it is found by; 1,900 when only folded values were remembered."""
    make_forms(prepare(taken(body)).versions, set())  # what is remembered of parts that come back is remembered
    versions = prepare(taken(body)).versions
    assert steps(lambda: make_forms(versions, set())) / ALERTS < 1_250


def test_an_alert_is_entered_in_a_bounded_number_of_steps(body: bytes, tmp_path: Path) -> None:
    """380 when this was written, while the store is locked: rows are made before."""
    prepared = prepare(taken(body))
    make_forms(prepared.versions, set())
    connection = open_writer(tmp_path / "store.db", migrations())
    connection.execute("BEGIN")
    told = steps(lambda: save_page(connection, prepared, source="xdr", lease="poll:xdr", now=START))
    connection.close()
    assert told / ALERTS < 450


def test_the_cycle_collector_looks_through_nothing_of_a_page(body: bytes) -> None:
    taken(body)
    gc.collect()
    before = len(gc.get_objects())
    page = taken(body)
    gc.collect()
    assert len(gc.get_objects()) - before < len(page.records) / 10


def test_nothing_of_a_page_that_is_ready_is_looked_through_for_cycles(body: bytes) -> None:
    page = taken(body)
    gc.collect()
    before = len(gc.get_objects())
    prepared = prepare(page)
    make_forms(prepared.versions, set())
    gc.collect()  # tuples of text and numbers are seen to be harmless
    assert len(gc.get_objects()) - before < ALERTS / 4


def test_a_record_is_copied_once_out_of_its_page(body: bytes) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        page = taken(body)
        held = sum(len(record.raw) for record in page.records)
        del page
        _, peak = tracemalloc.get_traced_memory()
        assert held <= len(body)
        assert peak - before < 1.8 * len(body)  # the copy, and the alerts; the values of no more than one record
    finally:
        tracemalloc.stop()
