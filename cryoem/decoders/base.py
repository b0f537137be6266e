"""What every decoder is: a volume in Fourier space, evaluated pointwise."""

from typing import Protocol, runtime_checkable

from jaxtyping import Complex, Float
from torch import Tensor


@runtime_checkable
class Decoder(Protocol):
    """A volume in Fourier space. It knows no image, pose or CTF.

    ``freqs`` are cycles per pixel, one set of points for each volume of the batch; ``z`` is one row
    per volume, or None for a decoder without a latent. The values obey Friedel symmetry,
    ``V(-k) = conj V(k)``.
    """

    latent_dim: int

    def __call__(
        self, freqs: Float[Tensor, "batch freq 3"], z: Float[Tensor, "batch latent"] | None = None
    ) -> Complex[Tensor, "batch freq"]: ...
