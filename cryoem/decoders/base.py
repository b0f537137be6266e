"""What decoders are: volumes in Fourier space, evaluated pointwise."""

from typing import Protocol, runtime_checkable

import torch
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
        self,
        freqs: Float[Tensor, "#batch freq 3"],
        z: Float[Tensor, "#batch latent"] | None = None,
    ) -> Complex[Tensor, "#batch freq"]:
        """Evaluate the volumes ``z`` at ``freqs``; one row of points serves all rows of ``z``."""
        ...


@runtime_checkable
class LinearDecoder(Protocol):
    """A decoder that is linear in its latent: ``V(k, z) = B_0(k) + sum_r z_r B_r(k)``.

    One evaluation then serves every ``z``, and the posterior of ``z`` is a Gaussian in closed form
    (:class:`cryoem.encoders.posterior.LinearPosterior`).
    """

    latent_dim: int

    def basis(
        self, freqs: Float[Tensor, "batch freq 3"]
    ) -> Complex[Tensor, "batch freq component"]:
        """Mean and components at ``freqs``."""
        ...


@runtime_checkable
class Regularised(Protocol):
    """A decoder with a prior on its parameters."""

    def negative_log_prior(self, components: bool = True) -> Float[Tensor, ""]:
        """In nats, up to a constant; weighed against the likelihood of *all* particles.

        Without ``components`` only of what latent zero depends on.
        """
        ...


@runtime_checkable
class Windowed(Protocol):
    """A decoder whose interpolation changes the density by a known factor."""

    def real_space_window(self, side: int) -> Float[Tensor, "side side side"]:
        """Factor that turns the transform of its grid values into density on ``side`` voxels."""
        ...


def combine(
    basis: Complex[Tensor, "batch freq component"], z: Float[Tensor, "batch latent"] | None
) -> Complex[Tensor, "batch freq"]:
    """Volumes ``B_0 + sum_r z_r B_r``; the mean volume ``B_0`` when ``z`` is None."""
    if z is None:
        return basis[..., 0]
    return basis[..., 0] + (basis[..., 1:] @ z.to(basis.dtype)[..., None])[..., 0]


def radial_scale(
    amplitude: Float[Tensor, " shell"], radius: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Interpolate a radial profile, one value per Fourier pixel, linearly at ``radius`` pixels."""
    low = radius.floor().clamp(max=len(amplitude) - 2)
    weight = radius - low
    index = low.long()
    return torch.lerp(amplitude[index], amplitude[index + 1], weight)


def to_half_space(
    freqs: Float[Tensor, "*batch 3"],
) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch"]]:
    """Flip points with ``kz < 0`` through the origin; returns them and the sign of each.

    A value at a flipped point is the complex conjugate (Friedel), so its imaginary part takes the
    sign. A decoder then cannot break the symmetry, and need only know half of the space.
    """
    sign = 1.0 - 2.0 * (freqs[..., 2] < 0).to(freqs.dtype)
    return freqs * sign[..., None], sign
