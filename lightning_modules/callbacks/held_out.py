"""The likelihood of particles that train nothing, after every epoch."""

from typing import Any

import pytorch_lightning as pl

from lightning_modules.base import Reconstruction
from lightning_modules.callbacks.metrics_table import MetricsTable
from lightning_modules.held_out import explained_of_held_out


class HeldOut(pl.Callback):
    """Says how well held-out particles are explained, if the datamodule has any.

    To the loggers as ``held_out/explained_nats``, to metrics.csv as ``held_out_explained_nats``.
    Each rank judges its share of the particles.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the volumes as they are now."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not len(data.held_out) or not isinstance(pl_module, Reconstruction):
            return
        ours = explained_of_held_out(pl_module, data, trainer.global_rank, trainer.world_size)
        total = trainer.strategy.reduce(ours.sum(), reduce_op="sum")
        nats = float(total) / len(data.held_out)
        pl_module.log("held_out/explained_nats", nats)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MetricsTable):
                callback.write(trainer, {"held_out_explained_nats": nats})
