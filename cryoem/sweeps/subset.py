"""A cheap version of a data set: few particles, in a small box."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryoem.io.atomic import atomic_path


def cheap_data(
    data: Mapping[str, Any], n_particles: int, box_size: int | None, file: Path
) -> tuple[dict[str, str], int]:
    """Overrides that leave ``n_particles`` in ``box_size``, and how many there are in full.

    Parameters
    ----------
    data
        The resolved configuration of the data.
    n_particles, box_size
        What is wanted; whatever is smaller already stays. None: the box stays.
    file
        Gets the chosen rows of a particle file, drawn at random, the same ones every time.

    Raises
    ------
    InputError
        If the particle file cannot be read.
    """
    overrides = {}
    if "simulation" in data:
        n, side = data["simulation"]["n_particles"], data["simulation"]["box_size"]
        if n > n_particles:
            overrides["data.simulation.n_particles"] = str(n_particles)
    else:
        from cryoem.io.source import open_particles  # torch takes seconds

        names = ("root", "passthrough", "poses", "ctf", "select")
        source = open_particles(
            data["particles"],
            pixel_size_angstrom=data["pixel_size"],
            **{name: data[name] for name in names},
        )
        n, side = len(source.table), source.geometry.box_size
        if n > n_particles:
            chosen = np.random.default_rng(0).choice(n, n_particles, replace=False)
            with atomic_path(file) as temporary:
                np.save(temporary, np.sort(source.table.row[chosen]))
            overrides["data.select"] = str(file)
    if box_size is not None and min(side, data["box_size"] or side) > box_size:
        overrides["data.box_size"] = str(box_size)
    return overrides, n
