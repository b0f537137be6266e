"""What a particle table says, in numbers, and what looks wrong in it."""

from typing import Any

import numpy as np
import torch

from cryoem.io.table import ParticleTable

_PLAUSIBLE = {
    "defocus_u_angstrom": (-1_000, 100_000),
    "defocus_v_angstrom": (-1_000, 100_000),
    "voltage_kilovolts": (60, 1_250),
    "spherical_aberration_mm": (0, 10),
    "amplitude_contrast": (0, 1),
}


def describe(table: ParticleTable) -> dict[str, Any]:
    """Return numbers of the table: ranges as ``[low, high]``, None where the files do not say."""
    shift = None if table.pose is None else table.pose.shift.numpy()
    return {
        "file": str(table.path),
        "n_particles": len(table),
        "rows_in_file": table.n_rows,
        "stacks": len(table.stacks),
        "micrographs": None if table.micrograph is None else len(set(table.micrograph)),
        "box_size": table.box_size or None,
        "pixel_size_angstrom": _range(table.pixel_size_angstrom),
        "has_poses": table.pose is not None,
        "largest_shift_pixels": None if shift is None else float(np.abs(shift).max()),
        "half_sets": None if table.half is None else np.bincount(table.half, minlength=2).tolist(),
        "ctf": _ctf_ranges(table),
        "origin": dict(table.origin),
        "notes": list(table.notes),
    }


def _range(values: np.ndarray | torch.Tensor) -> list[float]:
    numbers = np.asarray(values, dtype=np.float64)
    return [float(f"{number:.6g}") for number in (numbers.min(), numbers.max())]


def _ctf_ranges(table: ParticleTable) -> dict[str, list[float]] | None:
    if table.ctf is None:
        return None
    return {name: _range(values) for name, values in vars(table.ctf).items()}


def find_problems(table: ParticleTable) -> list[str]:
    """Return what would spoil a run or hint at a mistake; rows are those of the file, from 0."""
    return [*_ctf_problems(table), *_pose_problems(table), *_row_problems(table)]


def _ctf_problems(table: ParticleTable) -> list[str]:
    if table.ctf is None:
        return ["no CTF: images are taken as they are, which is right only for CTF-free images"]
    problems: list[str] = []
    for name, values in vars(table.ctf).items():
        numbers = values.numpy()
        low, high = _PLAUSIBLE.get(name, (-np.inf, np.inf))
        _report(problems, table, ~np.isfinite(numbers), f"{name} is not finite")
        _report(
            problems,
            table,
            (numbers < low) | (numbers > high),
            f"{name} is outside {low:g} to {high:g}",
        )
    return problems


def _pose_problems(table: ParticleTable) -> list[str]:
    if table.pose is None:
        return ["no poses: a reconstruction needs them (data.poses=FILE), or a pose search"]
    problems: list[str] = []
    rotation, shift = table.pose.rotation.double(), table.pose.shift.numpy()
    off = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax((-2, -1))
    _report(problems, table, ~(off < 1e-3).numpy(), "the rotation is no rotation matrix")
    _report(problems, table, ~np.isfinite(shift).all(axis=1), "the shift is not finite")
    if table.box_size:
        far = np.abs(shift).max(axis=1) > table.box_size / 4
        _report(problems, table, far, "the shift is more than a quarter of the box")
    if len(table) > 1 and bool((rotation == rotation[0]).all()):
        problems.append("all particles have the same rotation: are these poses real?")
    return problems


def _row_problems(table: ParticleTable) -> list[str]:
    problems: list[str] = []
    images = np.stack([table.stack, table.frame], axis=1)
    _, first, inverse = np.unique(images, axis=0, return_index=True, return_inverse=True)
    repeated = first[inverse.ravel()] != np.arange(len(table))
    _report(problems, table, repeated, "the image is the same as in an earlier row")
    sizes = table.pixel_size_angstrom
    if sizes.max() > 1.05 * sizes.min():
        problems.append(f"pixel sizes differ by more than 5 %: {sizes.min():g} to {sizes.max():g}")
    if table.box_size % 2:
        problems.append(f"the box of {table.box_size} pixels is odd; training needs an even one")
    if table.half is not None and np.bincount(table.half, minlength=2).min() < 0.25 * len(table):
        problems.append("the half-sets differ much in size")
    return problems


def _report(problems: list[str], table: ParticleTable, bad: np.ndarray, what: str) -> None:
    if bad.any():
        row = int(table.row[int(np.argmax(bad))])
        problems.append(f"{what}: {int(bad.sum())} of {len(table)} rows, the first is row {row}")
