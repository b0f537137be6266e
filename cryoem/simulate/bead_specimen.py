"""Slices of a bead model in closed form, as one product of matrices per image.

Nothing is interpolated: the beads are rotated, and the transform of a sum of Gaussians is
``exp(-2 pi^2 sigma^2 k^2) sum_j w_j exp(-2 pi i k x_j)``, which is separable in kx and ky.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.simulate.beads import gaussian_sigma
from cryoem.simulate.motions import Motion
from cryoem.simulate.specimen import plane_freqs
from cryoem.volume import half_grid

_FLOATS_PER_BATCH = 1 << 22


class BeadSpecimen:
    """Gaussian beads of one width, sampled for one box.

    Parameters
    ----------
    motion
        The molecule and how it moves.
    box_size, pixel_size_angstrom
        Of the images; the volumes have the same.
    resolution_angstrom
        Sets the width of the beads, see :func:`cryoem.simulate.beads.gaussian_sigma`.
    """

    def __init__(
        self,
        motion: Motion,
        box_size: int,
        pixel_size_angstrom: float,
        resolution_angstrom: float,
    ) -> None:
        self.motion = motion
        self.box_size = box_size
        self.pixel_size_angstrom = pixel_size_angstrom
        self.sigma = gaussian_sigma(resolution_angstrom) / pixel_size_angstrom  # pixels
        self.weights = (motion.beads.weights / motion.beads.weights.mean()).float()
        self.images_per_batch = max(1, _FLOATS_PER_BATCH // (2 * box_size * len(motion.beads)))

    def slices(
        self, rotation: Float[Tensor, "batch 3 3"], coordinate: Float[Tensor, " batch"]
    ) -> Complex[Tensor, "batch side half"]:
        """Central slices, without shift or CTF."""
        seen = self._positions(coordinate) @ rotation.double()[:, :2].mT  # (batch, bead, 2) pixels
        wave_x, wave_y = self._waves(seen[..., 0]), self._waves(seen[..., 1])
        envelope = self._envelope(plane_freqs(self.box_size))
        return _combine(wave_y * self.weights, wave_x) * envelope

    def spectrum(self, coordinate: float) -> Complex[Tensor, "side side half"]:
        """Transform of the volume, plane by plane along z."""
        positions = self._positions(torch.tensor([coordinate]))[0]
        wave_x, wave_y, wave_z = (self._waves(positions[:, i]) for i in range(3))
        half = self.box_size // 2
        spectrum = torch.zeros(self.box_size, self.box_size, half + 1, dtype=torch.complex64)
        for kz in range(half):
            # exp(-i kz z) = cos - i sin; the plane at -kz has the other sign
            cosine = _combine(wave_y * (self.weights * wave_z[kz]), wave_x)
            sine = _combine(wave_y * (self.weights * wave_z[half + kz]), wave_x)
            spectrum[kz] = cosine - 1j * sine
            spectrum[-kz] = cosine + 1j * sine if kz else spectrum[0]
        return spectrum * self._envelope(half_grid(self.box_size))

    def _positions(self, coordinate: Float[Tensor, " batch"]) -> Float[Tensor, "batch bead 3"]:
        return self.motion.conformation(coordinate) / self.pixel_size_angstrom

    def _waves(self, position: Float[Tensor, "*batch bead"]) -> Float[Tensor, "*batch side bead"]:
        """Cosines, then sines, of ``2 pi k x`` for ``k = 0 ... D/2 - 1`` cycles per box."""
        half = self.box_size // 2
        radians = (2 * math.pi / self.box_size) * torch.arange(half)
        angle = radians[:, None] * position.float()[..., None, :]
        waves = angle.new_empty(*position.shape[:-1], self.box_size, position.shape[-1])
        torch.cos(angle, out=waves[..., :half, :])
        torch.sin(angle, out=waves[..., half:, :])
        return waves

    def _envelope(self, freqs: Float[Tensor, "*grid dim"]) -> Float[Tensor, "*grid"]:
        """Transform of one bead over D, zero from Nyquist on."""
        squared = freqs.square().sum(-1)
        inside = squared < 0.25 * (1 - 1e-6)
        return torch.exp(-2 * (math.pi * self.sigma) ** 2 * squared) * inside / self.box_size


def _combine(
    wave_y: Float[Tensor, "*batch side bead"], wave_x: Float[Tensor, "*batch side bead"]
) -> Complex[Tensor, "*batch side half"]:
    """Sum ``exp(-i (a x + b y))`` over beads, from cosines and sines, in ``rfft2`` layout.

    Real products: a quarter of the work of complex ones over both signs of ``ky``.
    """
    side = wave_x.shape[-2]
    half = side // 2
    products = wave_y @ wave_x.mT  # rows: cos(by), sin(by); columns: cos(ax), sin(ax)
    cos_cos, cos_sin = products[..., :half, :half], products[..., :half, half:]
    sin_cos, sin_sin = products[..., half:, :half], products[..., half:, half:]
    upper = torch.complex(cos_cos - sin_sin, -(sin_cos + cos_sin))  # ky >= 0
    lower = torch.complex(cos_cos + sin_sin, sin_cos - cos_sin)  # -ky
    plane = upper.new_zeros(*upper.shape[:-2], side, half + 1)
    plane[..., :half, :half] = upper
    plane[..., half + 1 :, :half] = lower[..., 1:, :].flip(-2)
    return plane
