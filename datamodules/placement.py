"""Where the images live while a model trains: on disk, in memory, or on the device."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.errors import InputError
from cryoem.fourier import fourier_crop
from cryoem.io.pixels import check_finite, check_varied
from cryoem.io.source import ParticleSource
from datamodules.stream import block_size

log = logging.getLogger(__name__)
PLACEMENTS = ("auto", "stream", "ram", "gpu")
AUTO_SHARE = 0.4  # of the free memory, for images that nobody said should be there
MOST_SHARE = 0.8  # the rest is for the model


class ImagesInMemory:
    """All images in one tensor, on the host or a device."""

    def __init__(self, images: Float[Tensor, "particle side side"]) -> None:
        self.images = images
        self._pinned = False

    def read(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch side side"]:
        """Images of these rows, float32."""
        return self.images[index.to(self.images.device)].float()

    def stream(
        self, windows: Iterable[list[Int64[Tensor, "_"]]]
    ) -> Iterator[tuple[Int64[Tensor, "_"], Float[Tensor, "_ side side"]]]:
        """Rows and images of all batches, window after window, in the precision held."""
        for window in windows:
            for rows in window:
                images = self.images.index_select(0, rows.to(self.images.device))
                yield rows, images.pin_memory() if self._pinned else images

    def serve(self, device: torch.device, resident: bool) -> None:
        """Get ready for work on a device: move there, or hand out page-locked batches."""
        if resident:
            self.images = self.images.to(device)
        self._pinned = device.type == "cuda" and not resident


def load_images(
    source: ParticleSource, box_size: int, dtype: torch.dtype, device: torch.device
) -> ImagesInMemory:
    """Read and crop every image once.

    Raises
    ------
    InputError
        If an image is not finite or has the same value everywhere.
    """
    n = len(source.table)
    images = torch.empty(n, box_size, box_size, dtype=dtype, device=device)
    for index in source.disk_order(torch.arange(n)).split(block_size(source)):
        block = source.read(index)
        check_finite(block, index, source.table)
        check_varied(block, index, source.table)
        images[index.to(device)] = fourier_crop(block.to(device), box_size).to(dtype)
    return ImagesInMemory(images)


@dataclass(frozen=True)
class Placement:
    """Where the images will be, and in which precision."""

    name: str
    dtype: torch.dtype


def choose_placement(
    wanted: str, n_pixels: int, dtype: torch.dtype, host_bytes: int, device_bytes: int
) -> Placement:
    """Settle where the images go, and say why.

    Parameters
    ----------
    wanted
        ``stream``, ``ram``, ``gpu``; ``auto`` is the fastest of these that takes little of the
        free memory.
    n_pixels
        Of all images of the training box.
    dtype
        What holds them without loss. On a device float16 is the second choice.
    host_bytes, device_bytes
        Free memory; 0 where there is no device.

    Raises
    ------
    InputError
        If the name is unknown, or the images cannot fit where they are wanted.
    """
    if wanted not in PLACEMENTS:
        raise InputError(f"data.placement={wanted} is not one of {', '.join(PLACEMENTS)}")
    needed = n_pixels * dtype.itemsize
    free = {"ram": host_bytes, "gpu": device_bytes}
    chosen = wanted
    if wanted == "auto":
        roomy = (place for place in ("gpu", "ram") if needed <= AUTO_SHARE * free[place])
        chosen = next(roomy, "stream")
    if chosen == "gpu" and needed > MOST_SHARE * device_bytes:
        dtype, needed = torch.float16, n_pixels * torch.float16.itemsize
    if chosen in free and needed > MOST_SHARE * free[chosen]:
        raise InputError(
            f"data.placement={chosen}: the images take {_gigabytes(needed)} as {dtype}, and of "
            f"{_gigabytes(free[chosen])} free at most {MOST_SHARE:.0%} are used; "
            "use data.placement=stream"
        )
    why = f"; auto holds what takes at most {AUTO_SHARE:.0%} of that" if wanted == "auto" else ""
    log.info(
        "data.placement=%s: %s; the images take %s as %s, %s of memory are free and %s on a GPU%s",
        wanted, chosen, _gigabytes(needed), dtype, _gigabytes(host_bytes),
        _gigabytes(device_bytes), why,
    )  # fmt: skip
    return Placement(chosen, dtype)


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.2f} GB ({n:,} bytes)"
