"""Freed memory goes back to the system, or stays for the next arrays.

In processes of their own: where a heap that has been in use puts the next blocks is its affair.
"""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from cryoem.memory import free_memory_bytes

needs_glibc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="needs /proc and the GNU C library",
)

# Bytes that stop being resident. The blocks are too small for mappings of their own, and what lies
# between them stays.
RELEASED = """
import os
import numpy as np
from cryoem.memory import give_back_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks, between = [], []
for _ in range(1000):
    blocks.append(np.ones(100_000, np.uint8))
    between.append(np.ones(2_000, np.uint8))
blocks.clear()
before = resident()
give_back_freed_memory()
print(before - resident())
assert len(between) == 1000
"""

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


def _printed(program: str) -> int:
    command = [sys.executable, "-c", program]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@needs_glibc
def test_what_freed_arrays_have_left_is_given_back() -> None:
    assert _printed(RELEASED) > 80e6
    assert free_memory_bytes() > 80e6


@needs_glibc
def test_what_is_kept_serves_the_next_arrays() -> None:
    assert 2 * _printed(PAGES.format(keep=True)) < _printed(PAGES.format(keep=False))
