"""The results, written at the end of a fit."""

from pathlib import Path

import pytorch_lightning as pl


class ExportRun(pl.Callback):
    """Writes volumes/, latents.npz, particles.star, figures/, metrics.json and report.html."""

    def __init__(self, output_dir: str | Path, n_volumes: int = 10) -> None:
        self.output_dir = Path(output_dir)
        self.n_volumes = n_volumes
