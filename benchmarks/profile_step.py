"""Where the time of a training step goes: by stage, and by operation.

``python -m benchmarks.profile_step [key=value ...]`` trains as ``train.py`` would, on simulated
images unless told otherwise, and prints two tables over some steps after the first few. Stages are
timed with the device waited for; operations by torch's own profiler, in steps of their own, because
it slows what it watches.
"""

import logging
import sys
import tempfile
import time
from collections import defaultdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch.profiler import ProfilerActivity, profile

from conf.checks import check
from conf.compose import compose
from train import build

WARMUP, TIMED, PROFILED, SHOWN = 3, 10, 5, 15
COMMON = [
    "data=simulated",
    "data.simulation.n_particles=2000",
    "preflight=false",
    "resume=never",
    f"trainer.limit_train_batches={WARMUP + TIMED + PROFILED}",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "~callbacks.progress",
    "~callbacks.export",
]


class Watch(pl.Callback):
    """Times the stages of some steps, then profiles the operations of some more."""

    def __init__(self, device: torch.device) -> None:
        self.stages: dict[str, float] = defaultdict(float)
        self.images = 0
        self._device = device
        self._timed = False
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self.profiler = profile(activities=activities)

    def _end(self, stage: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._timed:
            self.stages[stage] += now - self._last
        self._last = now

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch is on the device."""
        if batch_idx > WARMUP:
            self._end("wait for the batch, and bring it to the device")
        if batch_idx == WARMUP + TIMED:
            self.profiler.start()
        self._timed = WARMUP <= batch_idx < WARMUP + TIMED
        self.images += len(batch) * self._timed
        self._end("")

    def on_before_backward(self, *_: Any) -> None:
        """The loss is known."""
        self._end("forward: CTF, encoder, decoder, loss")

    def on_after_backward(self, *_: Any) -> None:
        """The gradient is known."""
        self._end("backward, and tables of poses and latents")

    def on_train_batch_end(self, *_: Any) -> None:
        """The parameters have moved."""
        self._end("optimiser, logging, callbacks")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The steps are over."""
        self.profiler.stop()


def main() -> None:
    """Print both tables."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        words = [*COMMON, f"output_dir={folder}/run", *sys.argv[1:]]
        data, model, trainer = build(check(compose(words)))
        watch = Watch(trainer.strategy.root_device)
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        trainer.fit(model, data)
    whole = sum(watch.stages.values())
    print(f"{1e3 * whole / watch.images:.2f} ms per image, {TIMED} steps")
    for stage, seconds in watch.stages.items():
        if stage:
            print(f"  {100 * seconds / whole:5.1f} %  {stage}")
    on_gpu = watch._device.type == "cuda"
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = sorted(watch.profiler.key_averages(), key=lambda row: -getattr(row, key))
    total = sum(getattr(row, key) for row in rows)
    print(f"operations, {PROFILED} steps")
    for row in rows[:SHOWN]:
        print(f"  {100 * getattr(row, key) / total:5.1f} %  {row.count:6d} x  {row.key[:70]}")


if __name__ == "__main__":
    main()
