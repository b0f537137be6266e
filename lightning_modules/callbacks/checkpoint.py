"""The checkpoint that a run goes on from."""

from pathlib import Path

import pytorch_lightning as pl


class LastCheckpoint(pl.Callback):
    """Keeps ``<output_dir>/checkpoints/last.ckpt`` fresh; complete or not at all.

    Written at the end of each epoch, every ``every_n_minutes`` and every ``every_n_steps`` (None:
    never), and when a run is interrupted.
    """

    def __init__(
        self,
        output_dir: str | Path,
        every_n_minutes: float | None = 10.0,
        every_n_steps: int | None = None,
    ) -> None:
        self.path = Path(output_dir) / "checkpoints" / "last.ckpt"
