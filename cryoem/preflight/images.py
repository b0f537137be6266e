"""Which images are bad, and which are unlike all others."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.io.atomic import atomic_path
from cryoem.io.pixels import HUGE
from cryoem.io.source import ParticleSource
from cryoem.io.table import ParticleTable

SCANNED = 10_000  # images, unless all are wanted
_BLOCK = 64
_FAR = 10.0  # robust standard deviations
_FEATURES = ("mean grey value", "contrast", "brightest or darkest pixel")


@dataclass(frozen=True)
class BadImage:
    """A row of the particle file (from 0, before any selection), where its image is, and why."""

    row: int
    stack: Path
    frame: int
    reason: str


@dataclass(frozen=True)
class Scan:
    """What was looked at: places in the table, and what was bad there.

    ``usable`` are the places whose images are finite and not constant, outliers left out as well.
    """

    looked_at: Int64[Tensor, " row"]
    usable: Int64[Tensor, " good"]
    bad: list[BadImage]


def scan_images(source: ParticleSource, most: int | None = SCANNED) -> Scan:
    """Look for images that are not finite, have one value everywhere, or are unlike the others.

    An outlier is more than :data:`_FAR` robust standard deviations (of the median absolute
    deviation) from the median in its mean, its contrast or its most extreme pixel.

    Parameters
    ----------
    source
        The images.
    most
        Look at no more than this many, in blocks that are evenly spread; None for all.
    """
    rows = _blocks(len(source.table), most)
    numbers = torch.cat([_numbers(source.read(part)) for part in rows.split(_BLOCK)])
    finite, varied = numbers[:, 0].isfinite(), numbers[:, 1] > 0
    sane = numbers[:, 3] <= HUGE
    reasons: dict[int, str] = {}
    for place in (~finite).nonzero()[:, 0].tolist():
        reasons[place] = "pixels that are not finite (NaN or infinity)"
    for place in (finite & ~sane).nonzero()[:, 0].tolist():
        reasons[place] = f"pixels of more than {HUGE:g}"
    for place in (finite & ~varied).nonzero()[:, 0].tolist():
        reasons[place] = "the same value in every pixel"
    good = (finite & varied & sane).nonzero()[:, 0]
    deviations = _deviations(numbers[good, :3])
    for place, far in zip(good.tolist(), deviations.tolist(), strict=True):
        name, most = max(zip(_FEATURES, far, strict=True), key=lambda pair: abs(pair[1]))
        if abs(most) > _FAR:
            reasons[place] = f"an outlying {name} ({most:+.0f} deviations)"
    usable = torch.ones(len(rows), dtype=torch.bool)
    usable[sorted(reasons)] = False
    bad = [_bad(source.table, int(rows[place]), reasons[place]) for place in sorted(reasons)]
    return Scan(rows, rows[usable], bad)


def write_good_rows(scan: Scan, table: ParticleTable, path: Path) -> None:
    """Write the rows without those found bad, for ``data.select``."""
    good = np.setdiff1d(table.row, [image.row for image in scan.bad])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, good)


def _blocks(n: int, most: int | None) -> Int64[Tensor, " row"]:
    if most is None or n <= most:
        return torch.arange(n)
    starts = torch.linspace(0, n - _BLOCK, most // _BLOCK).round().long()
    return (starts[:, None] + torch.arange(_BLOCK)).flatten().unique()


def _numbers(images: Float[Tensor, "batch side side"]) -> Float[Tensor, "batch 4"]:
    """Mean, standard deviation, largest deviation from the mean, and largest value."""
    pixels = images.flatten(1).double()
    mean, std = pixels.mean(1), pixels.std(1)
    extreme = (pixels - mean[:, None]).abs().amax(1)
    std = torch.where(pixels.amax(1) == pixels.amin(1), torch.zeros_like(std), std)
    return torch.stack([mean, std, extreme, pixels.abs().amax(1)], dim=1)


def _deviations(numbers: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3"]:
    """Distance of each image from the median of each feature, in robust standard deviations.

    Means are compared in units of the usual contrast, the rest as logarithms.
    """
    if not len(numbers):
        return numbers
    mean, std, extreme = numbers.unbind(1)
    features = torch.stack([mean / std.median(), std.log(), (extreme / std).log()], dim=1)
    centred = features - features.median(0).values
    spread = 1.4826 * centred.abs().median(0).values
    # features that hardly vary, as those of noise-free images, have no outliers by a hair
    return centred / spread.clamp(min=0.02)


def _bad(table: ParticleTable, place: int, reason: str) -> BadImage:
    stack = table.stacks[table.stack[place]]
    return BadImage(int(table.row[place]), stack, int(table.frame[place]) + 1, reason)
