"""An analytic volume: a sum of Gaussians, whose Fourier transform has a closed form."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn


class GaussianPhantom(nn.Module):
    """Isotropic Gaussians of one width, the truth against which everything else is tested.

    Parameters
    ----------
    centres
        ``(blob, 3)`` positions in pixels from the centre, x y z.
    weights
        ``(blob,)`` integrals of the blobs.
    sigma
        Standard deviation of each blob in pixels.
    box_size
        Side ``D`` in pixels; sets the scale of the orthonormal transform.
    """

    latent_dim = 0
    centres: Float[Tensor, "blob 3"]
    weights: Float[Tensor, " blob"]

    def __init__(
        self,
        centres: Float[Tensor, "blob 3"],
        weights: Float[Tensor, " blob"],
        sigma: float,
        box_size: int,
    ) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("weights", weights)
        self.sigma = sigma
        self.box_size = box_size

    def forward(
        self, freqs: Float[Tensor, "*batch freq 3"], z: Float[Tensor, "batch latent"] | None = None
    ) -> Complex[Tensor, "*batch freq"]:
        """``exp(-2 pi^2 sigma^2 k^2) sum_j w_j exp(-2 pi i k x_j) / D``; ``z`` is not used."""
        angle = (-2 * math.pi) * (freqs @ self.centres.T)
        envelope = torch.exp(-2 * (math.pi * self.sigma) ** 2 * freqs.square().sum(-1))
        waves = torch.polar(torch.ones_like(angle), angle)
        return (waves @ self.weights.to(waves.dtype)) * envelope / self.box_size

    def density(self) -> Float[Tensor, "side side side"]:
        """Density on the voxel grid ``[z, y, x]``, sampled in real space."""
        side = self.box_size
        axis = torch.arange(side, dtype=self.centres.dtype, device=self.centres.device) - side // 2

        def profile(position: Tensor) -> Tensor:
            return torch.exp(-0.5 * ((axis[None] - position[:, None]) / self.sigma) ** 2)

        x, y, z = (profile(self.centres[:, i]) for i in range(3))
        norm = self.weights / (self.sigma * math.sqrt(2 * math.pi)) ** 3
        return torch.einsum("b,bk,bj,bi->kji", norm, z, y, x)


def random_phantom(
    n_blobs: int, radius: float, sigma: float, box_size: int, generator: torch.Generator
) -> GaussianPhantom:
    """Blobs uniform in a ball of ``radius`` pixels, weights in [0.5, 1.5]: chiral, no symmetry."""
    direction = torch.randn(n_blobs, 3, generator=generator)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    distance = radius * torch.rand(n_blobs, 1, generator=generator) ** (1 / 3)
    weights = 0.5 + torch.rand(n_blobs, generator=generator)
    return GaussianPhantom(direction * distance, weights, sigma, box_size)
