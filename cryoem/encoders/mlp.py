"""Residual MLP on the Fourier coefficients of an image."""

import torch
from torch import nn

from cryoem.encoders.base import EncoderView, LatentGaussian
from cryoem.lattice import FourierLattice
from cryoem.nets.mlp import ResidualMLP


class MLPEncoder(nn.Module):
    """The paper's encoder: the centred, phase-flipped disc through a residual MLP.

    Parameters
    ----------
    lattice
        Points of the half-disc.
    latent_dim
        Dimensions of the latent.
    n_particles
        Not used; tables need it.
    width, depth
        Units per layer; number of residual blocks.
    radius
        Largest Fourier radius that is seen, in pixels; all of the lattice when None.
    """

    def __init__(
        self,
        lattice: FourierLattice,
        latent_dim: int,
        n_particles: int,
        width: int = 256,
        depth: int = 3,
        radius: int | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.n_points = lattice.n_freqs if radius is None else lattice.count(radius)
        self.net = ResidualMLP(2 * self.n_points, width, depth, 2 * latent_dim)

    def forward(self, view: EncoderView) -> LatentGaussian:
        """Encode a batch. Phases are flipped, so that all images show positive density."""
        flipped = view.observed[:, : self.n_points] * view.transfer[:, : self.n_points].sign()
        numbers = torch.cat([flipped.real, flipped.imag], dim=-1)
        mean, log_var = self.net(numbers).float().chunk(2, dim=-1)
        return LatentGaussian(mean, log_var)
