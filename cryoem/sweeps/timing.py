"""How long a training will take, from a few of its batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cryoem.sweeps.subset import cheap_data

_BATCHES, _EVERY = 20, 5


def timing_overrides(data: Mapping[str, Any], file: Path) -> dict[str, str]:
    """Overrides for a training of twenty batches, at the size of the images that ``data`` has."""
    few, _ = cheap_data(data, _BATCHES * data["batch_size"], None, file)
    return few | {
        "trainer.max_epochs": "1",
        "callbacks.metrics.every_n_steps": str(_EVERY),
        "callbacks.export.n_volumes": "1",
        "preflight": "false",
    }


def expected_time(run: Path, n_particles: int, epochs: int) -> str:
    """A sentence, from the speed that such a training reached after its first batches."""
    file = run / "metrics.csv"
    rates = pd.read_csv(file)["images_per_s"].dropna() if file.is_file() else pd.Series(dtype=float)
    if not len(rates):
        return "How long all of the data will take could not be measured; see its preflight."
    rate = float(rates.iloc[1:].median() if len(rates) > 1 else rates.iloc[0])
    seconds = n_particles * epochs / rate
    shown = f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.0f} minutes"
    if seconds < 120:
        shown = f"{seconds:.0f} seconds"
    return (
        f"All of the data, {n_particles:,} particles and {epochs} epochs, will take about {shown} "
        f"of training on this machine ({rate:.3g} images/s, measured at full size)."
    )
