"""What a map is, in numbers, and what looks wrong in it."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoem.io.volume import read_volume


def describe_volume(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return numbers of a map and its problems.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    volume, voxel_size = read_volume(path)
    finite = volume[np.isfinite(volume)]
    facts: dict[str, Any] = {
        "file": str(path),
        "box_size": list(volume.shape[::-1]),
        "voxel_size_angstrom": voxel_size,
    }
    problems = []
    if finite.size < volume.size:
        problems.append(f"{volume.size - finite.size} of {volume.size} voxels are not finite")
    if len(set(volume.shape)) > 1:
        problems.append(f"not a cube: {' x '.join(map(str, volume.shape[::-1]))} voxels")
    elif len(volume) % 2:
        problems.append(f"the box of {len(volume)} voxels is odd; metrics need an even one")
    if voxel_size == 1.0:
        problems.append("the voxel size is 1 A or not set")
    if not finite.size or finite.min() == finite.max():
        return facts, [*problems, "all voxels have the same value"]
    mean, deviation = float(finite.mean(dtype=np.float64)), float(finite.std(dtype=np.float64))
    facts |= {"minimum": float(finite.min()), "maximum": float(finite.max())}
    facts |= {"mean": mean, "standard_deviation": deviation}
    # Density is sparse and stands out on one side: the third moment has its sign.
    skewness = float((((finite - mean) / deviation) ** 3).mean(dtype=np.float64))
    facts["skewness"] = skewness
    if skewness < -0.5:
        problems.append("the density looks inverted: its strongest values are negative")
    return facts, problems
