"""A simulated data set, written once, then read like any other."""

from pathlib import Path
from typing import Any

from datamodules.particles import ParticleDataModule


class SimulatedDataModule(ParticleDataModule):
    """Simulates into ``folder`` unless that holds the same simulation, then reads its file.

    Parameters
    ----------
    folder
        ``<output_dir>/data``: gets particles.star, particles.mrcs and truth/.
    simulation
        What :func:`cryoem.simulate.simulate` takes, without the folder (a dataclass).
    **options
        Of :class:`ParticleDataModule`: box_size, sign, placement, batch_size, num_workers,
        window, seed, halves.

    ``prepare_data()`` simulates (rank 0; the others wait), ``setup()`` reads; ``truth`` is the
    folder of the ground truth.
    """

    def __init__(self, folder: str | Path, simulation: Any, **options: Any) -> None:
        super().__init__(Path(folder) / "particles.star", **options)
