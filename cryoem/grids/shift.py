"""A tree of squares that covers the in-plane shifts."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class ShiftGrid:
    """Squares of side ``2 extent / per_side`` pixels, halved at every level.

    A cell is the pair ``(column, row)`` of a square; its shift, the centre, is in pixels (x, y).

    Parameters
    ----------
    extent
        Largest shift along x or y, in pixels.
    per_side
        Squares per axis at level 0.
    """

    extent: float
    per_side: int

    def count(self, level: int) -> int:
        """Squares per axis."""
        return self.per_side * 2**level

    def spacing(self, level: int) -> float:
        """Side of a square in pixels."""
        return 2 * self.extent / self.count(level)

    def covering_radius(self, level: int) -> float:
        """Distance (pixels) from the centre of a square to its corners."""
        return self.spacing(level) / math.sqrt(2)

    def all(self, level: int, device: torch.device | None = None) -> Int64[Tensor, "cell 2"]:
        """Every square of a level, in rows."""
        axis = torch.arange(self.count(level), device=device)
        row, column = torch.meshgrid(axis, axis, indexing="ij")
        return torch.stack([column.flatten(), row.flatten()], dim=-1)

    def child_offsets(
        self, margin: int, device: torch.device | None = None
    ) -> Int64[Tensor, "child 2"]:
        """What to add to twice a cell to get its children.

        ``margin`` of 0 gives the four that make it up, 1 also the ring of twelve around them.
        """
        axis = torch.arange(-margin, 2 + margin, device=device)
        row, column = torch.meshgrid(axis, axis, indexing="ij")
        return torch.stack([column.flatten(), row.flatten()], dim=-1)

    def children(
        self, cells: Int64[Tensor, "*any 2"], margin: int = 0
    ) -> Int64[Tensor, "*any child 2"]:
        """Squares of the next level, see :meth:`child_offsets`."""
        return 2 * cells[..., None, :] + self.child_offsets(margin, cells.device)

    def contains(self, cells: Int64[Tensor, "*any 2"], level: int) -> Tensor:
        """Whether cells are inside the extent."""
        return ((cells >= 0) & (cells < self.count(level))).all(-1)

    def shifts(self, cells: Int64[Tensor, "*any 2"], level: int) -> Float[Tensor, "*any 2"]:
        """Centres of squares, float32, pixels."""
        return (cells.float() + 0.5) * self.spacing(level) - self.extent

    def cells_of(self, shift: Float[Tensor, "*any 2"], level: int) -> Int64[Tensor, "*any 2"]:
        """Squares in which shifts lie; the nearest square for those beyond the extent."""
        if self.extent == 0:
            return torch.zeros_like(shift, dtype=torch.int64)
        cells = ((shift + self.extent) / self.spacing(level)).floor().long()
        return cells.clamp(0, self.count(level) - 1)
