"""A tree of cells that covers the rotations: pixels of viewing direction times in-plane angles."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.grids import healpix
from cryoem.grids.symmetry import into_asymmetric_unit, near_asymmetric_unit, symmetry_group
from cryoem.rotations import small_rotation


@dataclass(frozen=True)
class RotationGrid:
    """Cells of SO(3) that halve in every dimension from level to level.

    At level ``l`` there are ``12 * 4**o`` directions times ``6 * 2**o`` in-plane angles with ``o =
    order + l``; ``order`` 2 has 4,608 rotations 15 degrees apart. The cell of pixel ``p`` and
    in-plane interval ``j`` is the integer ``p * n_in_plane + j``.

    Parameters
    ----------
    order
        HEALPix order at level 0.
    symmetry
        Point group; only cells that touch its asymmetric unit are listed.
    frame
        A rotation of the whole grid, ``A -> A frame``; a random one for each search keeps errors
        from locking to the grid.

    Notes
    -----
    The in-plane angle of a rotation is measured after its direction has been moved along a great
    circle to the centre of its level-0 pixel. A cell is an exact product of pixel and interval in
    these coordinates, so children are an exact partition of their parent (Euler angles would do
    as well, but their cells do not shrink at the poles; the Hopf coordinates of Yershova et al.,
    Int. J. Robot. Res. 29, 801 (2010) fail at one pole).
    """

    order: int = 2
    symmetry: str = "C1"
    frame: Float[Tensor, "3 3"] | None = None
    group: Float[Tensor, "element 3 3"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", symmetry_group(self.symmetry))

    def n_in_plane(self, level: int) -> int:
        """Number of in-plane angles."""
        return 6 * 2 ** (self.order + level)

    def spacing(self, level: int) -> float:
        """Angle between neighbouring rotations in degrees, in-plane."""
        return 360 / self.n_in_plane(level)

    def covering_radius(self, level: int) -> float:
        """Angle in degrees from the centre of a cell that none of its rotations exceeds.

        Such a rotation differs by a tilt ``a``, at most the covering radius of a pixel, and a turn
        ``b`` about the direction. ``b`` is at most half an in-plane step, plus what moving the
        direction via the centre of the level-0 pixel adds: the area of a triangle, at most ``a
        tan(r / 2)`` with ``r`` the distance from that centre. The axes being perpendicular,
        ``cos(angle / 2) = cos(a / 2) cos(b / 2)``.
        """
        tilt = healpix.covering_radius(self.order + level)
        turn = math.pi / self.n_in_plane(level)
        turn += tilt * math.tan(healpix.covering_radius(self.order) / 2)
        return math.degrees(2 * math.acos(math.cos(tilt / 2) * math.cos(min(turn, math.pi) / 2)))

    def all(self, level: int, device: torch.device | None = None) -> Int64[Tensor, " cell"]:
        """Every cell of a level that touches the asymmetric unit, in ascending order."""
        order = self.order + level
        pixels = torch.arange(healpix.n_pixels(order), device=device)
        centres = self._to_volume(healpix.directions(pixels, order))
        radius = healpix.covering_radius(order)
        pixels = pixels[near_asymmetric_unit(centres, self.group, radius)]
        n = self.n_in_plane(level)
        return (pixels[:, None] * n + torch.arange(n, device=device)).flatten()

    def pixels(self, cells: Int64[Tensor, "*any"], level: int) -> Int64[Tensor, "*any"]:
        """HEALPix pixels of cells."""
        return cells // self.n_in_plane(level)

    def children(self, cells: Int64[Tensor, "*any"], level: int) -> Int64[Tensor, "*any 8"]:
        """Eight cells of level ``level + 1`` that make up each cell of ``level``."""
        n = self.n_in_plane(level)
        pixels = healpix.children(cells // n)
        halves = 2 * (cells % n)[..., None] + torch.arange(2, device=cells.device)
        return (pixels[..., :, None] * (2 * n) + halves[..., None, :]).flatten(-2)

    def rotations(self, cells: Int64[Tensor, "*any"], level: int) -> Float[Tensor, "*any 3 3"]:
        """Centres of cells, float64."""
        n = self.n_in_plane(level)
        psi = ((cells % n).double() + 0.5) * (2 * math.pi / n)
        direction = healpix.directions(cells // n, self.order + level)
        x, y = self._section(direction, (cells // n) >> (2 * level))
        cosine, sine = psi.cos()[..., None], psi.sin()[..., None]
        rows = torch.stack([cosine * x + sine * y, cosine * y - sine * x, direction], dim=-2)
        return self._to_volume(rows)

    def cells_of(self, rotation: Float[Tensor, "*any 3 3"], level: int) -> Int64[Tensor, "*any"]:
        """Cells in which rotations, or their equivalents in the asymmetric unit, lie."""
        rotation = into_asymmetric_unit(rotation.double(), self.group)
        if self.frame is not None:
            rotation = rotation @ self.frame.to(rotation).mT
        direction = rotation[..., 2, :] / rotation[..., 2, :].norm(dim=-1, keepdim=True)
        pixel = healpix.pixels_of(direction, self.order + level)
        x, y = self._section(direction, pixel >> (2 * level))
        first = rotation[..., 0, :]
        psi = torch.atan2((first * y).sum(-1), (first * x).sum(-1)) / (2 * math.pi)
        n = self.n_in_plane(level)
        return pixel * n + ((psi % 1.0) * n).long().clamp(max=n - 1)

    def neighbours(
        self, cells: Int64[Tensor, "*any"], level: int
    ) -> Int64[Tensor, "*any neighbour"]:
        """27 cells (some may be equal): the cell itself and those one step away in each sense."""
        n = self.n_in_plane(level)
        tilt = math.sqrt(4 * math.pi / healpix.n_pixels(self.order + level))
        step = torch.tensor([tilt, tilt, 2 * math.pi / n], dtype=torch.float64)
        signs = torch.cartesian_prod(*[torch.tensor([0.0, -1.0, 1.0])] * 3).double()
        turns = small_rotation((signs * step).to(cells.device))
        moved = turns @ self.rotations(cells, level)[..., None, :, :]
        return self.cells_of(moved, level)

    def _to_volume(self, vectors: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 3"]:
        return vectors if self.frame is None else vectors @ self.frame.to(vectors)

    def _section(
        self, direction: Float[Tensor, "*any 3"], base_pixel: Int64[Tensor, "*any"]
    ) -> tuple[Float[Tensor, "*any 3"], Float[Tensor, "*any 3"]]:
        """Image axes of in-plane angle zero: the shortest turn from the level-0 pixel's."""
        pole = healpix.directions(base_pixel, self.order)
        azimuth = torch.atan2(pole[..., 1], pole[..., 0])
        y = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)], dim=-1)
        x = torch.linalg.cross(y, pole)
        return _shortest_turn(pole, direction, x), _shortest_turn(pole, direction, y)


def _shortest_turn(
    start: Float[Tensor, "*any 3"], end: Float[Tensor, "*any 3"], vector: Float[Tensor, "*any 3"]
) -> Float[Tensor, "*any 3"]:
    """Turn ``vector`` by the smallest rotation from ``start`` to ``end`` (Rodrigues)."""
    cosine = (start * end).sum(-1, keepdim=True)
    axis = torch.linalg.cross(start, end)
    along = axis * ((axis * vector).sum(-1, keepdim=True) / (1 + cosine))
    return cosine * vector + torch.linalg.cross(axis, vector) + along
