"""The checkpoint that a run goes on from."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from cryoem.io.atomic import atomic_path
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks.interrupt import Interrupted

_STEPS_BETWEEN_AGREEMENTS = 50


class LastCheckpoint(Checkpoint):
    """Keeps ``<output_dir>/checkpoints/last.ckpt`` fresh; complete or not at all.

    The one before it stays as ``previous.ckpt``, in case the disk damages the last. Written at the
    end of each epoch, every ``every_n_minutes`` and every ``every_n_steps`` (None: never), and when
    a run is interrupted between two steps.
    """

    def __init__(
        self,
        output_dir: str | Path,
        every_n_minutes: float | None = 10.0,
        every_n_steps: int | None = None,
    ) -> None:
        self.path = Path(output_dir) / "checkpoints" / "last.ckpt"
        self.previous = self.path.with_name("previous.ckpt")
        self.every_n_minutes = every_n_minutes
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and remove what a killed process has left half written."""
        if trainer.is_global_zero:
            for leftover in self.path.parent.glob(f".{self.path.name}.*"):
                leftover.unlink()
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if steps or minutes are over, and the epoch is not."""
        if trainer.is_last_batch:
            return
        if self._steps_over(trainer) or self._minutes_over(trainer):
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._save(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save if the step was completed; after an error within a step, the last file is better."""
        if isinstance(exception, Interrupted):
            self._save(trainer, pl_module)

    def go_back_before(self, step: int) -> None:
        """Take the checkpoint before the last, if no step was made after the last one."""
        if self._saved_step >= step - 1 and self.previous.exists():
            self.previous.replace(self.path)

    def _steps_over(self, trainer: pl.Trainer) -> bool:
        return self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0

    def _minutes_over(self, trainer: pl.Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        over = time.monotonic() - self._saved_at > 60 * self.every_n_minutes
        if trainer.world_size == 1:
            return over
        # clocks differ, and all ranks must save at the same step; asking costs a synchronisation
        if trainer.global_step % _STEPS_BETWEEN_AGREEMENTS:
            return False
        return bool(trainer.strategy.broadcast(over))

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(pl_module, Reconstruction):
            if int(pl_module.guard.in_a_row):  # of the latest steps that could not be made
                return
            pl_module.merge_tables()
        if trainer.is_global_zero:
            with atomic_path(self.path) as temporary:
                trainer.save_checkpoint(temporary, weights_only=False)
                if self.path.exists():
                    self.path.replace(self.previous)
        else:  # takes part in gathering, writes nothing
            trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step
