"""Convolutional network on the centred, phase-flipped image."""

import torch
from torch import nn

from cryoem.encoders.base import EncoderView, LatentGaussian
from cryoem.lattice import FourierLattice


class ConvEncoder(nn.Module):
    """Strided convolutions down to 4 x 4 pixels, then a linear layer.

    Parameters
    ----------
    lattice
        Points of the half-disc.
    latent_dim
        Dimensions of the latent.
    n_particles
        Not used; tables need it.
    channels
        Of the first layer; doubled by each further one, up to eight times.
    """

    def __init__(
        self, lattice: FourierLattice, latent_dim: int, n_particles: int, channels: int = 32
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.lattice = lattice
        layers: list[nn.Module] = []
        n_in, n_out, side = 1, channels, lattice.box_size
        while side > 4:
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(8, n_out)]
            layers += [nn.SiLU()]
            n_in, n_out, side = n_out, min(2 * n_out, 8 * channels), (side + 1) // 2
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_in * side**2, 2 * latent_dim))

    def forward(self, view: EncoderView) -> LatentGaussian:
        """Encode a batch. The transform back to an image is in float32."""
        with torch.autocast(view.transfer.device.type, enabled=False):
            images = self.lattice.scatter(view.observed * view.transfer.sign())
        mean, log_var = self.net(images[:, None]).float().chunk(2, dim=-1)
        return LatentGaussian(mean, log_var)
