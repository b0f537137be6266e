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
    "loss": "loss_nats_per_frequency",
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


class MetricsTable(pl.Callback):
    """Appends to ``<output_dir>/metrics.csv``; a resumed run drops the lines it will repeat.

    Values are collected on the device and fetched every ``every_n_steps``, so that no step waits.
    A line of steps holds the means since the line before. ``wall_s`` counts the time in training,
    over all parts of the run.
    """

    def __init__(self, output_dir: str | Path, every_n_steps: int = 20) -> None:
        self.path = Path(output_dir) / "metrics.csv"
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the table of an earlier part of the run."""
        self._pending: list[dict[str, Tensor]] = []
        self._epoch: list[dict[str, float]] = []
        self._images = 0
        self._line_at = time.monotonic()
        self._started = self._line_at
        if trainer.is_global_zero:
            earlier = self._earlier_lines(trainer.global_step)
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
        if self._pending:
            self._write_steps(trainer)
        if self._epoch:
            means = _means(self._epoch)
            self.write(trainer, {f"epoch_{NAMES[name]}": mean for name, mean in means.items()})
        self._epoch = []

    def _write_steps(self, trainer: pl.Trainer) -> None:
        names = list(self._pending[0])
        table = torch.stack([torch.stack([row[name] for name in names]) for row in self._pending])
        rows = [dict(zip(names, row, strict=True)) for row in table.float().tolist()]
        now = time.monotonic()
        line = {NAMES[name]: mean for name, mean in _means(rows).items()}
        line["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        line["images_per_s"] = self._images / max(now - self._line_at, 1e-9)
        self.write(trainer, line)
        self._epoch += rows
        self._pending, self._images, self._line_at = [], 0, now

    def write(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        """Append a line with some of the columns."""
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

    def _earlier_lines(self, step: int) -> pd.DataFrame:
        if step == 0 or not self.path.is_file():
            return pd.DataFrame(columns=COLUMNS)
        table = pd.read_csv(self.path)
        return table[table["step"] <= step]


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
