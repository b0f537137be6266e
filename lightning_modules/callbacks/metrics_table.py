"""metrics.csv: one line per some steps and one per epoch."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from cryoem.io.atomic import atomic_path, writing
from lightning_modules.live.numbers import EPOCH_NUMBERS

NAMES = {
    "objective": "loss_nats_per_frequency",
    "error": "error_nats_per_frequency",
    "kl": "kl_nats",
}
COLUMNS = [
    "epoch",
    "step",
    "wall_s",
    *NAMES.values(),
    "learning_rate",
    "images_per_s",
    *(f"epoch_{name}" for name in NAMES.values()),
    "search_radius_pixels",
    "held_out_explained_nats",
    "volume_power",
    "median_moved_degrees",
    *EPOCH_NUMBERS,
]
_KEY = "metrics_table"


class MetricsTable(pl.Callback):
    """Appends to ``<output_dir>/metrics.csv``; a resumed run drops the lines it will repeat.

    Values are collected on the device and fetched every ``every_n_steps``, so that no step waits.
    A line of steps holds the means since the line before, over all ranks. ``wall_s`` counts the
    time in training, over all parts of the run. Checkpoints hold the number of lines and what will
    be in the next, so that the table is that of a run without a stop.
    """

    def __init__(self, output_dir: str | Path, every_n_steps: int = 20) -> None:
        self.path = Path(output_dir) / "metrics.csv"
        self.every_n_steps = every_n_steps
        self._n_lines = 0
        self._line: list[dict[str, float]] = []  # steps since the last line, but those pending
        self._epoch: list[dict[str, float]] = []  # steps of the epoch that are in lines

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the table of an earlier part of the run."""
        self._pending: list[dict[str, Tensor]] = []
        self._images = 0
        self._line_at = time.monotonic()
        self._started = self._line_at
        if trainer.is_global_zero:
            earlier = self._earlier_lines()
            if len(earlier):
                self._started -= float(earlier["wall_s"].max())
            with atomic_path(self.path) as temporary:
                earlier.to_csv(temporary, index=False)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the values of a step."""
        self._pending.append({name: outputs[name].detach() for name in NAMES if name in outputs})
        self._images += len(batch) * trainer.world_size
        if trainer.global_step % self.every_n_steps == 0:
            self._write_steps(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left, and the means of the epoch."""
        if self._pending or self._line:
            self._write_steps(trainer)
        if self._epoch:
            means = _means(self._epoch)
            self.write(trainer, {f"epoch_{NAMES[name]}": mean for name, mean in means.items()})
        self._epoch = []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how far the table is."""
        self._fetch(trainer)
        checkpoint[_KEY] = {"lines": self._n_lines, "line": self._line, "epoch": self._epoch}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go back to there."""
        state = checkpoint.get(_KEY, {"lines": 0, "line": [], "epoch": []})
        self._n_lines, self._line, self._epoch = state["lines"], state["line"], state["epoch"]

    def _fetch(self, trainer: pl.Trainer) -> None:
        """Get the values of the latest steps from the device, as means over the ranks."""
        if not self._pending:
            return
        names = list(self._pending[0])
        table = torch.stack([torch.stack([row[name] for name in names]) for row in self._pending])
        table = table.float()
        if trainer.world_size > 1:
            table = trainer.strategy.reduce(table, reduce_op="mean")
        self._line += [dict(zip(names, row, strict=True)) for row in table.tolist()]
        self._pending = []

    def _write_steps(self, trainer: pl.Trainer) -> None:
        self._fetch(trainer)
        now = time.monotonic()
        line = {NAMES[name]: mean for name, mean in _means(self._line).items()}
        line["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        line["images_per_s"] = self._images / max(now - self._line_at, 1e-9)
        self.write(trainer, line)
        self._epoch += self._line
        self._line, self._images, self._line_at = [], 0, now

    def write(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        """Append a line with some of the columns."""
        self._n_lines += 1
        if not trainer.is_global_zero:
            return
        wall = time.monotonic() - self._started
        line = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "wall_s": round(wall, 3),
            **{name: float(f"{value:.6g}") for name, value in values.items()},
        }
        table = pd.DataFrame([line], columns=COLUMNS)
        with writing(self.path):
            table.to_csv(self.path, mode="a", header=False, index=False)

    def _earlier_lines(self) -> pd.DataFrame:
        if not self._n_lines or not self.path.is_file():
            self._n_lines = 0
            return pd.DataFrame(columns=COLUMNS)
        earlier = pd.read_csv(self.path, nrows=self._n_lines)
        # of an older version, or another one's; lines are added by position
        return earlier.reindex(columns=COLUMNS)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
