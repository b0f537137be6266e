"""How much memory a search may take for what it only holds for a moment."""

import torch

from cryoem.memory import free_memory_bytes

# More does not help: a processor's caches, or kernels that already fill a device.
_MOST = {"cpu": 1 << 27, "cuda": 1 << 32}


def search_memory_bytes(device: torch.device) -> int:
    """A quarter of what is free on the device, within reason."""
    return min(free_memory_bytes(device) // 4, _MOST.get(device.type, 1 << 28))
