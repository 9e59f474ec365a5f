"""What is done to the process before the store is opened."""

from __future__ import annotations

import ctypes
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
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_threads_share_one_heap() -> None:
    told = subprocess.run([sys.executable, "-c", _HEAPS], capture_output=True, text=True, check=True, timeout=20).stdout
    assert told.count("<heap nr=") == 1
