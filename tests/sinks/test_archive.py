from __future__ import annotations

import json
import os
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import msgspec
import pytest
from changes import change
from disk_edge import DiskEdge
from hypothesis import given
from model_vendor import START, record
from msgspec import structs
from strategies import moments

from xdr_mcp.delivery import Delivery
from xdr_mcp.errors import ChangeRefused, SinkError
from xdr_mcp.interfaces import Page
from xdr_mcp.lease import TTL
from xdr_mcp.sinks.archive import WRITING, Archive, file_name
from xdr_mcp.store import open_store

pytestmark = pytest.mark.anyio

HOSTILE_IDS = [
    "../../etc/passwd",
    "..",
    "/absolute",
    "a/b\\c",
    "nul\x00byte",
    "new\nline",
    "CON",
    "aux.json",
    "trailing.",
    " ",
    "",
    "x" * 5000,
    "Case",
    "case",
    "CASE",
    "caf\u00e9",
    "cafe\u0301",
    "\u202egnp.exe",
    "\U0001f4a5",
    "%2e%2e%2f",
    "a*b?c<d>e|f",
    "$(rm -rf)",
    "-rf",
]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_a_revision_is_one_file_with_the_alert_the_raw_record_and_its_provenance(tmp_path: Path) -> None:
    await Archive(tmp_path, version="1.2.3").send([change("A-1", seq=7)])
    (path,) = files(tmp_path)
    content = json.loads(path.read_bytes())
    assert list(content) == ["provenance", "alert", "raw"]
    assert content["provenance"] == {
        "source": "model",
        "revision": 1,
        "change": "created",
        "seq": 7,
        "fetched_at": "2026-11-01T12:30:00Z",
        "saved_at": "2026-11-01T12:30:00Z",
        "written_by": "xdr-mcp 1.2.3",
    }
    assert content["alert"]["id"] == "model/A-1"
    assert content["raw"] == {"id": "A-1", "updatedAt": "2026-11-01T12:30:00Z"}


def test_the_name_has_the_form_alert_id_timestamp() -> None:
    assert file_name(change("0d5c1f6e-0001")).startswith("alert_0d5c1f6e-0001-")
    assert file_name(change("0d5c1f6e-0001")).endswith("_20261101T123000.000000Z.json")


@given(moments)
def test_the_timestamp_is_the_vendors_to_the_microsecond_in_utc(moment: datetime) -> None:
    made = change("a")
    made = structs.replace(made, body=msgspec.json.encode(structs.replace(made.alert, updated=moment)))
    at = moment.astimezone(UTC)
    year = at.strftime("%Y") if moment.year < 1000 else f"{at.year:04}"
    assert file_name(made).endswith(f"_{year}{at:%m%dT%H%M%S.%f}Z.json")


async def test_an_update_is_a_file_of_its_own_even_when_the_vendors_time_did_not_move(tmp_path: Path) -> None:
    await Archive(tmp_path, version="1").send([change("a"), change("a", revision=2, seq=2, title="changed")])
    assert len(files(tmp_path)) == 2


async def test_a_change_that_is_sent_again_writes_nothing(tmp_path: Path) -> None:
    archive = Archive(tmp_path, version="1")
    await archive.send([change("a")])
    before = files(tmp_path)[0].stat()
    await Archive(tmp_path, version="1").send([change("a")])
    after = files(tmp_path)[0].stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(files(tmp_path)) == 1


async def test_hostile_ids_stay_inside_the_folder_and_apart(tmp_path: Path) -> None:
    folder = tmp_path / "alerts"
    await Archive(folder, version="1").send([change(vendor_id) for vendor_id in HOSTILE_IDS])
    assert [path for path in files(tmp_path) if folder not in path.parents] == []
    names = {path.name.lower() for path in files(folder)}
    assert len(names) == len(HOSTILE_IDS)
    assert all(name.isascii() and len(name) < 120 for name in names)
    assert {json.loads(path.read_bytes())["alert"]["vendor_id"] for path in files(folder)} == set(HOSTILE_IDS)


async def test_two_sources_with_equal_vendor_ids_never_meet(tmp_path: Path) -> None:
    await Archive(tmp_path, version="1").send([change("1", source="north"), change("1", source="south")])
    assert len(files(tmp_path)) == 2


async def test_past_the_limit_files_go_to_folders_by_hour_and_none_is_written_twice(tmp_path: Path) -> None:
    archive = Archive(tmp_path, version="1", flat_limit=2)
    first = [change("a"), change("b")]
    second = [change("c"), change("d", minutes=60)]
    await archive.send(first)
    await archive.send(second)
    await Archive(tmp_path, version="1", flat_limit=2).send([*first, *second])
    places = {path.relative_to(tmp_path).parent.as_posix() for path in files(tmp_path)}
    assert places == {".", "2026-11-01/12", "2026-11-01/13"}
    assert len(files(tmp_path)) == 4


async def test_what_another_process_wrote_in_between_is_recognised(tmp_path: Path) -> None:
    archive, other = Archive(tmp_path, version="1", flat_limit=2), Archive(tmp_path, version="1", flat_limit=2)
    await archive.send([change("a")])
    await other.send([change("b"), change("c")])
    archive.begin()
    await archive.send([change("c")])
    assert len(files(tmp_path)) == 3


async def test_the_limit_of_files_in_the_folder_itself_holds_within_a_batch(tmp_path: Path) -> None:
    await Archive(tmp_path, version="1", flat_limit=2).send([change(name) for name in "abcde"])
    assert len(files(tmp_path)) == 5
    assert len([path for path in files(tmp_path) if path.parent == tmp_path]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such mode bits")
async def test_files_and_folders_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "alerts"
    await Archive(folder, version="1", flat_limit=0).send([change("a")])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")] if path.is_dir()}
    assert modes == {0o700}
    assert stat.S_IMODE(files(folder)[0].stat().st_mode) == 0o600


async def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / WRITING / "123-0"
    leftover.parent.mkdir()
    leftover.write_bytes(b'{"half')
    await Archive(tmp_path, version="1").send([change("a")])
    assert not leftover.exists()
    assert len(files(tmp_path)) == 1


def test_two_writers_in_containers_with_equal_process_numbers_write_to_different_temporary_files(
    tmp_path: Path,
) -> None:
    """One that was frozen past its lease goes on while its successor writes: in one file they would mix."""
    assert Archive(tmp_path, version="1")._own != Archive(tmp_path, version="1")._own


async def test_a_time_that_no_file_name_can_tell_is_refused_for_good(tmp_path: Path) -> None:
    made = change("a")
    early = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    impossible = structs.replace(made, body=msgspec.json.encode(structs.replace(made.alert, updated=early)))
    with pytest.raises(ChangeRefused):
        await Archive(tmp_path, version="1").send([impossible])


async def test_a_folder_that_cannot_be_made_is_told_with_the_remedy_and_taken_up_again(tmp_path: Path) -> None:
    blocked = tmp_path / "alerts"
    blocked.write_text("a file is in the way")
    archive = Archive(blocked, version="1")
    with pytest.raises(SinkError, match="XDR_ALERTS_DIR"):
        await archive.send([change("a")])
    blocked.unlink()
    await archive.send([change("a")])
    assert len(files(blocked)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="RLIMIT_FSIZE is POSIX")
async def test_a_write_that_fails_half_way_leaves_no_file_behind(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 (POSIX only)
    import signal  # noqa: PLC0415

    archive = Archive(tmp_path, version="1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(SinkError):
            await archive.send([change("small"), change("large", description="x" * 100_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert files(tmp_path) == []
    await archive.send([change("small"), change("large", description="x" * 100_000)])
    assert len(files(tmp_path)) == 2


async def test_a_batch_costs_one_flush_of_the_disk_and_a_few_calls_a_file(tmp_path: Path) -> None:
    edge = DiskEdge(tmp_path)
    with edge.in_place():
        await Archive(tmp_path, version="1").send([change(str(number)) for number in range(100)])
    told = Counter(edge.calls)
    assert (told["open"], told["rename"]) == (100, 100)
    assert told["syncfs"] + told["fsync"] <= 4
    assert sum(told.values()) - told["write"] <= 2 * 100 + 6


async def test_files_in_many_folders_cost_two_flushes_of_the_disk(tmp_path: Path) -> None:
    archive = Archive(tmp_path, version="1", flat_limit=0)
    await archive.send([change("first", minutes=60 * hour) for hour in range(24)])  # makes the folders
    edge = DiskEdge(tmp_path)
    with edge.in_place():
        await archive.send([change("second", minutes=60 * hour) for hour in range(24)])
    told = Counter(edge.calls)
    assert len({path.parent for path in files(tmp_path)}) == 24
    assert (told["syncfs"], told["fsync"]) == ((2, 0) if sys.platform == "linux" else (0, 24 + 24 + 3))


async def test_what_others_write_is_not_waited_for_when_one_alert_comes(tmp_path: Path) -> None:
    archive = Archive(tmp_path, version="1", flat_limit=0)
    await archive.send([change("first")])
    edge = DiskEdge(tmp_path)
    with edge.in_place():
        await archive.send([change("second")])
    assert Counter(edge.calls) >= Counter(
        {"open": 1, "fsync": 4, "rename": 1}
    )  # the file; the hour's folder and two above
    assert "syncfs" not in edge.calls


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each function is called meanwhile in threads that begin meanwhile: by name where it is built in, else as ""."""
    told: Counter[str] = Counter()

    def note(_frame: FrameType, event: str, function: Any) -> None:
        if event in {"call", "c_call"}:
            told[function.__qualname__ if event == "c_call" else ""] += 1

    threading.setprofile(note)
    try:
        yield told
    finally:
        threading.setprofile(None)


@pytest.mark.parametrize(("flat_limit", "looks"), [(1_000, 0), (0, 100)])
async def test_a_file_costs_four_calls_to_the_system_and_one_look_where_it_may_be_there(
    tmp_path: Path, flat_limit: int, looks: int
) -> None:
    """Each of them gives Python's lock away."""
    with counted() as told:
        await Archive(tmp_path, version="1", flat_limit=flat_limit).send([change(str(each)) for each in range(100)])
    assert (told["write"], told["rename"]) == (100, 100)
    assert 0 <= told["open"] - 100 <= 9
    assert 0 <= told["close"] - 100 <= 9
    assert 0 <= told["stat"] - looks <= 9


def test_a_stored_alert_is_archived_undecoded_and_with_a_bounded_number_of_calls(tmp_path: Path) -> None:
    """28 when this was written, in all threads but the event loop's."""
    changes = 300

    async def fill() -> None:
        async with open_store(tmp_path / "store.db") as store:
            lease = await store.acquire("poll:model", "test:1:a", TTL)
            assert lease is not None
            await store.save("model", Page(tuple(record(str(each), START) for each in range(changes)), START), lease)

    async def deliver() -> None:
        async with open_store(tmp_path / "store.db") as store:
            await Delivery(Archive(tmp_path / "alerts", version="1"), store, holder="test:1:a").drain()

    anyio.run(fill)
    with counted() as told:
        anyio.run(deliver)
    assert len(files(tmp_path / "alerts")) == changes
    assert told["Decoder.decode"] == changes  # what its name tells, and nothing else
    assert told["Encoder.encode"] == changes  # where it came from
    assert sum(told.values()) / changes < 35
