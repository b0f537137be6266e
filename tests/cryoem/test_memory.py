"""Freed memory goes back to the system."""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from cryoem.memory import free_memory_bytes, give_back_freed_memory

STATM = Path("/proc/self/statm")


def _resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not STATM.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="needs /proc and the GNU C library",
)
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
