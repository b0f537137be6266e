"""Ctrl-C, SIGTERM and SIGUSR1 end a run between two steps."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

log = logging.getLogger(__name__)
_STEPS_BETWEEN_AGREEMENTS = 10


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop by ``signal``, and has finished its step."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.signal = number


class CleanInterrupt(pl.Callback):
    """The first signal ends the run after the step; a second one at once, without a checkpoint.

    SIGTERM is what clusters send before they take a machine away, SIGUSR1 what they can be asked to
    send before the time is over; one rank that gets a signal is enough. Lightning treats
    :class:`Interrupted` as Ctrl-C: other callbacks see it in ``on_exception``, and the process ends
    with :class:`SystemExit`, whose context it is.
    """

    def __init__(self) -> None:
        self._requested = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals."""
        self._requested = 0
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop if that was asked for, all ranks at the same step.

        Not before what belongs to the end of an epoch: who goes on would begin with the next.
        """
        if trainer.is_last_batch:
            return
        number = self._agreed(trainer)
        if number:
            raise Interrupted(number)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._restore()

    def _agreed(self, trainer: pl.Trainer) -> int:
        """The signal on which all ranks stop, 0 if they go on."""
        if trainer.world_size == 1:
            return self._requested
        if trainer.global_step % _STEPS_BETWEEN_AGREEMENTS:
            return 0
        number = torch.tensor(self._requested, device=trainer.strategy.root_device)
        return int(trainer.strategy.all_gather(number).max())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            self._restore()
            raise KeyboardInterrupt
        self._requested = number
        log.info(
            "%s: stopping after this step; once more to stop at once", signal.strsignal(number)
        )

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
