"""From the name of a motion, or a file, to the molecule that is simulated."""

from pathlib import Path

import numpy as np
import torch

from cryoem.errors import InputError
from cryoem.io.volume import read_volume
from cryoem.simulate.bead_specimen import BeadSpecimen
from cryoem.simulate.map_specimen import MapSpecimen
from cryoem.simulate.motions import MOTIONS, Motion, spread, still
from cryoem.simulate.settings import Simulation
from cryoem.simulate.specimen import Specimen
from cryoem.simulate.structures import STRUCTURE_SUFFIXES, read_structure

MAP_SUFFIXES = (".mrc", ".map", ".ccp4")
_PIXELS_PER_RESOLUTION = 2.5  # amplitude 0.21 at Nyquist: mild ringing in real space, no more


def find_specimen(settings: Simulation) -> tuple[Specimen, Motion | None]:
    """Molecule of a data set, and its motion (None for a map).

    Raises
    ------
    InputError
        If the name is no motion, map or atomic model, or the molecule is larger than the box.
    """
    if settings.motion not in MOTIONS and Path(settings.motion).suffix.lower() in MAP_SUFFIXES:
        return _map_specimen(settings), None
    motion = _find_motion(settings.motion)
    _check_size(settings, motion)
    specimen = BeadSpecimen(
        motion, settings.box_size, settings.pixel_size_angstrom, bead_resolution(settings)
    )
    return specimen, motion


def bead_resolution(settings: Simulation) -> float:
    """Resolution of a bead model in angstrom, 2.5 pixels where none was asked for."""
    return settings.resolution_angstrom or _PIXELS_PER_RESOLUTION * settings.pixel_size_angstrom


def _find_motion(name: str) -> Motion:
    if name in MOTIONS:
        return MOTIONS[name]()
    path = Path(name)
    if path.suffix.lower() in STRUCTURE_SUFFIXES:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return still(path.stem, read_structure(path))
    raise InputError(
        f"{name!r} is neither a motion ({', '.join(MOTIONS)}), nor a map "
        f"({' '.join(MAP_SUFFIXES)}), nor an atomic model ({' '.join(STRUCTURE_SUFFIXES)})"
    )


def _map_specimen(settings: Simulation) -> MapSpecimen:
    path = Path(settings.motion)
    density, voxel_size = read_volume(path)
    if len(set(density.shape)) != 1:
        raise InputError(f"{path}: the map is {density.shape} voxels; a cube is needed")
    if not np.isfinite(density).all():
        raise InputError(f"{path}: the map has voxels that are not finite")
    return MapSpecimen(
        torch.as_tensor(density),
        voxel_size or settings.pixel_size_angstrom,
        settings.box_size,
        settings.pixel_size_angstrom,
        settings.resolution_angstrom,
    )


def _check_size(settings: Simulation, motion: Motion) -> None:
    radius = float(motion.conformation(spread(motion, 12)).norm(dim=-1).max())
    side = settings.box_size * settings.pixel_size_angstrom
    if 2 * radius > side:
        raise InputError(
            f"{motion.name} is {2 * radius:.0f} A across, but the box only {settings.box_size} x "
            f"{settings.pixel_size_angstrom:g} A = {side:.0f} A; enlarge the box or the pixels"
        )
