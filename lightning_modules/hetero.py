"""A volume for every image: encoder, latent, decoder."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cryoem.batch import ParticleBatch
from cryoem.encoders.base import Encoder
from cryoem.geometry import ImageGeometry
from cryoem.poses.base import PoseProvider
from lightning_modules.base import Reconstruction


class HeteroReconstruction(Reconstruction):
    """Heterogeneous reconstruction.

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
    """

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
        super().__init__(geometry, poses, data_scale, **options)
        raise NotImplementedError

    def loss_terms(self, batch: ParticleBatch) -> dict[str, Tensor]:
        """The negative evidence lower bound."""
        raise NotImplementedError
