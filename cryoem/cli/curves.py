"""Shell correlation on the command line: masks by name, and curves as tables and numbers."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from rich import print as print_rich
from rich.table import Table
from torch import Tensor

from cryoem.errors import InputError
from cryoem.io.volume import read_volume
from cryoem.metrics.fsc import FSCCurve
from cryoem.metrics.mask import LOOSE, TIGHT, ball_mask, outline_mask, soft_mask

MASK_HELP = (
    "FILE, or: sphere (a ball); loose or tight (half the 99.99th percentile of the density, "
    "dilated by 25 or 6 A, falling off over 15 or 6 A); soft (for maps without noise: 5 %% of the "
    "maximum, dilated by 3 voxels, falling off over 5)"
)


def read_cube(path: str | Path) -> tuple[Float[Tensor, "z y x"], float]:
    """Read a map that can be correlated, and its voxel size.

    Raises
    ------
    InputError
        If it is not a cube of an even side, or not finite.
    """
    volume, voxel_size = read_volume(path)
    if len(set(volume.shape)) != 1 or volume.shape[0] % 2:
        shape = "x".join(map(str, volume.shape[::-1]))
        raise InputError(f"{path}: must be a cube of an even side, is {shape}; crop or pad it")
    cube = torch.from_numpy(volume)
    if not cube.isfinite().all():
        raise InputError(f"{path}: has voxels that are not finite; write the map again")
    return cube, voxel_size


def same_side(path: str | Path, volume: Tensor, other_path: str | Path, other: Tensor) -> None:
    """Refuse two volumes of different sides."""
    if volume.shape != other.shape:
        raise InputError(
            f"{path}: side {volume.shape[0]}, but {other_path} has {other.shape[0]}; "
            f"resample one of them"
        )


def named_mask(
    name: str, density: Float[Tensor, "z y x"], voxel_size: float
) -> Float[Tensor, "z y x"]:
    """Mask by name, around ``density`` where it follows an outline, or read from a file."""
    if name == "sphere":
        return ball_mask(density.shape[0])
    if name not in ("loose", "tight", "soft"):
        mask, _ = read_cube(name)
        same_side(name, mask, "the volume", density)
        return mask
    if not density.max() > 0:
        raise InputError(f"--mask {name}: the density has no positive voxel; is its sign right?")
    if name == "soft":
        return soft_mask(density)
    return outline_mask(density, voxel_size, LOOSE if name == "loose" else TIGHT)


def summary(curve: FSCCurve, voxel_size: float) -> dict[str, float | bool | None]:
    """Numbers of a curve; None for a resolution that does not exist."""

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "mean": finite(curve.mean()),
        "resolution_0.5_angstrom": finite(curve.resolution(0.5, voxel_size)),
        "at_nyquist_0.5": curve.at_nyquist(0.5),
        "resolution_0.143_angstrom": finite(curve.resolution(0.143, voxel_size)),
        "at_nyquist_0.143": curve.at_nyquist(0.143),
        "auc": curve.auc(),
        "auc_norm": curve.auc_norm(),
    }


def print_summaries(curves: Mapping[str, FSCCurve], voxel_size: float) -> None:
    """Print one row per curve."""
    table = Table("curve", "mean", "res. at 0.5 (A)", "res. at 0.143 (A)", "AUC", "AUC, of 1")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, curve in curves.items():
        resolutions = [_resolution(curve, threshold, voxel_size) for threshold in (0.5, 0.143)]
        numbers = [f"{value:.4f}" for value in (curve.mean(), curve.auc(), curve.auc_norm())]
        table.add_row(name, numbers[0], *resolutions, *numbers[1:])
    print_rich(table)


def _resolution(curve: FSCCurve, threshold: float, voxel_size: float) -> str:
    value = curve.resolution(threshold, voxel_size)
    if math.isnan(value):
        return "none"
    return f"{'<= ' if curve.at_nyquist(threshold) else ''}{value:.2f}"


def curves_frame(curves: Mapping[str, FSCCurve], voxel_size: float) -> pd.DataFrame:
    """One row per shell from 1 on: frequencies, resolution, and the curves by name."""
    frequency = next(iter(curves.values())).frequency[1:]
    columns = {
        "shell": range(1, len(frequency) + 1),
        "frequency_cycles_per_voxel": frequency,
        "resolution_angstrom": voxel_size / frequency,
    }
    return pd.DataFrame(columns | {name: curve.correlation[1:] for name, curve in curves.items()})
