"""The particle table: all that is known of each particle except its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from cryoem.batch import CTFParams, Pose
from cryoem.errors import InputError
from cryoem.io.formats import read_rows
from cryoem.io.locate import candidates, locate_stacks, require_stacks
from cryoem.io.mrc import MrcHeader, read_mrc_header
from cryoem.io.overrides import Sampling, override_ctf, override_poses
from cryoem.io.rows import ParticleRows, check_pixel_size
from cryoem.io.selection import select_rows
from cryoem.io.stack_checks import (
    check_frames,
    check_shapes,
    outside_root,
    stack_notes,
    unused_images,
)


@dataclass(frozen=True)
class ParticleTable:
    """One row per particle, in the order of the file.

    Parameters
    ----------
    path
        The particle file that the user named.
    stacks, stack, frame
        Stack files; for each particle an index into them, and the image in that stack from 0.
    row, n_rows
        For each particle its row in the file, before any selection; how many rows the file has.
    box_size
        Side of the images in pixels; 0 if neither the file nor a stack says.
    pixel_size_angstrom
        One per particle.
    ctf, pose
        float32; None where the files have none. Shifts are in pixels of the particle's own size.
    half
        Half set, 0 or 1.
    micrograph
        Names or numbers.
    origin
        For each quantity, the file and columns that it came from.
    notes
        Remarks for a person: what was assumed, what is ignored.
    """

    path: Path
    stacks: tuple[Path, ...]
    stack: np.ndarray
    frame: np.ndarray
    row: np.ndarray
    n_rows: int
    box_size: int
    pixel_size_angstrom: np.ndarray
    ctf: CTFParams | None
    pose: Pose | None
    half: np.ndarray | None
    micrograph: np.ndarray | None
    origin: dict[str, str]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def half_sets(self) -> Int64[Tensor, " particle"]:
        """Half-set (0 or 1) of each particle.

        That of the file, or even and odd rows where it names none or one of them is empty.
        """
        if self.half is not None and len(np.unique(self.half)) == 2:
            return torch.from_numpy(self.half.astype(np.int64))
        return torch.arange(len(self)) % 2

    def select(self, rows: np.ndarray | Tensor | Sequence[int]) -> "ParticleTable":
        """Return some of the rows. The stacks stay, so that their numbers hold."""
        index = np.asarray(rows, dtype=np.int64)
        tensor_index = torch.from_numpy(index)
        changes: dict = {
            name: value[index]
            for name in ("stack", "frame", "row", "pixel_size_angstrom", "half", "micrograph")
            if (value := getattr(self, name)) is not None
        }
        for name in ("ctf", "pose"):
            if (record := getattr(self, name)) is not None:
                changes[name] = record[tensor_index]
        return replace(self, **changes)


def read_table(
    path: str | Path,
    *,
    root: str | Path | None = None,
    passthrough: str | Path | None = None,
    poses: str | Path | None = None,
    ctf: str | Path | None = None,
    select: str | Path | None = None,
    pixel_size_angstrom: float | None = None,
    need_images: bool = False,
) -> ParticleTable:
    """Read a particle file, and of its stacks the headers.

    Parameters
    ----------
    path
        ``.star``, ``.cs``, ``.mrcs``, ``.mrc`` or ``.txt``.
    root
        Folder that the relative paths in the file start from.
    passthrough
        cryoSPARC's second file.
    poses, ctf
        Files that override what the particle file holds; also cryoDRGN's ``.pkl``.
    select
        Rows to use, see :func:`cryoem.io.selection.select_rows`.
    pixel_size_angstrom
        Overrides what the files say.
    need_images
        Insist on stacks that are there and whole. Else the table is filled as far as files are.

    Raises
    ------
    InputError
        If anything about the files is wrong.
    """
    base = None if root is None else Path(root)
    rows = read_rows(
        Path(path), root=base, passthrough=None if passthrough is None else Path(passthrough)
    )
    n_rows = len(rows)
    samplings: list[Sampling | None] = [None, None]
    if poses is not None:
        rows, samplings[1] = override_poses(rows, Path(poses), read_rows)
    if ctf is not None:
        rows, samplings[0] = override_ctf(rows, Path(ctf), read_rows)
    keep = np.arange(n_rows) if select is None else select_rows(select, rows, read_rows)
    stacks, headers, notes = _stacks(rows.take(keep), base, need_images)
    if headers and select is None:
        notes += unused_images(rows, headers)
    return _assemble(
        replace(rows.take(keep), notes=rows.notes + notes),
        keep,
        n_rows,
        stacks,
        headers,
        [None if sampling is None else sampling.take(keep) for sampling in samplings],
        pixel_size_angstrom,
    )


def _stacks(
    rows: ParticleRows, root: Path | None, need_images: bool
) -> tuple[list[Path], list[MrcHeader], tuple[str, ...]]:
    found = locate_stacks(rows, root)
    notes = outside_root(found, root)
    if need_images:
        stacks = require_stacks(rows, found, root)
        headers = _headers(rows, stacks)
        return stacks, headers, notes + stack_notes(headers)
    folder = rows.path.absolute().parent
    stacks = [
        path or candidates(written, folder, root)[0]
        for path, written in zip(found, rows.image_paths, strict=True)
    ]
    if None in found:
        return stacks, [], (*notes, f"{found.count(None)} of {len(found)} stacks are not there")
    try:
        headers = _headers(rows, stacks)
    except InputError as error:
        return stacks, [], (*notes, str(error))
    return stacks, headers, notes + stack_notes(headers)


def _headers(rows: ParticleRows, stacks: list[Path]) -> list[MrcHeader]:
    headers = [read_mrc_header(stack) for stack in stacks]
    check_frames(rows, headers)
    return headers


def _assemble(
    rows: ParticleRows,
    keep: np.ndarray,
    n_rows: int,
    stacks: list[Path],
    headers: list[MrcHeader],
    samplings: list[Sampling | None],
    given_pixel_size: float | None,
) -> ParticleTable:
    notes = list(rows.notes)
    box_size = _box_size(rows, headers, notes)
    pixel_size, pixel_origin = _pixel_size(
        rows, headers, samplings, box_size, given_pixel_size, notes
    )
    return ParticleTable(
        path=rows.path,
        stacks=tuple(stacks),
        stack=rows.stack,
        frame=rows.frame,
        row=keep,
        n_rows=n_rows,
        box_size=box_size,
        pixel_size_angstrom=pixel_size,
        ctf=_ctf(rows),
        pose=_pose(rows, pixel_size, box_size),
        half=rows.half,
        micrograph=rows.micrograph,
        origin=rows.origin | {"pixel_size": pixel_origin},
        notes=tuple(dict.fromkeys(notes)),
    )


def _box_size(rows: ParticleRows, headers: list[MrcHeader], notes: list[str]) -> int:
    check_shapes(rows, headers)
    if not headers:
        return rows.box_size or 0
    box_size = headers[0].width
    if rows.box_size not in (None, box_size):
        notes.append(
            f"the file says {rows.box_size} pixels but the images have {box_size}: its pixel size "
            "is taken as it stands; set data.pixel_size if the images were rescaled"
        )
    return box_size


def _pixel_size(
    rows: ParticleRows,
    headers: list[MrcHeader],
    samplings: list[Sampling | None],
    box_size: int,
    given: float | None,
    notes: list[str],
) -> tuple[np.ndarray, str]:
    """Pixel sizes and whence: given, ``ctf.pkl``, this file, a file that overrides, the headers."""
    if given is not None:
        check_pixel_size(rows.path, "data.pixel_size", np.full(len(rows), float(given)))
        return np.full(len(rows), float(given)), "given"
    known = [sampling for sampling in samplings if sampling is not None]
    known.sort(key=lambda sampling: not sampling.overrides)
    if rows.pixel_size_angstrom is not None and not (known and known[0].overrides):
        return rows.pixel_size_angstrom, rows.origin["pixel_size"]
    if known:
        return known[0].at(box_size), known[0].origin
    return _header_pixel_size(rows, headers, notes)


def _header_pixel_size(
    rows: ParticleRows, headers: list[MrcHeader], notes: list[str]
) -> tuple[np.ndarray, str]:
    sizes = [header.pixel_size_angstrom for header in headers]
    if not sizes or None in sizes:
        notes.append("no file says the pixel size: 1 A is assumed; set data.pixel_size")
        return np.ones(len(rows)), "assumed"
    if all(size == 1 for size in sizes):
        notes.append("the stack's header says 1 A per pixel, which may mean unset")
    return np.array(sizes, dtype=np.float64)[rows.stack], "stack header"


def _ctf(rows: ParticleRows) -> CTFParams | None:
    if rows.ctf is None:
        return None
    return CTFParams(**{name: _float32(values) for name, values in rows.ctf.items()})


def _pose(rows: ParticleRows, pixel_size: np.ndarray, box_size: int) -> Pose | None:
    if rows.rotation is None:
        return None
    if rows.shift_unit == "box" and box_size == 0:
        raise InputError(
            f"{rows.path}: the box size is not known, so shifts given as a fraction of it cannot "
            "be used; the stacks are needed"
        )
    shift = rows.pixels_of_shift(pixel_size, box_size)
    return Pose(_float32(rows.rotation), _float32(shift))


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32).copy())
