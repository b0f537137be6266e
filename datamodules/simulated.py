"""A simulated data set, written once, then read like any other."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]

from cryoem.checkpoint import plain
from cryoem.errors import InputError
from cryoem.simulate import simulate
from datamodules.particles import ParticleDataModule

_POLL_SECONDS = 0.5


class SimulatedDataModule(ParticleDataModule):
    """Simulates into ``folder`` unless that holds the same simulation, then reads its file.

    Parameters
    ----------
    folder
        ``<output_dir>/data``: gets particles.star, particles.mrcs and truth/.
    simulation
        Keywords of :func:`cryoem.simulate.simulate`.
    **options
        Of :class:`ParticleDataModule`: box_size, sign, placement, batch_size, num_workers,
        window, seed, halves.

    ``prepare_data()`` simulates (rank 0; the others wait), ``setup()`` reads; ``truth`` is the
    folder of the ground truth.
    """

    def __init__(self, folder: str | Path, simulation: Mapping[str, Any], **options: Any) -> None:
        self.folder = Path(folder)
        super().__init__(self.folder / "particles.star", **options)
        self.simulation = dict(simulation)
        self.truth = self.folder / "truth"

    def prepare_data(self) -> None:
        """Simulate once. The folder appears when it is complete, which is what others wait for.

        Raises
        ------
        InputError
            If the folder holds another simulation.
        """
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
            while not self.particles.is_file():
                time.sleep(_POLL_SECONDS)
        elif not self.particles.is_file():
            simulate(self.folder, **self.simulation)
        self._check_same()

    def _check_same(self) -> None:
        summary = json.loads((self.folder / "truth" / "simulation.json").read_text())
        for key, value in self.simulation.items():
            if key in summary and _as_json(summary[key]) != _as_json(value):
                raise InputError(
                    f"{self.folder} holds a simulation with {key}={summary[key]}, not {value}; "
                    "remove it or choose another name for the run"
                )


def _as_json(value: Any) -> Any:
    """Infinity is text in the summary, and 6 is the same as 6.0."""
    return str(value) if value == float("inf") else plain(value)
