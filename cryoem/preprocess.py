"""From raw images to the Fourier half-discs that the model sees, on the device."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryoem.batch import ParticleBatch, RawBatch
from cryoem.fourier import fourier_crop
from cryoem.lattice import FourierLattice


def radius_grid(side: int) -> Float[Tensor, "side side"]:
    """Distance of every pixel from the centre, in units of half the side."""
    axis = (torch.arange(side) - side // 2) / (side / 2)
    return torch.hypot(axis[:, None], axis[None, :])


def soft_disc(side: int, inner: float, outer: float) -> Float[Tensor, "side side"]:
    """One inside ``inner``, zero outside ``outer`` (half sides), a cosine edge in between."""
    edge = ((radius_grid(side) - inner) / (outer - inner)).clamp(0, 1)
    return 0.5 * (1 + torch.cos(torch.pi * edge))


@dataclass(frozen=True)
class Normalisation:
    """What turns a stack into "light on zero background, noise of unit variance".

    ``mean`` and ``noise_std`` are in the units of the file; ``sign`` is -1 for dark particles.
    """

    mean: float
    noise_std: float
    sign: int


def estimate_noise(images: Float[Tensor, "batch side side"]) -> tuple[float, float]:
    """Mean and standard deviation of the background, outside the inscribed circle.

    RELION's definition. Noise-free images have an empty background; then a tenth of the overall
    standard deviation stands in, so that the data keep a finite scale.
    """
    outside = radius_grid(images.shape[-1]).to(images.device) > 1
    background = images[:, outside]
    mean, std = background.mean(), background.std()
    return float(mean), float(torch.maximum(std, 0.1 * images.std()))


class Preprocess(nn.Module):
    """Crop, sign, normalise, window and transform: ``RawBatch -> ParticleBatch``.

    Parameters
    ----------
    source_box
        Side of the images in the file.
    lattice
        Half-disc of the *cropped* box.
    normalisation
        Measured on a sample of the cropped images.
    window
        Inner and outer radius of the real-space window in half sides, or None for no window. The
        window is centred on the box, so it must be wider than the particle plus its shift.

    Notes
    -----
    A window lowers the noise variance of a Fourier coefficient to the mean square of the window.
    ``scale``, the factor from file units to model units, includes its root: the noise stays 1.
    """

    window: Float[Tensor, "side side"]

    def __init__(
        self,
        source_box: int,
        lattice: FourierLattice,
        normalisation: Normalisation,
        window: tuple[float, float] | None = (0.85, 0.99),
    ) -> None:
        super().__init__()
        self.source_box = source_box
        self.lattice = lattice
        self.normalisation = normalisation
        side = lattice.box_size
        mask = torch.ones(side, side) if window is None else soft_disc(side, *window)
        self.register_buffer("window", mask, persistent=False)
        self.scale = normalisation.sign / (
            normalisation.noise_std * float(mask.square().mean()) ** 0.5
        )

    def forward(self, batch: RawBatch) -> ParticleBatch:
        """Transform one batch, on the device of the batch."""
        images = fourier_crop(batch.images.float(), self.lattice.box_size)
        images = (images - self.normalisation.mean) * self.window * self.scale
        binning = self.source_box / self.lattice.box_size
        return ParticleBatch(
            index=batch.index,
            fourier=self.lattice.gather(images),
            pixel_size_angstrom=batch.pixel_size_angstrom * binning,
            ctf=batch.ctf,
            split=batch.split,
        )
