"""cryoSPARC particle files: a ``.cs`` table and the passthrough table that completes it."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from cryoem.errors import InputError
from cryoem.io.rows import ParticleRows, check_box_size, check_ctf, check_finite, check_pixel_size
from cryoem.rotations import from_cryosparc

_TEXT_FIELDS = ("blob/path", "ctf/type", "location/micrograph_path")
_VECTORS = {
    "blob/shape": (2,),
    "alignments3D/pose": (3,),
    "alignments3D/shift": (2,),
    "ctf/shift_A": (2,),
    "ctf/tilt_A": (2,),
    "ctf/trefoil_A": (2,),
    "ctf/tetra_A": (4,),
    "ctf/anisomag": (4,),
}
_INTEGERS = ("blob/idx", "blob/shape", "uid", "alignments3D/split")
_ABERRATIONS = ("tilt_A", "trefoil_A", "tetra_A", "anisomag")
_MAX_HEADER = 1 << 16  # hundreds of fields; numpy's own limit is less than a large passthrough has
_MAX_IMAGES = 1 << 31  # an MRC header counts in 32 bits


def read_cryosparc(path: Path, passthrough: Path | None = None) -> ParticleRows:
    """Read the particles of a ``.cs`` file.

    Raises
    ------
    InputError
        If the file is no ``.cs`` file, says nothing of images, or does not fit the passthrough.
    """
    columns = _columns(read_cs(path))
    _check_fields(path, columns)
    if passthrough is not None:
        columns = _join(path, columns, passthrough) | columns
    missing = [name for name in ("blob/path", "blob/idx") if name not in columns]
    if missing:
        raise InputError(
            f"{path}: missing field {', '.join(missing)}; "
            "give the passthrough file too (data.passthrough=..._passthrough_particles.cs)"
        )
    origin, notes = {"images": f"{path.name}:blob/path,blob/idx"}, []
    frame = _frame(path, columns["blob/idx"])
    written = np.char.lstrip(_text(columns["blob/path"]), ">")
    names, stack = np.unique(written, return_inverse=True)
    if "blob/sign" in columns:
        signs = ", ".join(f"{value:g}" for value in np.unique(columns["blob/sign"]))
        notes.append(f"blob/sign is {signs} (-1: dark particles, says cryoSPARC)")
    return ParticleRows(
        path=path,
        image_paths=tuple(str(name) for name in names),
        stack=stack.astype(np.int32),
        frame=frame,
        rotation=_rotation(path, columns, origin, notes),
        shift=_shift(path, columns, origin),
        shift_unit="angstrom" if "alignments3D/psize_A" in columns else "pixel",
        ctf=_ctf(path, columns, origin, notes),
        pixel_size_angstrom=_pixel_size(path, columns, origin),
        box_size=_box_size(path, columns),
        half=_half(columns, origin),
        micrograph=_micrograph(columns, origin),
        uid=columns["uid"].astype(np.uint64) if "uid" in columns else None,
        origin=origin,
        notes=tuple(notes),
    )


def _check_fields(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Refuse a field that we use and that is not numbers of the usual shape."""
    for name, values in columns.items():
        group = name.partition("/")[0]
        if name in _TEXT_FIELDS:
            fits = values.dtype.kind in "SU" and values.ndim == 1
        elif name in _VECTORS or name in _INTEGERS or group in ("blob", "ctf", "alignments3D"):
            kinds = "iu" if name in _INTEGERS else "iuf"
            fits = values.dtype.kind in kinds and values.shape[1:] == _VECTORS.get(name, ())
        else:
            fits = True
        if not fits:
            shape = values.shape[1:]
            raise InputError(
                f"{path}: field {name} has values of type {values.dtype}{shape or ''}, which is "
                "not cryoSPARC's; export the particles again"
            )


def _frame(path: Path, index: np.ndarray) -> np.ndarray:
    bad = (index < 0) | (index >= _MAX_IMAGES)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: row {row} (from 0), blob/idx: {index[row]} is not the number of an image; "
            "export the particles again"
        )
    return index.astype(np.int64)


def _text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "surrogateescape")
    return values.astype(str)


def read_cs(path: Path) -> np.ndarray:
    """Return the structured array in a ``.cs`` file; nothing in it is unpickled.

    Raises
    ------
    InputError
        If it cannot be read or is not such an array, or is empty.
    """
    try:
        with path.open("rb") as file:
            _check_size(path, file)
            table = np.load(file, allow_pickle=False, max_header_size=_MAX_HEADER)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy raises nearly anything on a damaged header
        raise InputError(
            f"{path}: not a readable .cs file ({_first_line(error)}); copy or export it again"
        ) from error
    if len(table) == 0:
        raise InputError(f"{path}: the table has no rows; give a file with particles in it")
    return table


def _check_size(path: Path, file: BinaryIO) -> None:
    """Look at the header before numpy makes room for what it says."""
    head = io.BytesIO(file.read(_MAX_HEADER))
    major, _ = np.lib.format.read_magic(head)
    read = (
        np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(head, max_header_size=_MAX_HEADER)
    if dtype.hasobject:
        raise InputError(
            f"{path}: refused to load pickled objects; export the particles from cryoSPARC again"
        )
    if dtype.names is None or len(shape) != 1:
        raise InputError(f"{path}: not a .cs file, there is no table in it; is it another array?")
    expected = head.tell() + shape[0] * dtype.itemsize
    actual = file.seek(0, os.SEEK_END)
    if actual < expected:
        raise InputError(
            f"{path}: truncated, {shape[0]} rows need {expected} bytes but the file has {actual}; "
            "copy it again"
        )
    file.seek(0)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _columns(table: np.ndarray) -> dict[str, np.ndarray]:
    return {name: table[name] for name in table.dtype.names or ()}


def _join(path: Path, columns: dict[str, np.ndarray], passthrough: Path) -> dict[str, np.ndarray]:
    """Return the passthrough's columns in the order of the main table."""
    other = _columns(read_cs(passthrough))
    _check_fields(passthrough, other)
    if "uid" not in columns or "uid" not in other:
        raise InputError(
            f"{passthrough}: cannot be joined to {path.name}, a field 'uid' is missing"
        )
    place = find_unique(columns["uid"].astype(np.uint64), other["uid"].astype(np.uint64))
    if (place == -2).any():
        raise InputError(
            f"{passthrough}: {(place == -2).sum()} uids of {path.name} occur twice in it"
        )
    if (place == -1).any():
        raise InputError(
            f"{passthrough}: {(place == -1).sum()} of {len(place)} uids of {path.name} are not in "
            "it; give the passthrough of the same job"
        )
    return {name: values[place] for name, values in other.items()}


def find_unique(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Index of each wanted value in ``known``; -1 where it is missing, -2 where it is repeated."""
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    left, right = np.searchsorted(ordered, wanted), np.searchsorted(ordered, wanted, side="right")
    place = order[left.clip(max=len(known) - 1)]
    return np.where(right == left, -1, np.where(right > left + 1, -2, place))


def _rotation(
    path: Path, columns: dict[str, np.ndarray], origin: dict[str, str], notes: list[str]
) -> np.ndarray | None:
    if "alignments3D/pose" not in columns:
        if "alignments2D/pose" in columns:
            notes.append("2-D alignments only: they are not poses")
        return None
    vectors = check_finite(path, "alignments3D/pose", columns["alignments3D/pose"])
    origin["rotation"] = f"{path.name}:alignments3D/pose"
    return from_cryosparc(torch.from_numpy(vectors.astype(np.float64))).numpy()


def _shift(path: Path, columns: dict[str, np.ndarray], origin: dict[str, str]) -> np.ndarray | None:
    """Shifts in Angstrom: they were found on images of ``alignments3D/psize_A``, maybe binned."""
    if "alignments3D/shift" not in columns:
        return None
    shift = check_finite(path, "alignments3D/shift", columns["alignments3D/shift"])
    origin["shift"] = f"{path.name}:alignments3D/shift"
    if "alignments3D/psize_A" not in columns:
        return shift.astype(np.float64)
    size = check_pixel_size(path, "alignments3D/psize_A", columns["alignments3D/psize_A"])
    origin["shift"] += ",alignments3D/psize_A"
    return shift.astype(np.float64) * size.astype(np.float64)[:, None]


def _ctf(
    path: Path, columns: dict[str, np.ndarray], origin: dict[str, str], notes: list[str]
) -> dict[str, np.ndarray] | None:
    if "ctf/df1_A" not in columns:
        return None
    needed = ("df1_A", "df2_A", "df_angle_rad", "accel_kv", "cs_mm", "amp_contrast")
    missing = [f"ctf/{name}" for name in needed if f"ctf/{name}" not in columns]
    if missing:
        raise InputError(f"{path}: missing field {', '.join(missing)}, needed for the CTF")
    origin["ctf"] = f"{path.name}:ctf/*"
    for name in _ABERRATIONS:
        values = columns.get(f"ctf/{name}", np.zeros((1, 1)))
        if count := int(values.any(axis=1).sum()):
            notes.append(
                f"aberrations are not applied: ctf/{name}, set for {count} of {len(values)} "
                "particles"
            )

    def column(name: str, default: float = 0.0) -> np.ndarray:
        values = columns.get(f"ctf/{name}")
        return (
            np.full(len(columns["ctf/df1_A"]), default) if values is None else values.astype(float)
        )

    return check_ctf(
        path,
        {
            "defocus_u_angstrom": column("df1_A"),
            "defocus_v_angstrom": column("df2_A"),
            "defocus_angle_degrees": np.degrees(column("df_angle_rad")),
            "voltage_kilovolts": column("accel_kv"),
            "spherical_aberration_mm": column("cs_mm"),
            "amplitude_contrast": column("amp_contrast"),
            "phase_shift_degrees": np.degrees(column("phase_shift_rad")),
            "b_factor_angstrom2": column("bfactor"),
            "scale": column("scale", 1.0),
        },
    )


def _pixel_size(
    path: Path, columns: dict[str, np.ndarray], origin: dict[str, str]
) -> np.ndarray | None:
    if "blob/psize_A" not in columns:
        return None
    origin["pixel_size"] = f"{path.name}:blob/psize_A"
    return check_pixel_size(path, "blob/psize_A", columns["blob/psize_A"].astype(np.float64))


def _box_size(path: Path, columns: dict[str, np.ndarray]) -> int | None:
    if "blob/shape" not in columns:
        return None
    shapes = np.unique(columns["blob/shape"], axis=0)
    if len(shapes) > 1:
        raise InputError(
            f"{path}: images differ in size, blob/shape has {shapes[0].tolist()} and "
            f"{shapes[1].tolist()}; re-extract at one size"
        )
    height, width = shapes[0].tolist()
    if height != width:
        raise InputError(
            f"{path}: images are not square, blob/shape is {width} x {height}; re-extract them"
        )
    return check_box_size(path, "blob/shape", float(width))


def _half(columns: dict[str, np.ndarray], origin: dict[str, str]) -> np.ndarray | None:
    split = columns.get("alignments3D/split")
    if split is None or not np.isin(split, (0, 1)).all():
        return None
    origin["half"] = "alignments3D/split"
    return split.astype(np.int8)


def _micrograph(columns: dict[str, np.ndarray], origin: dict[str, str]) -> np.ndarray | None:
    for name in ("location/micrograph_path", "location/micrograph_uid"):
        if name in columns:
            origin["micrograph"] = name
            values = columns[name]
            return _text(values).astype(object) if name in _TEXT_FIELDS else values
    return None
