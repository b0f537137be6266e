"""How much the slice of a volume changes within a cell of rotations, shell by shell."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from cryoem.grids import healpix
from cryoem.poses.search_space import SearchSpace


@dataclass(frozen=True)
class CellChange:
    """Norms per shell of slices, and of their change within a cell, per component of the volume.

    Shell ``s`` holds the frequencies with ``s < |k| <= s + 1`` (pixels), up to the finest radius.
    The cells of a HEALPix pixel differ by their in-plane angle; the largest value stands for all.

    Parameters
    ----------
    space
        What was measured.
    norms
        ``|V_c|`` at the centre of cells, a tensor ``(pixel, component, shell)`` for each level.
    reaches
        Upper bound on ``|V_R - V_c|`` over the finest cells below, likewise.
    """

    space: SearchSpace
    norms: list[Tensor]
    reaches: list[Tensor]

    def largest(self) -> Float[Tensor, "component shell"]:
        """Largest norm of any slice of the finest grid."""
        return self.norms[-1].amax(0)


def measure_change(space: SearchSpace) -> CellChange:
    """Bounds for all cells of all levels.

    The bound of a cell is the largest of ``|V_child - V_c|`` plus the child's own bound, and
    nothing at the finest level, of which only the centres compete. A global Lipschitz constant
    would spare the look at every rotation of the finest grid, but is ten times looser, and in five
    dimensions that costs a search far more than it saves.
    """
    norms: list[Tensor] = []
    reaches: list[Tensor] = []
    for level in range(space.last, -1, -1):
        norm, reach = _measure_level(space, level, reaches[0] if reaches else None)
        norms.insert(0, norm)
        reaches.insert(0, reach)
    return CellChange(space, norms, reaches)


def _measure_level(
    space: SearchSpace, level: int, below: Float[Tensor, "pixel component shell"] | None
) -> tuple[Tensor, Tensor]:
    """Norms and reaches at one level, given the reaches of the next unless it is the last."""
    n_pixels = healpix.n_pixels(space.rotations.order + level)
    norm = torch.zeros(n_pixels, space.cache.n_components, space.radii[-1], device=space.device)
    reach = torch.zeros_like(norm)
    bytes_each = 9 * 48 * space.count(space.last) * space.cache.n_components
    for chunk in _quarter(space, level).split(space.chunk_length(bytes_each)):
        rows = space.rotations.pixels(chunk, level)
        slices = _full_slices(space, chunk, level)
        _raise(norm, rows, shell_norms(space, slices))
        if below is not None:
            finer = space.rotations.children(chunk, level)
            step = _full_slices(space, finer, level + 1) - slices[:, None]
            change = shell_norms(space, step) + below[space.rotations.pixels(finer, level + 1)]
            _raise(reach, rows, change.amax(1))
    return norm, reach


def _quarter(space: SearchSpace, level: int) -> Int64[Tensor, " cell"]:
    """Cells with in-plane angles below 90 degrees, or 180 where 90 is no multiple of the step.

    A turn by 90 degrees maps the lattice of an image onto itself and changes no norm.
    """
    cells = space.rotations.all(0, space.device)
    for coarser in range(level):
        cells = space.rotations.children(cells, coarser).flatten()
    n = space.rotations.n_in_plane(level)
    return cells[cells % n < (n // 2 if n % 4 else n // 4)]


def _raise(
    table: Float[Tensor, "pixel component shell"],
    rows: Int64[Tensor, " cell"],
    values: Float[Tensor, "cell component shell"],
) -> None:
    """Raise rows of the table to the largest of the values that belong to them."""
    table.scatter_reduce_(0, rows[:, None, None].expand_as(values), values, "amax")


def shell_norms(
    space: SearchSpace, values: Complex[Tensor, "*any freq"]
) -> Float[Tensor, "*any shell"]:
    """Norm of the coefficients in each shell, up to the finest radius."""
    squared = values.real.square() + values.imag.square()
    sums = squared.new_zeros(*squared.shape[:-1], space.radii[-1])
    return sums.index_add_(-1, _shells(space), squared).sqrt()


def shell_maxima(
    space: SearchSpace, values: Float[Tensor, "batch freq"]
) -> Float[Tensor, "batch shell"]:
    """Largest value in each shell."""
    index = _shells(space).expand_as(values)
    return values.new_zeros(len(values), space.radii[-1]).scatter_reduce(1, index, values, "amax")


def _shells(space: SearchSpace) -> Int64[Tensor, " freq"]:
    return space.lattice.radii[: space.count(space.last)].ceil().long() - 1


def _full_slices(
    space: SearchSpace, cells: Int64[Tensor, "*any"], level: int
) -> Complex[Tensor, "*any component freq"]:
    """Slices up to the finest radius, whatever that of the level."""
    matrices = space.matrices(cells.flatten(), level)
    return space.cache.slices(matrices, space.freqs(space.last)).unflatten(0, cells.shape)
