"""In how many parts a batch is taken: measured before the first step."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from cryoem.batch import ParticleBatch
from lightning_modules.base import Reconstruction

log = logging.getLogger(__name__)
_REPEATS = 3
_AS_FAST = 1.03  # times the best: as fast, and fewer parts cost less around them


class Tune(pl.Callback):
    """Takes a batch in the largest parts that are about as fast as any that were tried.

    It begins with single images and goes on as long as larger parts are faster: they fill a GPU,
    but leave the caches of a processor, and at some size do not fit into the memory. The step is
    the same but for rounding, so a run that goes on keeps its parts.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, with the images of the first batch, and on all devices decide the same."""
        model = cast(Reconstruction, pl_module)
        if trainer.global_step > 0:
            return
        batch = _first_batch(trainer, model)
        seconds: dict[int, float] = {}
        with _undisturbed(model):
            for n in reversed(list(_powers_of_two(len(batch)))):
                model.parts.n = n
                slowest = torch.tensor(_seconds(trainer, model, batch), device=model.device)
                seconds[n] = float(trainer.strategy.reduce(slowest, reduce_op="max"))
                if not still_faster(list(seconds.values())):
                    break
        model.parts.n = best(seconds)
        _report(seconds, model.parts.n, len(batch), trainer.world_size)


def best(seconds: dict[int, float]) -> int:
    """Fewest parts that are about as fast as the fastest number of them."""
    return min(n for n, s in seconds.items() if s <= _AS_FAST * min(seconds.values()))


def still_faster(seconds: list[float]) -> bool:
    """Whether one of the last two sizes was faster than all smaller ones, and the last fitted."""
    if len(seconds) < 3:
        return seconds[-1] < math.inf
    return seconds[-1] < math.inf and _AS_FAST * min(seconds[-2:]) < min(seconds[:-2])


def _first_batch(trainer: pl.Trainer, model: Reconstruction) -> ParticleBatch:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    share = min(data.batch_size // trainer.world_size, data.geometry.n_particles)
    raw = data.dataset(data.half).rows(torch.arange(max(1, share))).to(model.device)
    return cast(ParticleBatch, data.on_after_batch_transfer(raw, 0))


def _powers_of_two(most: int) -> Iterator[int]:
    n = 1
    while n <= most:
        yield n
        n *= 2


@contextmanager
def _undisturbed(model: Reconstruction) -> Iterator[None]:
    """Leave neither gradients nor drawn random numbers behind; look as far out as the run will."""
    radius, devices = model.compared_radius, [model.device] if model.device.type == "cuda" else []
    model.compared_radius = model.lattice.radius
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.compared_radius, model.parts.now = radius, 0
        model.zero_grad()
        for table in model.row_tables():
            table.forget_gradients()


def _seconds(trainer: pl.Trainer, model: Reconstruction, batch: ParticleBatch) -> float:
    """For the gradient of a batch, the best of a few; infinite where memory does not suffice."""
    taken = []
    try:
        for _ in range(1 + _REPEATS):  # the first is slow
            began = time.perf_counter()
            for now in range(model.parts.n):
                model.parts.now = now
                _gradient(trainer, model, model.parts.of(batch))
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)
            taken.append(time.perf_counter() - began)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return math.inf
    return min(taken[1:])


def _gradient(trainer: pl.Trainer, model: Reconstruction, part: ParticleBatch) -> None:
    """Without the exchange between devices, which is once a step whatever the parts are."""
    with trainer.precision_plugin.forward_context():
        terms = model.loss_terms(part)
        total: Tensor = terms.error if terms.kl is None else terms.error + terms.kl
    total.sum().backward()


def _report(seconds: dict[int, float], n: int, n_images: int, world_size: int) -> None:
    rates = {
        math.ceil(n_images / parts): f"{world_size * n_images / s:.3g} images/s"
        if s < math.inf
        else "too many for the memory"
        for parts, s in seconds.items()
    }
    listed = ", ".join(f"{together}: {rate}" for together, rate in rates.items())
    log.info("trainer.tune: images at once: %s; a batch is taken in %d parts", listed, n)
