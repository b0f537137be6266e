"""The coordinate network with a linear latent: all components from one evaluation."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from cryoem.decoders.base import combine, radial_scale, to_half_space
from cryoem.nets.encodings import make_encoding
from cryoem.nets.mlp import ResidualMLP


class FourierMLPBasis(nn.Module):
    """``V(k, z) = B_0(k) + sum_r z_r B_r(k)``, every ``B`` an output of one residual MLP.

    As :class:`cryoem.decoders.fourier_mlp.FourierMLP`, but the latent enters after the last layer.
    A point is evaluated once whatever ``z`` is, and the posterior of ``z`` has a closed form.

    Parameters
    ----------
    box_size, latent_dim, width, depth, encoding, n_frequencies, sigma, seed
        As in :class:`cryoem.decoders.fourier_mlp.FourierMLP`.
    """

    amplitude: Float[Tensor, " shell"]

    def __init__(
        self,
        box_size: int,
        latent_dim: int = 0,
        width: int = 256,
        depth: int = 3,
        encoding: str = "gaussian",
        n_frequencies: int | None = None,
        sigma: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.box_size = box_size
        self.latent_dim = latent_dim
        self.encode = make_encoding(encoding, box_size, n_frequencies, sigma, seed)
        self.net = ResidualMLP(self.encode.n_features, width, depth, 2 * (1 + latent_dim))
        self.register_buffer("amplitude", torch.ones(box_size))

    def basis(
        self, freqs: Float[Tensor, "batch freq 3"]
    ) -> Complex[Tensor, "batch freq component"]:
        """Mean and components at ``freqs``, complex64."""
        points, sign = to_half_space(freqs.float())
        values = self.net(self.encode(points)).float().unflatten(-1, (1 + self.latent_dim, 2))
        scale = radial_scale(self.amplitude, points.norm(dim=-1) * self.box_size)
        values = values * scale[..., None, None]
        return torch.complex(values[..., 0], values[..., 1] * sign[..., None])

    def forward(
        self, freqs: Float[Tensor, "batch freq 3"], z: Float[Tensor, "batch latent"] | None = None
    ) -> Complex[Tensor, "batch freq"]:
        """Evaluate the volumes ``z`` at ``freqs``, complex64."""
        return combine(self.basis(freqs), z)
