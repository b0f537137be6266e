"""What is under the microscope: slices and volumes of a molecule at any coordinate, exactly."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor


@runtime_checkable
class Specimen(Protocol):
    """A molecule sampled for one box. It knows no pose, CTF or noise of any data set.

    Both methods return the layout of ``torch.fft.rfftn``, of a density centred on the origin, in
    the units of :mod:`cryoem.conventions`: a slice is the orthonormal transform of the projection.
    Frequencies at and beyond Nyquist are zero, so the volume and its images agree exactly.
    ``images_per_batch`` is how many slices fit in a cache-friendly amount of memory.
    """

    box_size: int
    images_per_batch: int

    def slices(
        self, rotation: Float[Tensor, "batch 3 3"], coordinate: Float[Tensor, " batch"]
    ) -> Complex[Tensor, "batch side half"]:
        """Central slices at ``freqs @ rotation``, complex64."""
        ...

    def spectrum(self, coordinate: float) -> Complex[Tensor, "side side half"]:
        """Return the transform of the volume as :func:`cryoem.volume.spectrum_to_volume` wants."""
        ...


def plane_freqs(box_size: int) -> Float[Tensor, "side half 2"]:
    """Frequencies (cycles per pixel, x y) of an unshifted ``rfft2``."""
    full, half = torch.fft.fftfreq(box_size), torch.fft.rfftfreq(box_size)
    ky, kx = torch.meshgrid(full, half, indexing="ij")
    return torch.stack([kx, ky], dim=-1)


def to_images(slices: Complex[Tensor, "*batch side half"]) -> Float[Tensor, "*batch side side"]:
    """Projections of which ``slices`` are the orthonormal transforms, centred on ``N // 2``."""
    side = slices.shape[-2]
    images = torch.fft.irfft2(slices, s=(side, side), norm="ortho")
    return torch.fft.fftshift(images, dim=(-2, -1))
