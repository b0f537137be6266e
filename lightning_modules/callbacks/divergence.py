"""Reports the steps that were not made, and stops a run that makes none any more."""

import logging
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks.checkpoint import LastCheckpoint

log = logging.getLogger(__name__)
_NAMED = 10  # particles of a batch


class Divergence(pl.Callback):
    """Names the particles of batches whose loss was not finite or exploded.

    After ``patience`` such batches in a row the run stops; ``last.ckpt`` is then of a state that
    was followed by a good step, and ``<output_dir>/divergence.csv`` has the evidence: an image per
    row, those that are not finite or have the largest errors. The device is asked every
    ``every_n_steps``.
    """

    def __init__(self, output_dir: str | Path, patience: int = 20, every_n_steps: int = 20) -> None:
        self.path = Path(output_dir) / "divergence.csv"
        self.patience, self.every_n_steps = patience, every_n_steps
        self._recent: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []
        self._evidence: list[pd.DataFrame] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note a step; look at the latest now and then."""
        model = cast(Reconstruction, pl_module)
        loss = outputs["objective"]
        power = batch.fourier[:, : model.n_compared].abs().square().mean()
        model.guard.learn(power, model.skipped)
        self._recent.append(
            (trainer.global_step, model.skipped, loss, batch.index, outputs["image_error"])
        )
        if trainer.global_step % self.every_n_steps == 0 or trainer.is_last_batch:
            self._look(trainer, model)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note what is usual."""
        guard = cast(Reconstruction, pl_module).guard
        checkpoint["guard"] = {"usual": guard.usual, "in_a_row": guard.in_a_row}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it back."""
        guard = cast(Reconstruction, pl_module).guard
        for name, value in checkpoint.get("guard", {}).items():
            setattr(guard, name, value)

    def _look(self, trainer: pl.Trainer, model: Reconstruction) -> None:
        recent, self._recent = self._recent, []
        skipped = torch.stack([step[1] for step in recent]).tolist()
        for (number, _, loss, index, error), bad in zip(recent, skipped, strict=True):
            if bad:
                self._report(trainer, number, float(loss), index.cpu(), error.float().cpu())
            else:
                self._evidence.clear()
        if len(self._evidence) >= self.patience:
            self._stop(trainer)

    def _report(
        self, trainer: pl.Trainer, step: int, loss: float, index: Tensor, error: Tensor
    ) -> None:
        worst = error.nan_to_num(torch.inf).argsort(descending=True)[:_NAMED]
        rows = trainer.datamodule.table.row[index[worst].numpy()]  # type: ignore[attr-defined]
        values = error[worst].numpy()
        columns = {"step": step, "loss": loss, "particle_row": rows, "image_error": values}
        self._evidence.append(pd.DataFrame(columns))
        log.warning(
            "step %d: loss %.4g; the step was not made. Particles with the largest errors, rows "
            "from 0: %s", step, loss, ", ".join(str(int(row)) for row in rows),
        )  # fmt: skip

    def _stop(self, trainer: pl.Trainer) -> None:
        first = int(self._evidence[0]["step"].iloc[0])
        if trainer.is_global_zero:
            with atomic_path(self.path) as path:
                pd.concat(self._evidence).to_csv(path, index=False)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, LastCheckpoint):
                    callback.go_back_before(first)
        raise InputError(
            f"{len(self._evidence)} steps in a row, from step {first}, had a loss that is not "
            f"finite or exploded; the particles are in {self.path}.\n"
            "The last checkpoint is from before. Lower model.optimizer.lr, take "
            "trainer.precision=32-true, or leave particles out with data.select"
        )
