"""Whether the stacks can be what the particle file says: sizes, counts, volumes among them."""

from pathlib import Path

import numpy as np

from cryoem.errors import InputError
from cryoem.io.mrc import MrcHeader
from cryoem.io.rows import ParticleRows


def check_frames(rows: ParticleRows, headers: list[MrcHeader]) -> None:
    """Refuse a row that names an image beyond the end of its stack."""
    counts = np.array([header.n_images for header in headers])[rows.stack]
    bad = (rows.frame < 0) | (rows.frame >= counts)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{rows.path}: row {row} (from 0) wants image {rows.frame[row] + 1} of "
            f"{headers[rows.stack[row]].path}, which has {counts[row]}; is it the right stack?"
        )


def check_shapes(rows: ParticleRows, headers: list[MrcHeader]) -> None:
    """Refuse images that are not square or not all of one size."""
    for header in headers:
        if header.height != header.width:
            raise InputError(
                f"{header.path}: images are not square, {header.width} x {header.height} pixels; "
                "crop or pad them"
            )
        if header.width != headers[0].width:
            raise InputError(
                f"{rows.path}: images differ in size, {headers[0].path} has {headers[0].width} "
                f"and {header.path} {header.width} pixels; re-extract at one size"
            )


def stack_notes(headers: list[MrcHeader]) -> tuple[str, ...]:
    """Count what is odd about stacks but does not keep one from reading them."""
    notes = []
    longer = [header for header in headers if header.extra_bytes]
    if longer:
        notes.append(
            f"{len(longer)} of {len(headers)} stacks are longer than their headers say, first "
            f"{longer[0].path.name} by {longer[0].extra_bytes} bytes: those are ignored"
        )
    volumes = [header for header in headers if header.looks_like_volume]
    if volumes:
        notes.append(
            f"{len(volumes)} of {len(headers)} stacks may be volumes, first "
            f"{volumes[0].path.name}: a cube, and space group {volumes[0].space_group}"
        )
    return tuple(notes)


def unused_images(rows: ParticleRows, headers: list[MrcHeader]) -> tuple[str, ...]:
    """Count the images that no row names; ``rows`` passed :func:`check_frames`."""
    counts = np.array([header.n_images for header in headers], dtype=np.int64)
    first = np.cumsum(counts) - counts
    used = np.zeros(counts.sum(), dtype=bool)
    used[first[rows.stack] + rows.frame] = True
    unused = len(used) - int(used.sum())
    return (f"{unused} of {len(used)} images in the stacks are in no row",) if unused else ()


def outside_root(found: list[Path | None], root: Path | None) -> tuple[str, ...]:
    """Count the stacks that absolute paths put outside the folder that was given."""
    if root is None:
        return ()
    base = root.absolute()
    outside = [path for path in found if path and not path.absolute().is_relative_to(base)]
    if not outside:
        return ()
    return (
        f"{len(outside)} of {len(found)} stacks lie outside data.root={root}, where absolute paths "
        f"put them, first {outside[0]}",
    )
