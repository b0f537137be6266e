"""Where a search looks: rotations, shifts and frequencies by level, under one cached volume."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from cryoem.grids import RotationGrid, ShiftGrid
from cryoem.lattice import FourierLattice
from cryoem.poses.volume_cache import VolumeCache


@dataclass(frozen=True)
class SearchSpace:
    """Two trees refined together, and the radius of the disc that is compared at each level.

    Parameters
    ----------
    cache
        The volume, or components of volumes.
    lattice
        Frequencies of the images.
    rotations, shifts
        Grids, whose level 0 is scored as a whole.
    radii
        Fourier radius (pixels) at each level; their number is that of the levels.
    memory_bytes
        Of the temporary tensors of a step, about.
    """

    cache: VolumeCache
    lattice: FourierLattice
    rotations: RotationGrid
    shifts: ShiftGrid
    radii: Sequence[int]
    memory_bytes: int

    @property
    def device(self) -> torch.device:
        """Where the search runs."""
        return self.lattice.freqs.device

    @property
    def last(self) -> int:
        """The finest level."""
        return len(self.radii) - 1

    @property
    def size(self) -> int:
        """Number of poses of the finest grid."""
        rotations = len(self.rotations.all(0)) * 8**self.last
        return rotations * self.shifts.count(self.last) ** 2

    def count(self, level: int) -> int:
        """Number of frequencies."""
        return self.lattice.count(self.radii[level])

    def freqs(self, level: int) -> Float[Tensor, "freq 3"]:
        """Frequencies of a level."""
        return self.lattice.freqs[: self.count(level)]

    def matrices(self, cells: Int64[Tensor, "*any"], level: int) -> Float[Tensor, "*any 3 3"]:
        """Rotations at the centres of cells, float32."""
        return self.rotations.rotations(cells, level).float()

    def slices(
        self, cells: Int64[Tensor, "*any"], level: int
    ) -> Complex[Tensor, "*any component freq"]:
        """Slices at the centres of cells."""
        values = self.cache.slices(self.matrices(cells.flatten(), level), self.freqs(level))
        return values.unflatten(0, cells.shape)

    def all_squares(self, level: int) -> Int64[Tensor, "cell 2"]:
        """Every square of shifts of a level."""
        return self.shifts.all(level, self.device)

    def chunk_length(self, bytes_each: int) -> int:
        """How many items of a size fit into the memory that was granted; at least one."""
        return max(1, self.memory_bytes // bytes_each)


def level_radii(radius: int, coarse_radius: int, spacing_degrees: float) -> tuple[int, ...]:
    """Radii of levels that end where a step of the grid is about a pixel at the last radius.

    Parameters
    ----------
    radius
        Of the last level, Fourier pixels.
    coarse_radius
        Of level 0, if ``radius`` is not smaller.
    spacing_degrees
        Of the rotations of level 0; halved from level to level.
    """
    last = max(0, round(math.log2(math.radians(spacing_degrees) * radius)))
    first = min(radius, coarse_radius)
    return tuple(round(first + (radius - first) * i / max(last, 1)) for i in range(last + 1))
