"""The live view of a run: numbers, sentences and pictures after each epoch."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure

from cryoem import figures
from cryoem.provenance import code_version, data_fingerprint
from cryoem.signals import Moves, Signal
from cryoem.suspicious import write_suspicious
from lightning_modules.base import Reconstruction
from lightning_modules.callbacks.metrics_table import MetricsTable
from lightning_modules.live.clock import EpochClock, peak_memory_gb
from lightning_modules.live.findings import Findings, Snapshot, findings, snapshot
from lightning_modules.live.panels import particle_panels, volume_panels
from lightning_modules.live.probe import Probe
from lightning_modules.live.record import EpochRecord
from lightning_modules.live.sinks import show, tell
from lightning_modules.loggers import RUN_ID, OneWandbRun

log = logging.getLogger(__name__)
_FIRST_GUESS_S = 3.0  # for the time that drawing takes


class LivePanels(pl.Callback):
    """After each epoch numbers and signals, and pictures as often as there is time for them.

    To ``figures/``, ``signals.json``, ``suspicious.csv`` and ``metrics.csv`` below ``output_dir``,
    and to the loggers. Nothing here changes the training, or draws a random number. The first rank
    does the work; the others give it their particles.

    Parameters
    ----------
    output_dir
        Of the run.
    share
        Part of the time in training that all of this may take: pictures are left out after an
        epoch until there is time for them again. Those that the export does not make are drawn
        after the last epoch in any case.
    """

    def __init__(self, output_dir: str | Path, share: float = 0.05) -> None:
        self.output_dir = Path(output_dir)
        self.share = share
        self._history: list[dict[str, Any]] = []
        self._levels: dict[str, str] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the tables, and read the images of the probe."""
        assert isinstance(pl_module, Reconstruction)
        self._data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._record = EpochRecord(pl_module)
        self._probe = Probe(pl_module, self._data) if trainer.is_global_zero else None
        self._clock = EpochClock()
        self._before: Snapshot | None = None
        self._signals: list[Signal] = []
        self._trained_s, self._spent_s, self._drawing_s = 0.0, 0.0, _FIRST_GUESS_S
        if trainer.is_global_zero:
            origin = {
                "code": code_version(),
                "data_fingerprint": data_fingerprint(self._data.source),
            }
            for logger in trainer.loggers:
                logger.log_hyperparams(origin)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._clock.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The data are here."""
        self._clock.batch_begins()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take down what was found about the particles of the batch."""
        self._record.note(batch.index, outputs)
        self._clock.batch_ends(len(batch) * trainer.world_size)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the ranks' particles together; the first says what they mean."""
        assert isinstance(pl_module, Reconstruction)
        seconds, speed = self._clock.read()
        self._trained_s += seconds
        pl_module.merge_tables()
        epoch = self._record.collect(trainer)
        if self._probe is None:
            self._log(trainer, {})
            return
        began = time.perf_counter()
        now = snapshot(pl_module, epoch)
        speed["peak_memory_gb"] = peak_memory_gb(pl_module.device)
        found = self._judge(trainer, pl_module, now, speed)
        self._log(trainer, found.numbers)
        self._say(trainer, found)
        said = time.perf_counter()
        self._spent_s += said - began
        has_time = self._spent_s + self._drawing_s <= self.share * self._trained_s
        if has_time or self._is_last(trainer):
            drawn = self._drawn(pl_module, now, found)
            if has_time:  # what is left out after the last epoch, the export makes
                drawn |= volume_panels(pl_module, epoch, now.mean)
            show(drawn, self.output_dir, trainer.loggers, trainer.global_step - 1)
            self._drawing_s = time.perf_counter() - said
            self._spent_s += self._drawing_s
        self._before = now

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how it ended."""
        for signal in self._signals:
            log.info("%s", signal.text)
        if self._trained_s:
            share = 100 * self._spent_s / self._trained_s
            log.info("looking at the run took %.1f %% of the time in training", share)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the id of the W&B run, if there is one."""
        for logger in trainer.loggers:
            if isinstance(logger, OneWandbRun):
                checkpoint[RUN_ID] = logger.version

    def state_dict(self) -> dict[str, Any]:
        """The numbers of all epochs so far."""
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._history = state_dict["history"]

    def _judge(
        self,
        trainer: pl.Trainer,
        model: Reconstruction,
        now: Snapshot,
        speed: dict[str, float],
    ) -> Findings:
        """Numbers and signals of the epoch; the numbers go to the history."""
        assert self._probe is not None
        explained = self._probe.explained(model)
        earlier = Moves(**self._history[-1]["moves"]) if self._history else Moves()
        found = findings(model, self._data, self._before, now, earlier, explained)
        found.numbers = {
            name: float(value)
            for name, value in (found.numbers | speed).items()
            if np.isfinite(value)
        }
        self._history.append({
            "epoch": trainer.current_epoch + 1,
            "numbers": found.numbers,
            "moves": asdict(found.moves),
            "explained_by_shell": explained.by_shell.tolist(),
        })  # fmt: skip
        return found

    def _log(self, trainer: pl.Trainer, numbers: dict[str, float]) -> None:
        """To metrics.csv and the loggers; all ranks log what the first has found."""
        numbers = trainer.strategy.broadcast(numbers)
        logged = {f"live/{name}": value for name, value in numbers.items()}
        trainer.lightning_module.log_dict(logged)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, MetricsTable):
                callback.write(trainer, numbers)

    def _say(self, trainer: pl.Trainer, found: Findings) -> None:
        """Signals, to the log where they change, and to files and loggers."""
        if len(self._history) < 2 and not self._is_last(trainer):
            return  # a volume of one epoch is too young to be judged
        self._signals = found.signals
        for signal in found.signals:
            before = self._levels.get(signal.name, "good")
            if signal.level != before and "warning" in (signal.level, before):
                log.info("after epoch %d: %s", trainer.current_epoch + 1, signal.text)
            self._levels[signal.name] = signal.level
        tell(found.signals, self.output_dir, trainer.loggers, trainer.global_step - 1)
        if found.suspicious is not None:
            write_suspicious(self.output_dir, found.suspicious, self._data.table.row)

    def _drawn(self, model: Reconstruction, now: Snapshot, found: Findings) -> dict[str, Figure]:
        """What only this callback draws."""
        geometry = model.geometry
        drawn = particle_panels(model, self._data, now.epoch)
        by_epoch = {row["epoch"]: np.array(row["explained_by_shell"]) for row in self._history}
        drawn["likelihood"] = figures.shell_likelihood(
            by_epoch, geometry.box_size, geometry.pixel_size_angstrom
        )
        drawn["progress"] = _progress(self._history)
        if found.moved:
            drawn["changes"] = figures.changes(found.moved)
        return drawn

    def _is_last(self, trainer: pl.Trainer) -> bool:
        return trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs


def _progress(history: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(name for row in history for name in row["numbers"]))
    curves = {
        name.removeprefix("epoch_").replace("_", " "): [
            row["numbers"].get(name, float("nan")) for row in history
        ]
        for name in names
    }
    return figures.epoch_curves([row["epoch"] for row in history], curves)
