"""Ctrl-C and SIGTERM end a run between two steps."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl

log = logging.getLogger(__name__)
_STEPS_BETWEEN_AGREEMENTS = 10


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and has finished its step."""


class CleanInterrupt(pl.Callback):
    """The first signal ends the run after the step; a second one at once, without a checkpoint.

    Lightning treats :class:`Interrupted` as Ctrl-C: other callbacks see it in ``on_exception``, and
    the process exits with a status that is not 0.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals."""
        self.requested = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop if that was asked for, all ranks at the same step."""
        if self._agreed(trainer):
            raise Interrupted

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._restore()

    def _agreed(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.requested
        if trainer.global_step % _STEPS_BETWEEN_AGREEMENTS:
            return False
        return bool(trainer.strategy.reduce_boolean_decision(self.requested, all=False))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self._restore()
            raise KeyboardInterrupt
        self.requested = True
        log.info(
            "%s: stopping after this step; once more to stop at once", signal.strsignal(number)
        )

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
