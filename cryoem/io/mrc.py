"""Headers of MRC stacks: how many images of which size lie where in the file.

MRC2014, Cheng et al., J. Struct. Biol. 192, 146 (2015). Only the header is read, with a plain
``struct``: opening ten thousand stacks must not take minutes, and real files have no machine stamp.
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cryoem.errors import InputError

HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
ByteOrder = Literal["<", ">"]
_BIG_STAMP = 0x11  # the first byte; 0x44 is little-endian
_SANE_SIDE = 1 << 20


@dataclass(frozen=True)
class MrcHeader:
    """What one needs to find image ``k`` of a stack.

    ``pixel_size_angstrom`` is None where the header has none or nonsense. ``space_group`` is 0 for
    a stack of images and 1 for a volume, though many programs write 1 for both; from 401 on it is
    a stack of volumes. ``extra_bytes`` are what the file has behind its last image.
    """

    path: Path
    n_images: int
    height: int
    width: int
    dtype: np.dtype
    data_offset: int
    pixel_size_angstrom: float | None
    space_group: int
    extra_bytes: int

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.height * self.width * self.dtype.itemsize

    @property
    def looks_like_volume(self) -> bool:
        """A cube whose space group says volume, or volumes one after another."""
        cube = self.n_images == self.height == self.width
        return (cube and self.space_group >= 1) or self.space_group > 400


def read_mrc_header(path: Path) -> MrcHeader:
    """Read and check the header of a stack.

    Raises
    ------
    InputError
        If the file is missing, is no MRC file, has a mode other than 0, 1, 2, 6 or 12, or is
        shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
        actual = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    header = _parse(path, raw)
    expected = header.data_offset + header.n_images * header.image_bytes
    if actual < expected:
        raise InputError(
            f"{path}: truncated, {header.n_images} images of {header.width} x {header.height} need "
            f"{expected} bytes but the file has {actual}; copy it again"
        )
    return replace(header, extra_bytes=actual - expected)


def _parse(path: Path, raw: bytes) -> MrcHeader:
    if len(raw) < HEADER_BYTES:
        raise InputError(
            f"{path}: not an MRC file, {len(raw)} bytes are less than a header of {HEADER_BYTES}; "
            "copy it again"
        )
    order = _byte_order(path, raw)
    nx, ny, nz, mode = struct.unpack(order + "4i", raw[:16])
    mx, cell_x = struct.unpack(order + "i8xf", raw[28:44])
    (space_group,) = struct.unpack(order + "i", raw[88:92])
    (extended,) = struct.unpack(order + "i", raw[92:96])
    if mode not in MODES:
        known = ", ".join(map(str, MODES))
        raise InputError(f"{path}: MRC mode {mode} is not supported, only {known}; convert it")
    if extended < 0:
        raise InputError(
            f"{path}: the extended header has {extended} bytes; the file is corrupt, copy it again"
        )
    return MrcHeader(
        path=path,
        n_images=nz,
        height=ny,
        width=nx,
        dtype=np.dtype(MODES[mode]).newbyteorder(order),
        data_offset=HEADER_BYTES + extended,
        pixel_size_angstrom=_pixel_size(cell_x, mx),
        space_group=space_group,
        extra_bytes=0,
    )


def _byte_order(path: Path, raw: bytes) -> ByteOrder:
    """Trust the machine stamp if the numbers agree, else whichever order gives sane numbers."""
    stamped: ByteOrder = ">" if raw[212] == _BIG_STAMP else "<"
    orders: tuple[ByteOrder, ByteOrder] = (stamped, ">" if stamped == "<" else "<")
    for order in orders:
        nx, ny, nz, mode = struct.unpack(order + "4i", raw[:16])
        if all(0 < n <= _SANE_SIDE for n in (nx, ny)) and nz > 0 and 0 <= mode < 256:
            return order
    nx, ny, nz, mode = struct.unpack(stamped + "4i", raw[:16])
    raise InputError(
        f"{path}: not an MRC file, its header says {nx} x {ny} x {nz} in mode {mode}; copy it again"
    )


def _pixel_size(cell_x: float, mx: int) -> float | None:
    if mx <= 0 or not 0 < cell_x < 1e9:
        return None
    size = cell_x / mx
    return size if 0.01 <= size <= 1000 else None
