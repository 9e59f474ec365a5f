"""What is done to the process before the store is opened."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys

import pytest

_HEAPS = """
import ctypes, sys, threading
from xdr_mcp.opening import suit_python

suit_python()
gate = threading.Barrier(4)

def work():
    gate.wait()
    return [bytes(size) for size in range(1_000, 100_000, 1_000)]

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
del threads, thread
bytes(30_000_000)  # glibc would no longer map what is smaller than the largest that was given back
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
large = bytes(25_000_000)  # more than is free in the heap, which is asked first
libc.malloc_info(0, out)
readings = [bytes(256 * 1_024) for _ in range(100)]
libc.malloc_info(0, out)
libc.fflush(out)
"""


_WITHOUT = """
import sys
sys.modules["_ctypes"] = None
from xdr_mcp.opening import suit_python
suit_python()
"""


def told_by(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20
    ).stdout


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_threads_share_one_heap_and_a_large_page_has_a_mapping_of_its_own() -> None:
    told = told_by(_HEAPS)
    assert told.count("<heap nr=") == 3  # one each time
    before, large, readings = map(int, re.findall(r'<total type="mmap" count="(\d+)"', told))
    assert (large, readings) == (before + 1, before + 1)  # what asyncio sets aside for a reading is in the heap


def test_a_python_without_libffi_will_do() -> None:
    told_by(_WITHOUT)
