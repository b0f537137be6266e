"""What a particle file says of its particles, before any image is looked for."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cryoem.batch import CTFParams
from cryoem.errors import InputError

CTF_FIELDS = tuple(each.name for each in fields(CTFParams))
ShiftUnit = Literal["pixel", "angstrom", "box"]
_MAX_BOX = 1 << 16


@dataclass(frozen=True)
class ParticleRows:
    """One row per particle, in our units and in the order of the file.

    Parameters
    ----------
    path
        The file.
    image_paths, stack, frame
        Stacks as the file spells them; for each particle an index into them, and the image in that
        stack from 0.
    rotation
        Euler matrices, (n, 3, 3) float64, in the convention of :mod:`cryoem.conventions`.
    shift, shift_unit
        Shifts (n, 2), in pixels, in Angstrom or as a fraction of the box, as the file has them.
    ctf
        float64 columns by the field names of :class:`cryoem.batch.CTFParams`.
    pixel_size_angstrom, box_size
        As the file says; None where it is silent.
    half, micrograph, uid
        Half set (0 or 1), micrograph names or numbers, cryoSPARC's identity of a particle.
    origin
        For each quantity, the file and columns that it came from.
    notes
        Remarks for a person: what was assumed, what is ignored.
    """

    path: Path
    image_paths: tuple[str, ...]
    stack: np.ndarray
    frame: np.ndarray
    rotation: np.ndarray | None = None
    shift: np.ndarray | None = None
    shift_unit: ShiftUnit = "pixel"
    ctf: dict[str, np.ndarray] | None = None
    pixel_size_angstrom: np.ndarray | None = None
    box_size: int | None = None
    half: np.ndarray | None = None
    micrograph: np.ndarray | None = None
    uid: np.ndarray | None = None
    origin: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray) -> "ParticleRows":
        """Return some of the rows, and only the stacks that they need."""
        used, stack = np.unique(self.stack[rows], return_inverse=True)
        changes: dict = {
            name: value[rows]
            for name in ("frame", "rotation", "shift", "pixel_size_angstrom", "half",
                         "micrograph", "uid")
            if (value := getattr(self, name)) is not None
        }  # fmt: skip
        if self.ctf is not None:
            changes["ctf"] = {name: column[rows] for name, column in self.ctf.items()}
        paths = tuple(self.image_paths[k] for k in used)
        return replace(self, stack=stack.astype(np.int32), image_paths=paths, **changes)

    def pixels_of_shift(self, pixel_size_angstrom: np.ndarray, box_size: int) -> np.ndarray:
        """Shifts in pixels; zero where the file has none.

        Angstrom are divided by the file's own pixel size, if it has one: whoever wrote the shifts
        multiplied by that, even if it is wrong.
        """
        if self.shift is None:
            return np.zeros((len(self), 2))
        if self.shift_unit == "pixel":
            return self.shift
        if self.shift_unit == "box":
            return self.shift * box_size
        own = self.pixel_size_angstrom
        return self.shift / (pixel_size_angstrom if own is None else own)[:, None]


def check_finite(path: Path, column: str, values: np.ndarray) -> np.ndarray:
    """Return ``values``, or name the first row that is not a finite number in single precision.

    Raises
    ------
    InputError
        If there is a NaN, an infinity, or what float32 has no room for.
    """
    bad = ~(abs(values) <= np.finfo(np.float32).max)
    if bad.any():
        first = tuple(axis[0] for axis in np.nonzero(bad))
        raise InputError(
            f"{path}: row {first[0]} (from 0), {column}: {values[first]} is not a finite number; "
            "correct the row or leave it out"
        )
    return values


def check_ctf(path: Path, ctf: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the CTF columns, or name the first row that cannot be right.

    Raises
    ------
    InputError
        If a value is not finite, or a voltage or an amplitude contrast is out of range.
    """
    for name, values in ctf.items():
        check_finite(path, name, values)
    _check_range(path, "voltage_kilovolts", ctf["voltage_kilovolts"], 1.0, 5000.0)
    _check_range(path, "amplitude_contrast", ctf["amplitude_contrast"], -1.0, 1.0)
    return ctf


def check_pixel_size(path: Path, column: str, values: np.ndarray) -> np.ndarray:
    """Return pixel sizes (A), or name the first that is not finite and positive."""
    check_finite(path, column, values)
    _check_range(path, column, values, 1e-3, 1e4)
    return values


def check_box_size(path: Path, column: str, value: float) -> int:
    """Return a box size in pixels, or refuse what is not a whole number of them."""
    if not (1 <= value <= _MAX_BOX and value == int(value)):
        raise InputError(
            f"{path}: {column}: {value:g} is not a box size in pixels; correct the file"
        )
    return int(value)


def _check_range(path: Path, name: str, values: np.ndarray, low: float, high: float) -> None:
    bad = (values < low) | (values > high)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: row {row} (from 0), {name}: {values[row]:g} is not within {low:g} to "
            f"{high:g}; correct the file"
        )
