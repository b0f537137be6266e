"""Folders that hold a ground truth: true volumes, labels of the particles and their true poses."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.errors import InputError
from cryoem.io.mrc import read_mrc_header
from cryoem.io.table import ParticleTable, read_table
from cryoem.io.volume import read_volume
from cryoem.simulate.motions import MOTIONS
from cryoem.volume import crop_volume

_PATTERNS = ("volume_*.mrc", "conf_*.mrc", "truth.mrc")
_STATE_COLUMNS = ("state", "conformation", "class")


@dataclass(frozen=True)
class TruthFolder:
    """What there is; None where it is missing.

    Attributes
    ----------
    volumes
        True volume of each state, by its number.
    mean, moving_mask
        Mean volume over the particles, and a soft mask around the domain that moves.
    state, coordinate
        Of each row of the particle file.
    column
        Where the coordinate is from.
    period
        Length of the coordinate where it is a circle.
    particles
        Particle file with the true poses.
    """

    path: Path
    volumes: dict[int, Path]
    mean: Path | None
    moving_mask: Path | None
    state: Int64[np.ndarray, " row"] | None
    coordinate: Float[np.ndarray, " row"] | None
    column: str | None
    period: float | None
    particles: Path | None

    def of(self, rows: Int64[np.ndarray, " particle"]) -> "TruthFolder":
        """The same with the labels of some rows of the particle file."""
        state, coordinate = (None if x is None else x[rows] for x in (self.state, self.coordinate))
        return replace(self, state=state, coordinate=coordinate)

    def read(
        self, path: Path, box_size: int, pixel_size_angstrom: float
    ) -> Float[Tensor, "box box box"]:
        """Read one of the volumes, Fourier-cropped to a box of the same length.

        Raises
        ------
        InputError
            If it is no cube, or of another length or a coarser grid.
        """
        volume, voxel_size = read_volume(path)
        side = volume.shape[0]
        if set(volume.shape) != {side} or side % 2 or side < box_size:
            shape = "x".join(map(str, volume.shape))
            raise InputError(
                f"{path}: {shape} voxels; the run needs a cube of an even side from {box_size} on"
            )
        length, needed = side * voxel_size, box_size * pixel_size_angstrom
        if abs(length - needed) > 0.01 * needed:
            raise InputError(
                f"{path}: {length:g} A wide but the run's box {needed:g} A; is it the same data?"
            )
        return crop_volume(torch.from_numpy(volume), box_size)

    def consensus(
        self, state: Int64[np.ndarray, " particle"], box_size: int, pixel_size_angstrom: float
    ) -> Float[Tensor, "box box box"]:
        """Mean true volume over the particles: the best that one volume can do."""
        if self.mean is not None:
            return self.read(self.mean, box_size, pixel_size_angstrom)
        total = torch.zeros(box_size, box_size, box_size)
        for number, count in zip(*np.unique(state, return_counts=True), strict=True):
            volume = self.read(self.volumes[int(number)], box_size, pixel_size_angstrom)
            total += volume * (float(count) / len(state))
        return total


def find_truth(
    folder: Path, labels: Path | None = None, column: str | None = None, period: float | None = None
) -> TruthFolder:
    """Look for volumes, labels and particles in ``folder`` and its ``truth``, or above a ``truth``.

    It understands what ``cryoem simulate`` writes (``volume_###.mrc``, ``labels.csv`` with
    ``state`` and ``coordinate``, ``mean.mrc``, ``moving_mask.mrc``, and ``particles.star`` beside
    the folder), folders with ``conf_##.mrc``, and a single ``truth.mrc``.

    Parameters
    ----------
    folder
        The folder, or the one that its ``truth`` lies in.
    labels
        A CSV file with one row per row of the particle file, instead of ``labels.csv``.
    column
        Its column with the coordinate; by default ``coordinate``, or the first that is neither an
        index nor the state.
    period
        Length of the coordinate where it is a circle; that of the simulation by default.

    Raises
    ------
    InputError
        If there are no volumes, or the labels do not fit them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a ground truth")
    inner = folder / "truth" if (folder / "truth").is_dir() else folder
    outer = folder.resolve().parent if folder.resolve().name == "truth" else folder
    volumes = _volumes(inner)
    csv = labels or _first(inner / "labels.csv", outer / "labels.csv")
    table = None if csv is None else _read_labels(csv)
    state = _states(csv, table, volumes)
    name = None if table is None else _coordinate_column(csv, table, column)
    if column is not None and table is None:
        raise InputError(f"--column {column}: there is no labels.csv in {folder}; give --labels")
    return TruthFolder(
        path=folder,
        volumes=volumes,
        mean=_first(inner / "mean.mrc"),
        moving_mask=_first(inner / "moving_mask.mrc"),
        state=state,
        coordinate=None if table is None or name is None else table[name].to_numpy(float),
        column=name,
        period=period or _simulated_period(inner / "simulation.json"),
        particles=_first(inner / "particles.star", outer / "particles.star"),
    )


def rows_of_run(
    truth: TruthFolder,
    n_particles: int,
    index: Int64[np.ndarray, " particle"] | None,
    exported: Path,
) -> Int64[np.ndarray, " particle"]:
    """Rows of the truth's particle file that the particles of a run are.

    Parameters
    ----------
    truth
        With labels, particles, or neither; then the rows mean nothing, and are as many as needed.
    n_particles
        Of the run.
    index
        Rows of the run's input file, from ``latents.npz``.
    exported
        ``particles.star`` of the run, which tells the images when there is no ``index``.

    Raises
    ------
    InputError
        If they cannot be told.
    """
    n_rows = _n_rows(truth)
    if n_rows is None or (index is None and n_rows == n_particles):
        return np.arange(n_particles)
    if index is not None:
        if index.max() >= n_rows:
            raise InputError(
                f"{truth.path}: {n_rows} particles, but the run used row {index.max()} (from 0) of "
                f"its input; is it the truth of the same data?"
            )
        return index
    if truth.particles is None or not exported.is_file():
        raise InputError(
            f"{truth.path}: {n_rows} particles, the run {n_particles}, and which they are is known "
            f"from neither latents.npz nor particles.star of the run"
        )
    return _rows_by_image(read_table(truth.particles), read_table(exported))


def _rows_by_image(truth: ParticleTable, run: ParticleTable) -> Int64[np.ndarray, " particle"]:
    row = {image: number for number, image in enumerate(_images(truth))}
    try:
        return np.array([row[image] for image in _images(run)], dtype=np.int64)
    except KeyError as error:
        name, frame = error.args[0]
        raise InputError(f"{truth.path}: has no image {frame + 1}@{name} of {run.path}") from None


def _images(table: ParticleTable) -> list[tuple[str, int]]:
    names = [path.name for path in table.stacks]
    return [(names[s], int(f)) for s, f in zip(table.stack, table.frame, strict=True)]


def _n_rows(truth: TruthFolder) -> int | None:
    if truth.state is not None:
        return len(truth.state)
    return None if truth.particles is None else len(read_table(truth.particles))


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _volumes(folder: Path) -> dict[int, Path]:
    for pattern in _PATTERNS:
        found = sorted(folder.glob(pattern))
        if found:
            for path in found:
                read_mrc_header(path)  # so that a damaged one is named before any work
            return {int(_number(path)): path for path in found}
    raise InputError(f"{folder}: no true volumes, none of {', '.join(_PATTERNS)} is there")


def _number(path: Path) -> str:
    match = re.search(r"(\d+)$", path.stem)
    return match[1] if match else "0"


def _read_labels(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give labels as CSV, one row per particle")
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV table ({str(error).splitlines()[0]})") from None
    if "index" in table:
        if not (np.sort(table["index"]) == np.arange(len(table))).all():
            raise InputError(f"{path}: column 'index' is not 0 to {len(table) - 1}, each once")
        table = table.sort_values("index").drop(columns="index")
    return table


def _states(
    path: Path | None, table: pd.DataFrame | None, volumes: dict[int, Path]
) -> Int64[np.ndarray, " row"] | None:
    if path is None or table is None:
        return None
    column = next((name for name in _STATE_COLUMNS if name in table), None)
    if column is None:
        if len(volumes) > 1:
            raise InputError(
                f"{path}: no column {', '.join(_STATE_COLUMNS)} that tells which of the "
                f"{len(volumes)} volumes a particle shows; there are {', '.join(map(str, table))}"
            )
        return np.full(len(table), next(iter(volumes)), dtype=np.int64)
    known = table[column].isin(list(volumes))
    if not known.all():
        row = int(np.argmin(known))
        raise InputError(
            f"{path}: row {row} (from 0) is of {column} {table[column].iloc[row]}, of which there "
            f"is no volume among {len(volumes)}"
        )
    return table[column].to_numpy(np.int64)


def _coordinate_column(path: Path | None, table: pd.DataFrame, column: str | None) -> str | None:
    candidates = [
        str(name)
        for name in table.columns
        if name not in _STATE_COLUMNS and pd.api.types.is_numeric_dtype(table[name])
    ]
    if column is None:
        return "coordinate" if "coordinate" in candidates else next(iter(candidates), None)
    if column not in table or not pd.api.types.is_numeric_dtype(table[column]):
        raise InputError(
            f"{path}: no column '{column}' of numbers; there are {', '.join(candidates) or 'none'}"
        )
    return column


def _simulated_period(path: Path) -> float | None:
    if not path.is_file():
        return None
    try:
        name = json.loads(path.read_text()).get("motion")
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    motion = MOTIONS[name]() if name in MOTIONS else None
    return motion.high - motion.low if motion is not None and motion.circular else None
