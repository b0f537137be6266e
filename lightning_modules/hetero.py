"""A volume for every image: encoder, latent, decoder."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cryoem.batch import ParticleBatch
from cryoem.checkpoint import describe
from cryoem.decoders.base import LinearDecoder, Regularised, combine
from cryoem.encoders.base import Encoder, EncoderView, LatentGaussian
from cryoem.geometry import ImageGeometry
from cryoem.losses import squared_error
from cryoem.noise import normal_noise
from cryoem.poses.base import PoseProvider
from cryoem.poses.scores import SearchImages
from cryoem.poses.volume_cache import (
    VolumeCache,
    cache_components,
    cache_low_rank,
    cache_volume,
)
from lightning_modules.base import LossTerms, Reconstruction

# Volumes of which a search makes a subspace, and its dimension, where the decoder is not linear.
_SAMPLED_VOLUMES, _RANK = 64, 16


class HeteroReconstruction(Reconstruction):
    """Heterogeneous reconstruction: a variational autoencoder with a known imaging model.

    Parameters
    ----------
    geometry, poses, data_scale, **options
        As :class:`Reconstruction`: decoder, optimizer, radius, amplitude, warmup_fraction,
        final_fraction.
    encoder
        Factory, called as ``encoder(lattice=..., latent_dim=..., n_particles=...)``.
    latent_dim
        Dimensions of the latent.
    beta
        Weight of the KL term; 1 is the evidence lower bound, because the noise has unit variance.
    beta_warmup_epochs
        Beta rises linearly from 0 over this many epochs.

    Attributes
    ----------
    consensus
        Whether all latents are zero at the moment: a search for poses begins with one volume.
    """

    kind = "hetero"

    def __init__(
        self,
        geometry: ImageGeometry,
        poses: PoseProvider,
        data_scale: float = 1.0,
        *,
        encoder: Callable[..., Encoder],
        latent_dim: int = 8,
        beta: float = 1.0,
        beta_warmup_epochs: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(geometry, poses, data_scale, latent_dim=latent_dim, **options)
        self.encoder = encoder(
            lattice=self.lattice, latent_dim=latent_dim, n_particles=geometry.n_particles
        )
        self.encoder_recipe = describe(encoder)
        self.beta = beta
        self.beta_warmup_epochs = beta_warmup_epochs
        self.consensus = False
        self.seed = torch.initial_seed()

    def loss_terms(self, batch: ParticleBatch) -> LossTerms:
        """The negative evidence lower bound, up to a constant.

        For a decoder that is linear in the latent the expected error is taken in closed form, the
        error at the mean plus that of the spread: no noise of sampling, the same on any device.
        """
        view = self.view(batch)
        n = self.n_compared
        transfer, observed = view.transfer[:, :n], view.observed[:, :n]
        if self.consensus:
            slices = self._at_origin(view.coordinates[:, :n])
            with self.float32():
                return LossTerms(error=squared_error(transfer * slices, observed))
        posterior = self.encoder(_without_gradient(view))
        if view.basis is None:
            step = self.global_step if self._trainer is not None else 0
            noise = normal_noise(batch.index, self.latent_dim, self.seed, step)
            z = posterior.sample(noise.to(posterior.mean.dtype))
            slices = self.forward_model().decoder(view.coordinates[:, :n], z)
            spread = None
        else:
            slices = combine(view.basis, posterior.mean)
            spread = transfer[..., None] * (
                view.basis[..., 1:] @ posterior.root().to(view.basis.dtype)
            )
        with self.float32():
            error = squared_error(transfer * slices, observed)
            if spread is not None:
                error = error + (spread.real.square() + spread.imag.square()).sum((-2, -1))
            return LossTerms(error, posterior.kl(), view.beta, posterior)

    def cached_volumes(self, radius: int) -> list[VolumeCache]:
        """Mean and components; for a decoder that is not linear, those of a sample of volumes."""
        decoder, box_size = self.decoders[0], self.geometry.box_size
        if self.consensus:
            return [cache_volume(decoder, box_size, radius, self.device)]
        if isinstance(decoder, LinearDecoder):
            return [cache_components(decoder, box_size, radius, self.device)]
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(_SAMPLED_VOLUMES, self.latent_dim, generator=generator).to(self.device)
        return [cache_low_rank(decoder, z, _RANK, box_size, radius)]

    def search_images(self, batch: ParticleBatch, cache: VolumeCache) -> SearchImages:
        """Images, their CTF, and their latents as the encoder has them at the poses so far."""
        coefficients = None
        if cache.coefficients is not None:
            coefficients = cache.coefficients(self.posterior(batch).mean)
        return SearchImages(batch.fourier, self.forward_model().transfer(batch), coefficients)

    def _at_origin(self, coordinates: Tensor) -> Tensor:
        """The volume of latent zero."""
        decoder = self.decoders[0]
        if isinstance(decoder, LinearDecoder):
            return decoder.basis(coordinates)[..., 0]
        return decoder(coordinates, coordinates.new_zeros(len(coordinates), self.latent_dim))

    def view(self, batch: ParticleBatch) -> EncoderView:
        """Images centred, with their CTF and the place of their slice in the volume."""
        model = self.forward_model()
        with self.float32():
            pose = self.poses(batch.index)
            coordinates = model.coordinates(pose.rotation, batch.pixel_size_angstrom)
            observed = model.observed(batch, pose.shift)
            transfer = model.transfer(batch)
        decoder, basis = model.decoder, None
        if isinstance(decoder, LinearDecoder) and not self.consensus:
            basis = decoder.basis(coordinates[:, : self.n_compared])
        return EncoderView(
            index=batch.index,
            observed=observed,
            transfer=transfer,
            coordinates=coordinates,
            basis=basis,
            beta=self._current_beta(),
        )

    @torch.no_grad()
    def posterior(self, batch: ParticleBatch) -> LatentGaussian:
        """Distribution of the latents of a batch; the prior while there is one volume for all."""
        if self.consensus:
            zero = batch.fourier.real.new_zeros(len(batch), self.latent_dim)
            return LatentGaussian(zero, zero)
        return self.encoder(self.view(batch))

    def _negative_log_prior(self) -> Tensor:
        decoder = self.decoders[0]
        if not isinstance(decoder, Regularised):
            return torch.zeros((), device=self.device)
        return decoder.negative_log_prior(components=not self.consensus)

    def _current_beta(self) -> float:
        """Weight at this step; never quite zero, where an exact posterior would not exist."""
        training = self._trainer is not None and self.trainer.training
        if not self.beta_warmup_epochs or not training:
            return self.beta
        epochs = (self.global_step + 1) / self.trainer.num_training_batches
        return self.beta * min(1.0, epochs / self.beta_warmup_epochs)


def _without_gradient(view: EncoderView) -> EncoderView:
    """Poses learn from the comparison with the volume, not by misleading the encoder."""
    return replace(
        view,
        observed=view.observed.detach(),
        coordinates=view.coordinates.detach(),
        basis=None if view.basis is None else view.basis.detach(),
    )
