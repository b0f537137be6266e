"""cryoDRGN's ``pose.pkl``, ``ctf.pkl`` and ``ind.pkl``, read without unpickling code."""

from pathlib import Path

import numpy as np

from cryoem.errors import InputError
from cryoem.io.pickles import load_pickle
from cryoem.io.rows import CTF_FIELDS, check_box_size, check_ctf, check_finite, check_pixel_size


def read_pose_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations (n, 3, 3) and shifts as a fraction of the box (n, 2).

    The file holds ``(rotations, shifts)``, ``(rotations,)`` or the rotations alone.

    Raises
    ------
    InputError
        If it holds anything else, or shifts in pixels.
    """
    content = load_pickle(path)
    parts = list(content) if isinstance(content, (tuple, list)) else [content]
    rotation = _array(path, parts[0] if parts else None)
    if len(parts) > 2 or rotation.ndim != 3 or rotation.shape[1:] != (3, 3):
        raise InputError(
            f"{path}: not a pose file, it holds no rotations of shape (N, 3, 3); is it the CTF?"
        )
    shift = _array(path, parts[1]) if len(parts) == 2 else np.zeros((len(rotation), 2))
    if shift.shape != (len(rotation), 2):
        raise InputError(
            f"{path}: {len(rotation)} rotations but shifts of shape {shift.shape}; "
            f"({len(rotation)}, 2) is needed"
        )
    _check_rotations(path, rotation)
    check_finite(path, "shift", shift)
    if (abs(shift) > 1).any():
        row = int((abs(shift) > 1).any(axis=1).argmax())
        raise InputError(
            f"{path}: row {row} (from 0): the shift {shift[row].tolist()} is no fraction of the "
            "box; divide the shifts, which seem to be in pixels, by the box size"
        )
    return rotation, shift


def _array(path: Path, value: object) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.zeros(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: holds {type(value).__name__}, not an array of numbers; is it cryoDRGN's?"
        )
    return array.astype(np.float64)


def _check_rotations(path: Path, rotation: np.ndarray) -> None:
    check_finite(path, "rotation", rotation)
    error = abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0)
    bad = (error > 1e-2) | (np.linalg.det(rotation) < 0)
    if bad.any():
        raise InputError(
            f"{path}: row {int(bad.argmax())} (from 0) is not a rotation matrix; is this the pose "
            "file?"
        )


def read_ctf_pickle(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return CTF columns, the box size (pixels) and the pixel size (A) they were made for.

    The file holds an array of shape (N, 9): box, pixel size, defocus U and V, angle, voltage,
    spherical aberration, amplitude contrast, phase shift; in our units.

    Raises
    ------
    InputError
        If it holds anything else.
    """
    table = _array(path, load_pickle(path))
    if table.ndim != 2 or table.shape[1] != 9:
        raise InputError(f"{path}: not a CTF file, its shape is {table.shape} and not (N, 9)")
    values = [*table[:, 2:].T, np.zeros(len(table)), np.ones(len(table))]
    ctf = check_ctf(path, dict(zip(CTF_FIELDS, values, strict=True)))
    for value in np.unique(table[:, 0]):
        check_box_size(path, "column 0 (box size)", value)
    box = table[:, 0]
    return ctf, box, check_pixel_size(path, "column 1 (pixel size)", table[:, 1])
