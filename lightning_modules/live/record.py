"""What the steps of an epoch found about each particle, kept on the device until the epoch ends."""

from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lightning_modules.base import Reconstruction

_SEEN, _ERROR, _KL, _LATENT = 0, 1, 2, 3  # columns


@dataclass(frozen=True)
class Epoch:
    """By particle, in the order of the file; NaN for who was not seen, or has no latent yet.

    Attributes
    ----------
    error
        Nats per frequency; about 1 where image and prediction differ by the noise.
    kl
        Nats.
    z
        Mean latent, as it was when the particle's turn came.
    """

    error: Float[np.ndarray, " particle"]
    kl: Float[np.ndarray, " particle"]
    z: Float[np.ndarray, "particle latent"]

    @property
    def has_latents(self) -> bool:
        """Whether there are latents of at least some particles."""
        return self.z.shape[1] > 0 and bool(np.isfinite(self.z).any())


class EpochRecord:
    """A table of all particles; each rank fills in the rows of its own."""

    def __init__(self, model: Reconstruction) -> None:
        n_columns = _LATENT + model.latent_dim
        self._table = torch.zeros(model.geometry.n_particles, n_columns, device=model.device)

    def note(self, index: Int64[Tensor, " batch"], found: dict[str, Tensor]) -> None:
        """Take down what a training step returned, without waiting for it."""
        error = found["image_error"]
        unknown = torch.full_like(error, torch.nan)
        z = found.get("latent", unknown[:, None].expand(-1, self._table.shape[1] - _LATENT))
        columns = [torch.ones_like(error), error, found.get("image_kl", unknown), *z.unbind(-1)]
        self._table[index] = torch.stack(columns, dim=-1).float()

    def collect(self, trainer: pl.Trainer) -> Epoch:
        """All ranks' rows together, then begin an empty table; call it on every rank."""
        table = self._table
        if trainer.world_size > 1:
            table = trainer.strategy.reduce(table, reduce_op="sum")
        rows = table.cpu().numpy()
        rows[rows[:, _SEEN] == 0] = np.nan
        self._table = torch.zeros_like(self._table)
        return Epoch(rows[:, _ERROR], rows[:, _KL], rows[:, _LATENT:])
