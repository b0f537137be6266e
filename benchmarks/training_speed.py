"""Images per second of a training, as ``metrics.csv`` of the run itself says.

``python -m benchmarks.training_speed [key=value ...]`` trains every pair of encoder and decoder
below on the same simulated images, 64 pixels wide, and prints the rate of the second epoch. Further
overrides of ``train.py`` apply to all, such as ``trainer=gpu data.simulation.n_particles=5000``.
"""

import logging
import sys
import tempfile
from pathlib import Path

import pandas as pd

from conf.checks import check
from conf.compose import compose
from train import train

MODELS = {
    "grid, exact posterior": ["model/decoder=fourier_grid", "model/encoder=posterior"],
    "network of components, exact posterior": [
        "model/decoder=fourier_mlp_basis",
        "model/encoder=posterior",
    ],
    "network 256 x 3, network 256 x 3": ["model/decoder=fourier_mlp", "model/encoder=mlp"],
    "network 256 x 3, table": ["model/decoder=fourier_mlp", "model/encoder=table"],
}
COMMON = [
    "data=simulated",
    "data.simulation.n_particles=192",
    "trainer.max_epochs=2",
    "callbacks.metrics.every_n_steps=1",
    "~callbacks.export",
    "~callbacks.progress",
    "trainer.enable_progress_bar=false",
]


def images_per_second(folder: Path, overrides: list[str]) -> float:
    """Train once; returns the median rate over the steps of the last epoch."""
    train(check(compose([*COMMON, *overrides, f"output_dir={folder}"])))
    table = pd.read_csv(folder / "metrics.csv")
    last = table["epoch"] == table["epoch"].max()
    return float(table.loc[last, "images_per_s"].median())


def main() -> None:
    """Print one line per model."""
    logging.captureWarnings(True)
    print(f"{'decoder, encoder':40s}  images/s")
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, overrides) in enumerate(MODELS.items()):
            rate = images_per_second(Path(folder) / str(i), [*overrides, *sys.argv[1:]])
            print(f"{name:40s}  {rate:8.0f}", flush=True)


if __name__ == "__main__":
    main()
