"""A progress bar with images per second."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_REFRESHES = 0.5


class Progress(ProgressBar):
    """A rich bar on a terminal, a log line per ``every_n_seconds`` elsewhere.

    The loss is fetched from the device only when it is shown.
    """

    def __init__(self, every_n_seconds: float = 15.0) -> None:
        super().__init__()
        self.every_n_seconds = every_n_seconds
        self._bar: RichProgress | None = None
        self._enabled = True

    def disable(self) -> None:
        """Be silent: all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self._total = int(trainer.num_training_batches * (trainer.max_epochs or 0))
        self._images = 0
        self._shown_at = time.monotonic()
        console = Console(stderr=True)
        if self._enabled and console.is_terminal:
            self._interval = _SECONDS_BETWEEN_REFRESHES
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("training", total=self._total)
            self._bar.start()
        else:
            self._interval = self.every_n_seconds

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Refresh now and then."""
        self._images += len(batch) * trainer.world_size
        last = trainer.global_step == self._total
        seconds = time.monotonic() - self._shown_at
        if not self._enabled or (seconds < self._interval and not last):
            return
        text = (
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
            f"loss {float(outputs['objective']):.4f}  {self._images / seconds:,.0f} images/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, description=text)
        else:
            log.info("%s  step %d/%d", text, trainer.global_step, self._total)
        self._images, self._shown_at = 0, time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the finished bar behind."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
