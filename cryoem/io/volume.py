"""Volumes and stacks as MRC files, through mrcfile."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import mrcfile
import numpy as np

from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path

_MODES = {"float32": 2, "float16": 12}


def read_volume(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a map, also gzipped and not only cubes.

    Returns
    -------
    array, voxel size
        float32, indexed ``[z, y, x]``; Angstrom, 1 where the header has none.

    Raises
    ------
    InputError
        If the file cannot be read, is no map, or has voxels that are not cubes or axes that are
        permuted.
    """
    path = Path(path)
    try:
        # Permissive: many real maps lack the machine stamp. What matters is checked here.
        with warnings.catch_warnings(action="ignore"), mrcfile.open(path, permissive=True) as mrc:
            data, header = mrc.data, mrc.header
            if data is None or data.ndim != 3 or not data.size or np.iscomplexobj(data):
                raise InputError(f"{path}: not a readable map of real numbers, or truncated")
            axes = (int(header.mapc), int(header.mapr), int(header.maps))
            volume = np.array(data, dtype=np.float32)
            voxel = [float(mrc.voxel_size[axis]) for axis in "xyz"]
    except InputError:
        raise
    except Exception as error:  # mrcfile and zlib raise nearly anything on a damaged file
        raise InputError(f"{path}: not a readable map ({error})") from error
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(f"{path}: axes are in the order {axes}, not (1, 2, 3); reorder the map")
    return volume, _voxel_size(path, voxel)


def _voxel_size(path: Path, voxel: list[float]) -> float:
    if not all(np.isfinite(voxel)) or min(voxel) <= 0:
        return 1.0
    if max(voxel) - min(voxel) > 1e-3 * max(voxel):
        raise InputError(f"{path}: voxels are not cubes, {voxel} A; resample the map")
    return voxel[0]


def write_volume(path: str | Path, volume: np.ndarray, voxel_size_angstrom: float) -> None:
    """Write a map ``[z, y, x]`` as float32, origin 0; gzipped if the name ends in ``.gz``."""
    path = Path(path)
    compression = "gzip" if path.suffix == ".gz" else None
    with atomic_path(path) as temporary:
        with mrcfile.new(temporary, overwrite=True, compression=compression) as mrc:
            mrc.set_data(np.ascontiguousarray(volume, dtype=np.float32))
            mrc.set_volume()
            mrc.voxel_size = voxel_size_angstrom


def write_stack(
    path: str | Path,
    images: np.ndarray | Iterable[np.ndarray],
    pixel_size_angstrom: float,
    dtype: Literal["float16", "float32"] = "float32",
) -> int:
    """Write images one after another, without holding them all, and return how many they were.

    Parameters
    ----------
    path
        The stack to write; it appears when it is complete.
    images
        An array (n, side, side), or anything that gives arrays (side, side) or (k, side, side).
    pixel_size_angstrom
        For the header.
    dtype
        float16 (MRC mode 12) halves the file; the noise of an image is larger than its rounding.
    """
    with atomic_path(path) as temporary:
        shape = (0, 0)
        with temporary.open("wb") as file:
            file.write(bytes(1024))
            count = 0
            for block in images:
                values = np.ascontiguousarray(block, dtype=np.dtype(dtype).newbyteorder("<"))
                shape = values.shape[-2:]
                count += values.size // (shape[0] * shape[1])
                file.write(values.tobytes())
            file.seek(0)
            file.write(_stack_header(count, shape, pixel_size_angstrom, _MODES[dtype]))
    return count


def _stack_header(count: int, shape: tuple[int, ...], pixel_size: float, mode: int) -> bytes:
    header = np.zeros((), dtype=mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<"))
    header["nx"], header["ny"], header["nz"] = shape[1], shape[0], count
    header["mx"], header["my"], header["mz"] = shape[1], shape[0], 1
    header["cella"] = (shape[1] * pixel_size, shape[0] * pixel_size, pixel_size)
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["mode"], header["ispg"], header["nversion"] = mode, 0, 20140
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1  # not computed
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    return header.tobytes()
