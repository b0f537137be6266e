"""Images from slices: shift, contrast transfer, scale and noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.ctf import evaluate_ctf
from cryoem.lattice import shift_phases
from cryoem.simulate.acquisition import Acquisition
from cryoem.simulate.parallel import in_threads
from cryoem.simulate.settings import Simulation
from cryoem.simulate.specimen import Specimen, plane_freqs, to_images

Progress = Callable[[int, int], None]
_OUTLINE = 0.05  # of the brightest pixel of a projection


@dataclass(frozen=True)
class SignalPower:
    """Mean over images of the variance of the clean, CTF-modulated image.

    ``everywhere`` over all pixels; ``in_outline`` the mean square over those pixels where the
    projection itself exceeds a twentieth of its maximum.
    """

    everywhere: float
    in_outline: float


def render(
    specimen: Specimen,
    settings: Simulation,
    images: Acquisition,
    clean: np.ndarray,
    progress: Progress,
) -> SignalPower:
    """Fill ``clean`` (image, side, side) with noise-free images; returns their power."""
    total = len(images.pose)

    def render_batch(rows: slice) -> tuple[float, float, float]:
        slices = specimen.slices(images.pose.rotation[rows], images.coordinate[rows])
        slices = slices * _shifts(settings, images.pose.shift[rows])
        projections = to_images(slices)
        contrast = to_images(slices * _transfer(settings, images, rows))
        clean[rows] = contrast.numpy()
        outline = projections > _OUTLINE * projections.amax((-2, -1), keepdim=True)
        return (
            float(contrast.double().var((-2, -1), correction=0).sum()),
            float(contrast[outline].double().square().sum()),
            float(outline.sum()),
        )

    starts = range(0, total, specimen.images_per_batch)
    batches = [slice(start, min(start + specimen.images_per_batch, total)) for start in starts]
    power = outline_power = outline_pixels = 0.0
    for rows, sums in zip(batches, in_threads(render_batch, batches), strict=True):
        power += sums[0]
        outline_power += sums[1]
        outline_pixels += sums[2]
        progress(rows.stop, total)
    return SignalPower(power / total, outline_power / max(outline_pixels, 1.0))


def add_noise(
    clean: np.ndarray, scale: float, snr: float, generator: torch.Generator, out: np.ndarray
) -> None:
    """Write ``scale * clean`` plus white noise of variance one (none where ``snr`` is infinite)."""
    chunk = max(1, (1 << 22) // clean[0].size)
    for start in range(0, len(clean), chunk):
        rows = slice(start, start + chunk)
        images = torch.from_numpy(clean[rows] * np.float32(scale))
        if np.isfinite(snr):
            images += torch.randn(images.shape, generator=generator)
        out[rows] = images.numpy().astype(out.dtype)


def _shifts(
    settings: Simulation, shift: Float[Tensor, "batch 2"]
) -> Complex[Tensor, "batch side half"]:
    """Factors that put the particle where the shift of the pose will have to fetch it from."""
    freqs = plane_freqs(settings.box_size)
    return shift_phases(freqs.flatten(0, 1), -shift.float()).unflatten(-1, freqs.shape[:2])


def _transfer(
    settings: Simulation, images: Acquisition, rows: slice
) -> Float[Tensor, "#batch #side #half"]:
    if images.ctf is None:
        return torch.ones(1, 1, 1)
    freqs = plane_freqs(settings.box_size)
    params = images.ctf[rows]
    pixel_size = torch.full((len(params),), settings.pixel_size_angstrom)
    return evaluate_ctf(freqs.flatten(0, 1), pixel_size, params).unflatten(-1, freqs.shape[:2])
