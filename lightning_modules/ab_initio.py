"""The schedule of a reconstruction whose poses are searched: starts, searches, and what went wrong.

Follows :class:`cryoem.poses.schedule.SearchSchedule`. Random starts are compared, and a collapse is
noticed, by what the volume explains of held-out particles.
"""

import copy
import logging
import math
import time
from dataclasses import dataclass
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cryoem.batch import ParticleBatch
from cryoem.errors import InputError
from cryoem.memory import free_memory_bytes
from cryoem.poses.schedule import Phase, SearchSchedule, Stage
from cryoem.poses.searched import SearchedPoses
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks.metrics_table import MetricsTable
from lightning_modules.hetero import HeteroReconstruction
from lightning_modules.searcher import Searcher

log = logging.getLogger(__name__)
_RENEWALS_PER_EPOCH = 4
_MOST_JUDGES = 256  # held-out particles that are searched to judge a volume
_LOSS_REACH = 1.2  # the loss looks a little further out than the search
_COLLAPSE = 0.9  # of the best explained energy, or of half the best volume power
_PROBED = 8  # images
_LOWER = 0.5  # of the learning rate after a collapse
# Of the learning rate in a random start: what the volume has from wrong poses must fade faster than
# it draws images to them. 5,000 images without CTF, SNR 0.1, were 101 degrees off after four epochs
# (median) with the learning rate of the other phases, 5 with three times that.
_START_HASTE = 3.0


@dataclass
class Health:
    """Of a volume at the end of a start or an epoch."""

    explained: float
    volume_power: float
    median_moved_degrees: float


class AbInitio(pl.Callback):
    """Searches poses before the steps of a model, and takes care of the model while it does.

    Everything it decides is the same on all ranks: each judges its share of the held-out particles,
    and the sums are exchanged.
    """

    def __init__(self) -> None:
        self._finished_starts = 0
        self._best: dict[str, Any] | None = None
        self._copied: dict[str, Any] | None = None
        self._rollbacks = 0
        self._search_again = False
        self._lr_factor = 1.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take hold of the model; a resumed run then puts back what this has noted of it."""
        self._model = cast(Reconstruction, pl_module)
        self._poses = cast(SearchedPoses, self._model.poses)
        mixed = trainer.precision == "bf16-mixed"
        coarse_dtype = torch.bfloat16 if mixed else torch.float32
        self._searcher = Searcher(self._model, self._poses, coarse_dtype)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the schedule, read the judges, and see whether everything fits into memory.

        Raises
        ------
        InputError
            If the particles differ in pixel size, or a search does not fit into memory.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        _check_one_pixel_size(data)
        poses = self._poses
        reach = self._model.lattice.radius
        self._schedule = SearchSchedule.of_run(
            [min(radius, reach) for radius in poses.radii],
            poses.restarts,
            poses.start_images,
            data.batch_size,
            int(trainer.num_training_batches),
            cast(int, trainer.max_epochs),
        )
        judges = self._poses.held_out
        if not len(judges):
            judges = torch.arange(self._model.geometry.n_particles)
        judges = judges[:: math.ceil(len(judges) / _MOST_JUDGES)]
        judges = judges[trainer.global_rank :: trainer.world_size]
        raw = data.dataset().rows(judges).to(self._model.device)
        self._judges: ParticleBatch = data.on_after_batch_transfer(raw, 0)
        self._probe()
        self._follow(self._schedule.at(trainer.global_step))
        if self._copied is not None:
            self._renew_from_copy()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Search the poses of the batch, if it is time for that."""
        step = trainer.global_step
        stage = self._schedule.at(step)
        self._finish_starts(trainer, stage)
        self._follow(stage)
        if stage.phase in (Phase.RANDOM, Phase.FIXED) and not self._search_again:
            self._copied = None
            return
        if self._copied is None or self._is_time(stage, step):
            self._copied = {"step": step, "weights": _copy(_networks(self._model))}
            self._renew(stage, step)
            if stage.phase is Phase.START:
                self._searcher.centre()
        if stage.phase is Phase.REFINE and not self._search_again:
            self._searcher.refine(batch)
        else:
            self._searcher.write(batch, stage)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the volume: keep it if it is the best, go back if it has collapsed."""
        stage = self._schedule.at(trainer.global_step - 1)
        self._model.merge_tables()
        health = self._judge(trainer)
        self._report(trainer, stage, health)
        if stage.starting and self._finished_starts < self._poses.restarts:
            return
        self._search_again = self._has_collapsed(health)
        if self._search_again:
            self._roll_back(trainer, health)
        elif self._best is None or health.explained >= self._best["explained"]:
            self._keep(health)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know beside the step."""
        return {
            "finished_starts": self._finished_starts,
            "best": self._best,
            "copied": self._copied,
            "rollbacks": self._rollbacks,
            "search_again": self._search_again,
            "lr_factor": self._lr_factor,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._finished_starts = state_dict["finished_starts"]
        self._best, self._copied = state_dict["best"], state_dict["copied"]
        self._rollbacks, self._lr_factor = state_dict["rollbacks"], state_dict["lr_factor"]
        self._search_again = state_dict["search_again"]

    def _probe(self) -> None:
        """Search a few images as far out as the schedule will: time and memory, before it matters.

        Raises
        ------
        InputError
            If the memory does not suffice.
        """
        device, radius = self._model.device, self._schedule.radii[2]
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            self._searcher.renew(radius, seed=0)
            began = time.perf_counter()
            few = self._judges[:_PROBED]
            self._searcher.explained(few).sum().cpu()
        except (MemoryError, RuntimeError) as error:  # CUDA's is a RuntimeError
            if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                raise
            raise InputError(
                f"a search up to Fourier radius {radius} does not fit into the "
                f"{free_memory_bytes(device) / 1e9:.1f} GB that are free on {device}; "
                "lower the last of poses.radii, data.box_size or data.batch_size"
            ) from None
        ms = 1e3 * (time.perf_counter() - began) / len(few)
        peak = ""
        if device.type == "cuda":
            peak = f", {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of the device"
        log.info("a search up to Fourier radius %d takes %.0f ms an image%s", radius, ms, peak)

    def _report(self, trainer: pl.Trainer, stage: Stage, health: Health) -> None:
        """To the log, the loggers and metrics.csv."""
        values = {
            "search_radius_pixels": float(stage.radius),
            "held_out_explained_nats": health.explained,
            "volume_power": health.volume_power,
            "median_moved_degrees": health.median_moved_degrees,
        }
        self._model.log_dict({f"poses/{name}": value for name, value in values.items()})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MetricsTable):
                callback.write(trainer, values)
        log.info(
            "epoch %d (%s, radius %d): explains %.1f nats of a held-out image, "
            "poses moved by %.1f degrees (median)",
            trainer.current_epoch + 1, stage.phase.value, stage.radius, health.explained,
            health.median_moved_degrees,
        )  # fmt: skip

    def _finish_starts(self, trainer: pl.Trainer, stage: Stage) -> None:
        """Judge a random start that is over, and begin the next, or go on with the best."""
        restarts = self._poses.restarts
        n_over = stage.start if stage.starting else restarts
        while self._finished_starts < n_over:
            self._model.merge_tables()
            health = self._judge(trainer)
            number = self._finished_starts = self._finished_starts + 1
            log.info(
                "random start %d of %d: explains %.1f nats of a held-out image",
                number, restarts, health.explained,
            )  # fmt: skip
            if self._best is None or health.explained > self._best["explained"]:
                self._keep(health)
            self._copied = None
            if number < restarts:
                seed = self._poses.seed * 1_000_003 + number
                self._model.make_afresh(seed)
                self._poses.forget(seed)
                trainer.optimizers[0].state.clear()
            elif restarts > 1:
                self._put_back(trainer)

    def _follow(self, stage: Stage) -> None:
        """Tell model and poses what a stage means for them."""
        model, refining = self._model, stage.phase is Phase.REFINE
        model.lr_factor = self._lr_factor * (_START_HASTE if stage.starting else 1.0)
        reach = model.lattice.radius if refining else math.ceil(_LOSS_REACH * stage.radius)
        model.compared_radius = min(reach, model.lattice.radius)
        if isinstance(model, HeteroReconstruction):
            model.consensus = stage.starting
        self._poses.begin(train_on_all=refining)

    def _is_time(self, stage: Stage, step: int) -> bool:
        """Whether the copy of the volume is too old."""
        if stage.phase is Phase.START:
            return True
        assert self._copied is not None
        return step - self._copied["step"] >= self._schedule.steps_per_epoch / _RENEWALS_PER_EPOCH

    def _renew(self, stage: Stage, step: int) -> None:
        own_halves = stage.phase in (Phase.SEARCH, Phase.REFINE) and stage.n_searches > 2
        self._searcher.renew(stage.radius, self._poses.seed * 1_000_003 + step, own_halves)

    def _renew_from_copy(self) -> None:
        """Copy the volume as it was when the interrupted run did."""
        assert self._copied is not None
        now = _copy(_networks(self._model))
        _networks(self._model).load_state_dict(self._copied["weights"])
        step = self._copied["step"]
        self._renew(self._schedule.at(step), step)
        _networks(self._model).load_state_dict(now)

    def _judge(self, trainer: pl.Trainer) -> Health:
        """How well held-out images are explained, each in its best pose under the mean volume."""
        judge = Searcher(self._model, self._poses)
        radius = self._poses.radii[1]
        judge.renew(radius, seed=self._poses.seed)
        explained = judge.explained(self._judges)
        sums = torch.stack([explained.sum(), torch.ones_like(explained).sum()])
        total, n = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        moved = self._poses.moved_degrees()
        return Health(total / n, judge.volume_power(), float(moved.median()))

    def _has_collapsed(self, health: Health) -> bool:
        if self._best is None:
            return False
        fell = not health.explained >= _COLLAPSE * self._best["explained"]
        return fell or not health.volume_power >= 0.5 * self._best["volume_power"]

    def _roll_back(self, trainer: pl.Trainer, health: Health) -> None:
        assert self._best is not None
        self._rollbacks += 1
        self._lr_factor *= _LOWER
        log.warning(
            "the volume has collapsed: it explains %.1f nats of a held-out image, and did %.1f; "
            "going back to epoch %d, with a lower learning rate (%d times so far)",
            health.explained, self._best["explained"], self._best["epoch"], self._rollbacks,
        )  # fmt: skip
        self._put_back(trainer)

    def _keep(self, health: Health) -> None:
        self._best = {
            "explained": health.explained,
            "volume_power": health.volume_power,
            "epoch": self._model.current_epoch,
            "weights": _copy(_networks(self._model)),
            "poses": copy.deepcopy(self._poses.state_dict()),
        }

    def _put_back(self, trainer: pl.Trainer) -> None:
        assert self._best is not None
        _networks(self._model).load_state_dict(self._best["weights"])
        self._poses.go_back(self._best["poses"])
        trainer.optimizers[0].state.clear()
        self._copied = None


def _networks(model: Reconstruction) -> nn.ModuleDict:
    """What is learnt by gradient, or follows it: all but the poses."""
    networks = nn.ModuleDict({"volumes": model.forward_models})
    if isinstance(model, HeteroReconstruction):
        networks["encoder"] = cast(nn.Module, model.encoder)
    return networks


def _copy(networks: nn.Module) -> dict[str, Any]:
    """A copy of the state, on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True)
        if isinstance(value, Tensor)
        else copy.deepcopy(value)
        for name, value in networks.state_dict().items()
    }


def _check_one_pixel_size(data: Any) -> None:
    sizes = data.table.pixel_size_angstrom
    low, high = float(sizes.min()), float(sizes.max())
    if high > 1.001 * low:
        raise InputError(
            f"{data.particles}: pixel sizes from {low:.4g} to {high:.4g} angstrom; a search for "
            "poses needs one: choose an optics group with data.select"
        )
