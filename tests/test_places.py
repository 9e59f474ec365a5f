from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from xdr_mcp.places import Places


def test_all_that_begin_at_once_sign_with_one_key_whatever_their_process_number(tmp_path: Path) -> None:
    together = Barrier(4)  # threads share a number, as processes in containers do: each is the first in its own

    def begin(places: Places) -> bytes:
        together.wait(5)
        return places.cursor_key()

    with ThreadPoolExecutor(4) as threads:
        for number in range(100):
            folder = tmp_path / str(number)
            folder.mkdir()
            keys = {*threads.map(begin, [Places(folder, folder)] * 4)}
            assert keys == {(folder / "cursor.key").read_bytes()}
            assert [path.name for path in folder.iterdir()] == ["cursor.key"]
