"""Freed memory goes back to the system, or stays for the next arrays."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoem.memory import free_memory_bytes, give_back_freed_memory

STATM = Path("/proc/self/statm")


def _resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


needs_glibc = pytest.mark.skipif(
    not STATM.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="needs /proc and the GNU C library",
)


@needs_glibc
def test_what_freed_arrays_have_left_is_given_back() -> None:
    blocks, between = [], []
    for _ in range(1000):  # too small for mappings of their own; what lies between them stays
        blocks.append(np.ones(100_000, np.uint8))
        between.append(np.ones(2_000, np.uint8))
    blocks.clear()
    before = _resident_bytes()
    give_back_freed_memory()
    assert before - _resident_bytes() > 80e6
    assert free_memory_bytes() > 80e6
    assert len(between) == 1000


# Pages that the system had to give, for twenty blocks of 100 MB of which one exists at a time. From
# the library itself: what else a tensor allocates may lie in the way of the next.
PAGES = """
import ctypes, resource
from cryoem.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = library.malloc(100_000_000)
    ctypes.memset(block, 1, 100_000_000)
    library.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@needs_glibc
def test_what_is_kept_serves_the_next_arrays() -> None:
    def pages(keep: bool) -> int:
        command = [sys.executable, "-c", PAGES.format(keep=keep)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert 2 * pages(keep=True) < pages(keep=False)
