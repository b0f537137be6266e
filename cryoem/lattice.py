"""The half-disc of frequencies on which images and slices are compared."""

import math

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor, nn


class FourierLattice(nn.Module):
    """Frequencies ``kx > 0, or kx = 0 and ky > 0``, within a radius, in order of their radius.

    Images are real, so the other half of the disc holds the complex conjugates. The origin is left
    out: it only carries the mean grey value. Because points are ordered by radius, a smaller disc
    is a prefix: ``freqs[: lattice.count(radius)]``, never a mask.

    Parameters
    ----------
    box_size
        Side ``D`` of the images in pixels, even.
    radius
        Largest Fourier radius in pixels, inclusive; ``D / 2`` (Nyquist) by default.

    Notes
    -----
    Buffers are not persistent: nothing of the lattice is in a checkpoint.
    """

    freqs: Float[Tensor, "freq 3"]
    radii: Float[Tensor, " freq"]
    _rfft_index: Int64[Tensor, " freq"]

    def __init__(self, box_size: int, radius: int | None = None) -> None:
        super().__init__()
        if box_size % 2:
            raise ValueError(f"box_size must be even, got {box_size}; crop or pad by one")
        self.box_size = box_size
        self.radius = box_size // 2 if radius is None else radius
        if not 1 <= self.radius <= box_size // 2:
            raise ValueError(f"radius must be between 1 and {box_size // 2}, got {radius}")
        axis = torch.arange(-self.radius, self.radius + 1)
        ky, kx = torch.meshgrid(axis, axis, indexing="ij")
        half = ((kx > 0) | ((kx == 0) & (ky > 0))) & (kx**2 + ky**2 <= self.radius**2)
        kx, ky = kx[half], ky[half]
        order = torch.argsort(kx**2 + ky**2, stable=True)
        kx, ky = kx[order], ky[order]
        squared = kx**2 + ky**2
        self._counts = [int((squared <= r * r).sum()) for r in range(self.radius + 1)]
        freqs = torch.stack([kx, ky, torch.zeros_like(kx)], dim=-1) / box_size
        # Row ky modulo D of an unshifted rfft2; +D/2 and -D/2 are the same sample.
        index = (ky % box_size) * (box_size // 2 + 1) + kx
        self.register_buffer("freqs", freqs, persistent=False)
        self.register_buffer("radii", squared.sqrt(), persistent=False)
        self.register_buffer("_rfft_index", index, persistent=False)

    def count(self, radius: int) -> int:
        """Return the number of points with ``|k| <= radius`` (pixels)."""
        return self._counts[min(radius, self.radius)]

    @property
    def n_freqs(self) -> int:
        """Number of points on the half-disc."""
        return self._counts[-1]

    def gather(self, images: Float[Tensor, "*batch side side"]) -> Complex[Tensor, "*batch freq"]:
        """Centred orthonormal Fourier coefficients of images on the half-disc."""
        spectrum = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)), norm="ortho")
        return spectrum.flatten(-2)[..., self._rfft_index]

    def scatter(self, values: Complex[Tensor, "*batch freq"]) -> Float[Tensor, "*batch side side"]:
        """Images with the given coefficients on the half-disc and zero elsewhere."""
        side = self.box_size
        spectrum = values.new_zeros(*values.shape[:-1], side * (side // 2 + 1))
        spectrum[..., self._rfft_index[: values.shape[-1]]] = values
        spectrum = spectrum.unflatten(-1, (side, side // 2 + 1))
        # On the column kx = 0 the transform holds both ky and -ky.
        column = spectrum[..., :, 0]
        mirrored = torch.flip(column[..., 1 : side // 2], dims=(-1,)).conj()
        spectrum[..., side // 2 + 1 :, 0] = mirrored
        images = torch.fft.irfft2(spectrum, s=(side, side), norm="ortho")
        return torch.fft.fftshift(images, dim=(-2, -1))


def shift_phases(
    freqs: Float[Tensor, "freq _"], shift: Float[Tensor, "*batch 2"]
) -> Complex[Tensor, "*batch freq"]:
    """Factors that move images by ``shift`` pixels (x, y): ``exp(-2 pi i k shift)``."""
    # cycles/pixel * pixels * radians/cycle = radians
    angle = (-2 * math.pi) * (shift @ freqs[:, :2].T)
    return torch.polar(torch.ones_like(angle), angle)
