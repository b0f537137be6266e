"""Where the images live while a model trains: on disk, in memory, or on the device."""

import logging
import os

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.errors import InputError
from cryoem.fourier import fourier_crop
from cryoem.io.source import ParticleSource
from datamodules.dataset import check_finite, check_varied

log = logging.getLogger(__name__)
SHARE_OF_FREE_MEMORY = 0.4
PLACEMENTS = ("auto", "stream", "ram", "gpu")
_CHUNK = 256


class ImagesInMemory:
    """All images in one tensor, in the precision of the file, on the host or a device."""

    def __init__(self, images: Float[Tensor, "particle side side"]) -> None:
        self.images = images

    def read(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch side side"]:
        """Images of these rows, float32."""
        return self.images[index.to(self.images.device)].float()

    def move(self, device: torch.device) -> None:
        """Move to a device.

        Raises
        ------
        InputError
            If they do not fit.
        """
        if device.type == "cuda" and not self.images.is_cuda:
            free, _ = torch.cuda.mem_get_info(device)
            if self.images.nbytes > free:
                raise InputError(
                    f"data.placement=gpu: the images take {self.images.nbytes / 1e9:.1f} GB, "
                    f"{free / 1e9:.1f} GB are free on {device}; use data.placement=ram"
                )
        self.images = self.images.to(device)


def load_images(source: ParticleSource, box_size: int, dtype: torch.dtype) -> ImagesInMemory:
    """Read and crop every image once.

    Raises
    ------
    InputError
        If an image is not finite or has the same value everywhere.
    """
    n = len(source.table)
    images = torch.empty(n, box_size, box_size, dtype=dtype)
    for index in torch.arange(n).split(_CHUNK):
        block = source.read(index)
        check_finite(block, index, source.table)
        check_varied(block, index, source.table)
        images[index] = fourier_crop(block, box_size).to(dtype)
    return ImagesInMemory(images)


def free_memory_bytes() -> int:
    """Memory that this process may still take: the machine's, or the container's limit if lower."""
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


def choose_placement(wanted: str, needed_bytes: int, free_bytes: int) -> str:
    """Settle ``auto``: memory where the images take less than 40 % of what is free.

    Raises
    ------
    InputError
        If the name is unknown, or the images cannot fit where they are wanted.
    """
    if wanted not in PLACEMENTS:
        raise InputError(f"data.placement={wanted} is not one of {', '.join(PLACEMENTS)}")
    chosen = wanted
    if wanted == "auto":
        chosen = "ram" if needed_bytes < SHARE_OF_FREE_MEMORY * free_bytes else "stream"
    if chosen == "ram" and needed_bytes > free_bytes:
        raise InputError(
            f"data.placement=ram: the images take {needed_bytes / 1e9:.1f} GB, "
            f"{free_bytes / 1e9:.1f} GB are free; use data.placement=stream"
        )
    log.info(
        "data.placement=%s: the images take %.2f GB (%d bytes), %.2f GB of memory are free",
        chosen, needed_bytes / 1e9, needed_bytes, free_bytes / 1e9,
    )  # fmt: skip
    return chosen
