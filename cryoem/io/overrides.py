"""Poses or CTF taken from another file than the particles: ``data.poses``, ``data.ctf``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cryoem.errors import InputError
from cryoem.io.cryodrgn import read_ctf_pickle, read_pose_pickle
from cryoem.io.matching import match_rows
from cryoem.io.rows import ParticleRows, ShiftUnit

ReadRows = Callable[[Path], ParticleRows]
POSES_GIVEN, CTF_GIVEN = " (data.poses)", " (data.ctf)"  # marks in ``origin``


@dataclass(frozen=True)
class Sampling:
    """Pixel sizes (A) that another file gives, for images of its own box size (None: unknown).

    cryoDRGN keeps the pixel size with the CTF, so its ``ctf.pkl`` overrides the particle file's;
    other files only fill in where that has none.
    """

    pixel_size_angstrom: np.ndarray
    box_size: np.ndarray | None
    origin: str
    overrides: bool = False

    def at(self, box_size: int) -> np.ndarray:
        """Pixel sizes of the same field of view on ``box_size`` pixels (0: not known)."""
        if self.box_size is None or box_size == 0:
            return self.pixel_size_angstrom
        return self.pixel_size_angstrom * self.box_size / box_size

    def take(self, rows: np.ndarray) -> "Sampling":
        """Return some of the rows."""
        box = None if self.box_size is None else self.box_size[rows]
        return Sampling(self.pixel_size_angstrom[rows], box, self.origin, self.overrides)


def override_poses(
    rows: ParticleRows, path: Path, read_rows: ReadRows
) -> tuple[ParticleRows, Sampling | None]:
    """Return the rows with the poses of another file, ``.pkl``, ``.star`` or ``.cs``.

    Raises
    ------
    InputError
        If the file has no poses, or not as many as there are rows.
    """
    if path.suffix.lower() == ".pkl":
        rotation, fraction = read_pose_pickle(path)
        _check_length(path, "poses", len(rotation), rows)
        return _with_poses(rows, rotation, fraction, "box", path.name), None
    other = _in_order_of(rows, _read_table(path, "data.poses", read_rows), "poses")
    if other.rotation is None:
        raise InputError(f"{path}: given as data.poses, but has no poses")
    shift, unit = _portable_shift(other)
    changed = _with_poses(rows, other.rotation, shift, unit, other.origin["rotation"])
    return changed, _sampling(other)


def _portable_shift(other: ParticleRows) -> tuple[np.ndarray | None, ShiftUnit]:
    """Shifts as a fraction of the box where that is known: those hold for binned images too."""
    if other.shift is None:
        return None, "pixel"
    if other.pixel_size_angstrom is None and other.shift_unit == "angstrom":
        return other.shift, "angstrom"
    pixels = other.pixels_of_shift(np.ones(len(other)), 0)
    return (pixels, "pixel") if other.box_size is None else (pixels / other.box_size, "box")


def _with_poses(
    rows: ParticleRows,
    rotation: np.ndarray,
    shift: np.ndarray | None,
    unit: ShiftUnit,
    origin: str,
) -> ParticleRows:
    origin += POSES_GIVEN
    origins = rows.origin | {"rotation": origin, "shift": origin}
    return replace(rows, rotation=rotation, shift=shift, shift_unit=unit, origin=origins)


def override_ctf(
    rows: ParticleRows, path: Path, read_rows: ReadRows
) -> tuple[ParticleRows, Sampling | None]:
    """Return the rows with the CTF of another file, ``.pkl``, ``.star`` or ``.cs``.

    Raises
    ------
    InputError
        If the file has no CTF, or not for as many particles as there are rows.
    """
    if path.suffix.lower() == ".pkl":
        ctf, box, pixel_size = read_ctf_pickle(path)
        _check_length(path, "CTF rows", len(box), rows)
        origin = path.name
        sampling: Sampling | None = Sampling(pixel_size, box, origin, overrides=True)
    else:
        other = _in_order_of(rows, _read_table(path, "data.ctf", read_rows), "CTF rows")
        if other.ctf is None:
            raise InputError(f"{path}: given as data.ctf, but has no CTF")
        ctf, origin, sampling = other.ctf, other.origin["ctf"], _sampling(other)
    return replace(rows, ctf=ctf, origin=rows.origin | {"ctf": origin + CTF_GIVEN}), sampling


def _sampling(other: ParticleRows) -> Sampling | None:
    if other.pixel_size_angstrom is None:
        return None
    box = None if other.box_size is None else np.full(len(other), float(other.box_size))
    return Sampling(other.pixel_size_angstrom, box, other.origin["pixel_size"])


def _read_table(path: Path, key: str, read_rows: ReadRows) -> ParticleRows:
    if path.suffix.lower() not in (".star", ".cs"):
        raise InputError(f"{key}={path}: give a .star, .cs or cryoDRGN .pkl file")
    return read_rows(path)


def _in_order_of(rows: ParticleRows, other: ParticleRows, what: str) -> ParticleRows:
    """Follow the images if both files list the same ones, else the order of the rows."""
    _check_length(other.path, what, len(other), rows)
    place = match_rows(rows, other)
    return other.take(place) if (place >= 0).all() else other


def _check_length(path: Path, what: str, length: int, rows: ParticleRows) -> None:
    if length != len(rows):
        raise InputError(
            f"{path}: has {length} {what}, but {rows.path} has {len(rows)} particles; they must "
            "agree (data.select applies to both)"
        )
