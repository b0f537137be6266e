"""How much memory is free, and giving back what is not needed."""

import ctypes
import os
from collections.abc import Callable

import torch

# Options of mallopt, from malloc.h: blocks in mappings of their own, bytes to keep at the top.
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1


def free_memory_bytes(device: torch.device | None = None) -> int:
    """Memory that this process may still take on a device; on the host by default.

    For the host that is what the machine has left, or the container's limit if lower.
    """
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo") as lines:
            table = dict(line.split(":") for line in lines)
        free = int(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass  # not Linux
    try:
        with (
            open("/sys/fs/cgroup/memory.max") as limit,
            open("/sys/fs/cgroup/memory.current") as used,
        ):
            free = min(free, int(limit.read()) - int(used.read()))
    except (OSError, ValueError):
        pass  # no cgroup, or "max"
    return free


def give_back_freed_memory() -> None:
    """Return to the system what freed arrays have left in the heap of the GNU C library.

    It keeps blocks of up to 32 MB for later, which after a table of a million rows is several times
    what the table takes, and forked processes inherit them. Elsewhere there is nothing to do.
    """
    trim = _of_the_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """From now on the heap of the GNU C library keeps freed arrays of any size for the next ones.

    Otherwise each array above 32 MB, as the layers of a batch are, comes as new pages from the
    system, which fills them with zeros first: a training step on a processor spent up to half of
    its time on that. Elsewhere there is nothing to do.
    """
    set_option = _of_the_c_library("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, -1)


def _of_the_c_library(name: str) -> Callable[..., int] | None:
    """A function that only the GNU C library has."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
