"""What every encoder is: a Gaussian over the latent of each image."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class LatentGaussian:
    """A Gaussian for each image of a batch, diagonal unless ``factor`` is given.

    ``factor`` is a square root of the covariance, ``Sigma = factor factor^T``; ``log_var`` then
    holds the logarithms of its diagonal, and ``log_det`` that of its determinant.
    """

    mean: Float[Tensor, "batch latent"]
    log_var: Float[Tensor, "batch latent"]
    factor: Float[Tensor, "batch latent latent"] | None = None
    log_det: Float[Tensor, " batch"] | None = None

    def sample(self, noise: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """One latent per image, differentiable in mean and variance, from standard normal noise."""
        if self.factor is None:
            return self.mean + torch.exp(0.5 * self.log_var) * noise
        return self.mean + (self.factor @ noise[..., None])[..., 0]

    def root(self) -> Float[Tensor, "batch latent latent"]:
        """A square root of the covariance, also where that is diagonal."""
        return (
            torch.diag_embed(torch.exp(0.5 * self.log_var)) if self.factor is None else self.factor
        )

    def kl(self) -> Float[Tensor, " batch"]:
        """Kullback-Leibler divergence to the standard normal, in nats, summed over dimensions."""
        log_det = self.log_var.sum(-1) if self.log_det is None else self.log_det
        return 0.5 * ((self.mean.square() + self.log_var.exp() - 1).sum(-1) - log_det)


@dataclass(frozen=True)
class EncoderView:
    """What an encoder may look at: the image as the forward model sees it.

    ``observed`` is centred, with noise of unit variance; ``transfer`` its CTF; ``coordinates`` are
    the frequencies of its slice in the volume's frame (cycles per voxel), which tell the pose.
    ``basis`` are the decoder's mean and components at the first so many of them (the radius that is
    compared), if it is linear in the latent. ``beta`` weighs the prior against the likelihood.
    """

    index: Int64[Tensor, " batch"]
    observed: Complex[Tensor, "batch freq"]
    transfer: Float[Tensor, "batch freq"]
    coordinates: Float[Tensor, "batch freq 3"]
    basis: Complex[Tensor, "batch compared component"] | None = None
    beta: float = 1.0


@runtime_checkable
class Encoder(Protocol):
    """An amortised, tabulated or exact posterior ``q(z | image)``."""

    latent_dim: int

    def __call__(self, view: EncoderView) -> LatentGaussian:
        """Posterior of a batch."""
        ...
