"""The results, written at the end of a fit."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from cryoem.decoders.framed import volume_frame
from lightning_modules.base import Reconstruction
from lightning_modules.hetero import HeteroReconstruction
from lightning_modules.inference import infer_latents
from lightning_modules.live.sinks import send, send_final
from lightning_modules.results import Latents, write_results

log = logging.getLogger(__name__)
_KEY = "logged"


class ExportRun(pl.Callback):
    """Writes volumes/, latents.npz, particles.star, figures/, metrics.json and report.html.

    The latents are inferred by all ranks together, the rest is the work of the first.
    """

    def __init__(self, output_dir: str | Path, n_volumes: int = 10) -> None:
        self.output_dir = Path(output_dir)
        self.n_volumes = n_volumes
        self._written = False
        self._logged: dict[str, float] = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, while the model is still on its device and the ranks are still together."""
        self._note(trainer)
        latents = None
        if isinstance(pl_module, HeteroReconstruction):
            latents = _latents(trainer, pl_module, trainer.global_rank, trainer.world_size)
            latents = replace(
                latents, mean=_sum(trainer, latents.mean), std=_sum(trainer, latents.std)
            )
        self._write(trainer, pl_module, latents)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, if training had been over before this process began but the results are not."""
        if self._written or not trainer.is_global_zero:
            return
        pl_module.to(trainer.strategy.root_device)
        latents = None
        if isinstance(pl_module, HeteroReconstruction):
            latents = _latents(trainer, pl_module)
        self._write(trainer, pl_module, latents)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note the last values, in case only the results remain to be written."""
        self._note(trainer)
        checkpoint[_KEY] = self._logged

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take them back."""
        self._logged = checkpoint.get(_KEY, {})

    def _note(self, trainer: pl.Trainer) -> None:
        """Last values of what was logged, those of the training step as means over the ranks."""
        now = {name: value.float() for name, value in trainer.callback_metrics.items()}
        shared = sorted(name for name in now if name.startswith("train/"))  # each rank has its own
        if shared and trainer.world_size > 1:
            values = torch.stack([now[name] for name in shared]).to(trainer.strategy.root_device)
            now |= zip(shared, trainer.strategy.reduce(values, reduce_op="mean"), strict=True)
        self._logged |= {name: float(value) for name, value in now.items()}

    def _write(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        latents: Latents | None,
    ) -> None:
        self._written = True
        if not trainer.is_global_zero or not isinstance(pl_module, Reconstruction):
            return
        log.info("writing volumes, figures and the report to %s", self.output_dir)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        counts = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
        pictures, numbers = write_results(
            self.output_dir, pl_module, data, latents, counts | self._logged, self.n_volumes
        )
        send(pictures, trainer.loggers, trainer.global_step - 1)
        send_final(numbers, trainer.loggers, trainer.global_step - 1)


def _latents(
    trainer: pl.Trainer, model: HeteroReconstruction, rank: int = 0, world_size: int = 1
) -> Latents:
    data = trainer.datamodule  # type: ignore[attr-defined]
    frame = volume_frame(model.decoders[0], model.geometry.box_size, model.device)
    return Latents(*infer_latents(model, data, frame, rank, world_size), frame)


def _sum(trainer: pl.Trainer, table: Tensor) -> Tensor:
    if trainer.world_size == 1:
        return table
    return trainer.strategy.reduce(table, reduce_op="sum")
