"""A free latent for every particle: the auto-decoder."""

import torch
from torch import nn

from cryoem.encoders.base import EncoderView, LatentGaussian
from cryoem.lattice import FourierLattice
from cryoem.poses.rows import VectorRows


class TableEncoder(nn.Module):
    """Mean and log variance of each particle, learned row by row.

    Rows outside a batch never move (:mod:`cryoem.poses.rows`). It never looks at an image, so it
    knows the particles of its training set and no others.

    Parameters
    ----------
    lattice
        Not used; networks need it.
    latent_dim
        Dimensions of the latent.
    n_particles
        Rows of the table.
    lr
        Step of a row per visit, in standard deviations of the prior.
    spread
        Standard deviation of the means at the start.
    """

    def __init__(
        self,
        lattice: FourierLattice,
        latent_dim: int,
        n_particles: int,
        lr: float = 0.1,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        means = spread * torch.randn(n_particles, latent_dim)
        log_variances = torch.full((n_particles, latent_dim), -2.0)
        self.table = VectorRows(torch.cat([means, log_variances], dim=1), lr)

    def forward(self, view: EncoderView) -> LatentGaussian:
        """Look up a batch."""
        mean, log_var = self.table(view.index).chunk(2, dim=-1)
        return LatentGaussian(mean, log_var)
