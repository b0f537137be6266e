"""metrics.csv: one line per some steps and one per epoch."""

from pathlib import Path

import pytorch_lightning as pl


class MetricsTable(pl.Callback):
    """Appends to ``<output_dir>/metrics.csv``; a resumed run drops the lines it will repeat."""

    def __init__(self, output_dir: str | Path, every_n_steps: int = 20) -> None:
        self.path = Path(output_dir) / "metrics.csv"
        self.every_n_steps = every_n_steps
