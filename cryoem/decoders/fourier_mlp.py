"""The coordinate network: a residual MLP on encoded frequencies, conditioned on a latent."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from cryoem.nets.encodings import ENCODINGS, PositionalEncoding
from cryoem.nets.mlp import ResidualLinear


def to_half_space(
    freqs: Float[Tensor, "*batch 3"],
) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch"]]:
    """Flip points with ``kz < 0`` through the origin; returns them and the sign of each.

    A value at a flipped point is the complex conjugate (Friedel), so its imaginary part takes the
    sign. The network then cannot break the symmetry, and sees half of the points.
    """
    sign = 1.0 - 2.0 * (freqs[..., 2] < 0).to(freqs.dtype)
    return freqs * sign[..., None], sign


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
        sigma: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {sorted(ENCODINGS)}, got {encoding!r}")
        self.box_size = box_size
        self.latent_dim = latent_dim
        generator = torch.Generator().manual_seed(seed)
        options = {"sigma": sigma} if encoding == "gaussian" else {}
        n = n_frequencies or box_size // 2
        self.encode = PositionalEncoding(ENCODINGS[encoding](box_size, n, generator, **options))
        self.first = nn.Linear(self.encode.n_features, width)
        self.blocks = nn.ModuleList(ResidualLinear(width) for _ in range(depth))
        self.last = nn.Linear(width, 2)
        if latent_dim:
            self.condition = nn.ModuleList(
                nn.Linear(latent_dim, width, bias=False) for _ in range(depth + 1)
            )
        self.register_buffer("amplitude", torch.ones(box_size))

    def forward(
        self, freqs: Float[Tensor, "batch freq 3"], z: Float[Tensor, "batch latent"] | None = None
    ) -> Complex[Tensor, "batch freq"]:
        """Evaluate the volumes ``z`` at ``freqs``, complex64."""
        points, sign = to_half_space(freqs.float())
        hidden = self.first(self.encode(points))
        if z is not None:
            hidden = hidden + self.condition[0](z)[:, None]
        hidden = torch.relu(hidden)
        for i, block in enumerate(self.blocks):
            if z is None:
                hidden = block(hidden)
            else:
                hidden = torch.relu(
                    block.linear(hidden) + hidden + self.condition[i + 1](z)[:, None]
                )
        values = self.last(hidden).float()
        values = values * self._scale(points)[..., None]
        return torch.complex(values[..., 0], values[..., 1] * sign)

    def _scale(self, points: Float[Tensor, "batch freq 3"]) -> Float[Tensor, "batch freq"]:
        """Interpolate the radial profile linearly at each point."""
        radius = points.norm(dim=-1) * self.box_size
        low = radius.floor().clamp(max=len(self.amplitude) - 2)
        weight = radius - low
        index = low.long()
        return self.amplitude[index] * (1 - weight) + self.amplitude[index + 1] * weight
