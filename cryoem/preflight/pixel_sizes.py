"""Whether all that files say about the pixel size agrees."""

import numpy as np

from cryoem.io.mrc import read_mrc_header
from cryoem.io.relion import optics_block, particle_block
from cryoem.io.star import read_star
from cryoem.io.table import ParticleTable

_TOLERANCE = 0.02
_STACKS = 200  # headers that are read
_MICROGRAPH = ("_rlnMicrographPixelSize", "_rlnMicrographOriginalPixelSize")
_DETECTOR = ("_rlnDetectorPixelSize", "_rlnMagnification")


def disagreements(table: ParticleTable) -> list[str]:
    """Sentences on the pixel sizes of stack headers and micrographs that contradict the table's."""
    return [*_headers(table), *_micrographs(table)]


def _headers(table: ParticleTable) -> list[str]:
    """Headers against the table; 1 A and nothing at all mean unset."""
    differing = []
    stacks, first = np.unique(table.stack, return_index=True)
    for stack, row in zip(stacks[:_STACKS], first[:_STACKS], strict=True):
        said = read_mrc_header(table.stacks[stack]).pixel_size_angstrom
        used = float(table.pixel_size_angstrom[row])
        if said not in (None, 1.0) and not _agree(float(said), used):
            differing.append(f"{table.stacks[stack].name} {said:.4g} A in place of {used:.4g}")
    if not differing:
        return []
    looked = min(len(stacks), _STACKS)
    return [
        f"The headers of {len(differing)} of {looked} stacks say another pixel size than "
        f"{table.origin['pixel_size']}, first {differing[0]}: one of the two is wrong."
    ]


def _micrographs(table: ParticleTable) -> list[str]:
    """Columns of RELION that bound the pixel size: images are cut from micrographs, then binned."""
    if table.path.suffix.lower() != ".star":
        return []
    blocks = read_star(table.path)
    found = []
    for block in filter(None, (optics_block(blocks), particle_block(blocks))):
        sizes = {label: block.numbers(label) for label in _MICROGRAPH if label in block}
        if all(label in block for label in _DETECTOR):
            detector, magnification = (block.numbers(label) for label in _DETECTOR)
            with np.errstate(divide="ignore", invalid="ignore"):
                sizes["/".join(_DETECTOR)] = 1e4 * detector / magnification
        for label, values in sizes.items():
            finest, used = float(np.min(values)), float(table.pixel_size_angstrom.min())
            if finest > (1 + _TOLERANCE) * used:
                found.append(
                    f"{label} is {finest:.4g} A, and the images have {used:.4g} A: "
                    "they cannot be finer than what they were cut from."
                )
    return found


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= _TOLERANCE * other
