"""What every reconstruction shares: step, logging, optimiser, schedule and checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from jaxtyping import Float
from torch import Tensor, optim

from cryoem.batch import ParticleBatch
from cryoem.decoders.base import Decoder
from cryoem.geometry import ImageGeometry
from cryoem.poses.base import PoseProvider
from lightning_modules.optim import adam


class Reconstruction(pl.LightningModule, ABC):
    """One or more decoders fitted to particle images.

    Parameters
    ----------
    geometry, poses, data_scale
        What the datamodule knows after ``setup``: ``data.geometry``, a pose provider called with
        ``data.pose``, ``data.data_scale``.
    decoder
        Factory, called as ``decoder(box_size=..., latent_dim=...)``.
    optimizer
        Factory, called with the parameters.
    radius
        Largest Fourier radius (pixels) that is compared; Nyquist when None.
    amplitude
        ``data.amplitude``, copied into the decoder's buffer of that name where it has one.
    warmup_fraction, final_fraction
        The learning rate rises linearly over this fraction of all steps, then falls as a cosine to
        this fraction of its value.

    Attributes
    ----------
    config
        A plain dict (``OmegaConf.to_container(cfg, resolve=True)``) kept in the checkpoint; set it
        after building.
    """

    config: dict[str, Any]

    def __init__(
        self,
        geometry: ImageGeometry,
        poses: PoseProvider,
        data_scale: float = 1.0,
        *,
        decoder: Callable[..., Decoder],
        optimizer: Callable[..., optim.Optimizer] = adam,
        radius: int | None = None,
        amplitude: Float[Tensor, " shell"] | None = None,
        warmup_fraction: float = 0.02,
        final_fraction: float = 0.05,
    ) -> None:
        super().__init__()
        raise NotImplementedError

    @abstractmethod
    def loss_terms(self, batch: ParticleBatch) -> dict[str, Tensor]:
        """Terms per image of the batch."""
