"""The coordinate network: a residual MLP on encoded frequencies, conditioned on a latent."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from cryoem.decoders.base import radial_scale, to_half_space
from cryoem.nets.encodings import make_encoding
from cryoem.nets.mlp import ResidualLinear, biased_relu


class FourierMLP(nn.Module):
    """``V(k, z)``: positional encoding, linear, residual blocks, real and imaginary part.

    Parameters
    ----------
    box_size
        Side of the training images in pixels.
    latent_dim
        0 for a homogeneous volume.
    width, depth
        Units per layer; number of residual blocks.
    encoding
        A name of :data:`cryoem.nets.encodings.ENCODINGS`.
    n_frequencies
        Frequencies per axis, ``D / 2`` when None.
    sigma
        Width of the Gaussian encoding; other encodings do not have one.
    seed
        Of the random frequencies.

    Notes
    -----
    The latent enters every hidden layer as a bias computed once per image, not as extra columns at
    every pixel: ``W [phi(k), z] = W1 phi(k) + W2 z``. Values are multiplied by ``amplitude``, a
    radial profile of the data (root of the signal power per shell), so that the network's output
    has the same size at all radii.
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
        self.first = nn.Linear(self.encode.n_features, width)
        self.blocks = nn.ModuleList(ResidualLinear(width) for _ in range(depth))
        self.last = nn.Linear(width, 2)
        if latent_dim:
            self.condition = nn.ModuleList(
                nn.Linear(latent_dim, width, bias=False) for _ in range(depth + 1)
            )
        self.register_buffer("amplitude", torch.ones(box_size))

    def forward(
        self,
        freqs: Float[Tensor, "#batch freq 3"],
        z: Float[Tensor, "#batch latent"] | None = None,
    ) -> Complex[Tensor, "#batch freq"]:
        """Evaluate the volumes ``z`` at ``freqs``, complex64."""
        points, sign = to_half_space(freqs.float())
        biases = self._biases(z)
        hidden = biased_relu(self.encode(points), self.first.weight, self.first.bias, biases[0])
        for block, bias in zip(self.blocks, biases[1:], strict=True):
            hidden = block(hidden, bias)
        values = self.last(hidden).float()
        scale = radial_scale(self.amplitude, points.norm(dim=-1) * self.box_size)
        values = values * scale[..., None]
        return torch.complex(values[..., 0], values[..., 1] * sign)

    def _biases(self, z: Float[Tensor, "batch latent"] | None) -> list[Tensor] | list[None]:
        """What the latent adds to each hidden layer, one row per image."""
        if z is None:
            return [None] * (1 + len(self.blocks))
        return [layer(z)[:, None] for layer in self.condition]
