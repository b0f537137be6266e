"""Volumes of a trained decoder at chosen latents, one after another, as arrays."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.decoders.base import Decoder, Windowed
from cryoem.volume import evaluate_volumes

# What a decoder computes of the points alone is done once for all volumes of a batch.
_BYTES_TOGETHER, _BYTES_PER_VOXEL = 1 << 30, 32


class CoarserGrid:
    """A decoder seen on a box of ``new_side`` voxels that spans the same length in angstrom.

    Point ``j / d`` of the smaller grid is point ``j / D`` of the decoder's; ``(d / D)^2`` keeps the
    density per voxel: a transform that is divided by the side (:mod:`cryoem.conventions`) holds
    ``D^3 / D`` of a constant density.
    """

    def __init__(self, decoder: Decoder, side: int, new_side: int) -> None:
        self.decoder = decoder
        self.latent_dim = decoder.latent_dim
        self.factor = new_side / side

    def __call__(
        self,
        freqs: Float[Tensor, "#batch freq 3"],
        z: Float[Tensor, "#batch latent"] | None = None,
    ) -> Complex[Tensor, "#batch freq"]:
        """Evaluate at cycles per pixel of the smaller box."""
        return self.decoder(freqs * self.factor, z) * self.factor**2

    def real_space_window(self, side: int) -> Float[Tensor, "side side side"] | Float[Tensor, ""]:
        """That of the decoder, which spans the same length, or 1."""
        if isinstance(self.decoder, Windowed):
            return self.decoder.real_space_window(side)
        return torch.ones(())


def decode_volumes(
    decoders: Sequence[Decoder],
    side: int,
    z: Float[np.ndarray, "volume latent"] | None,
    *,
    data_scale: float,
    device: torch.device,
    new_side: int | None = None,
) -> Iterator[Float[np.ndarray, "z y x"]]:
    """Yield the density at each latent (one volume when there is none), mean of all decoders.

    Parameters
    ----------
    decoders
        One, or one per half-set.
    side
        Box of the training.
    z
        One row per volume.
    data_scale
        Factor that the images were multiplied by; volumes are in units of the file.
    device
        Where to evaluate. Volumes are on the CPU.
    new_side
        Fourier-crop to this box, by evaluating no more than it needs.
    """
    box = side if new_side is None else new_side
    coarser = decoders if box == side else [CoarserGrid(d, side, box) for d in decoders]
    together = max(1, _BYTES_TOGETHER // (_BYTES_PER_VOXEL * box**3))
    rows = [None] if z is None else torch.as_tensor(z, dtype=torch.float32).split(together)
    for part in rows:
        volumes = [evaluate_volumes(decoder, box, part, device) for decoder in coarser]
        mean = torch.stack(volumes).mean(0) / abs(data_scale)
        yield from mean.numpy()
