import pytest
import torch

from cryoem.grids import RotationGrid
from cryoem.rotations import angle_between, from_relion, random_rotations, small_rotation

ROTATIONS = random_rotations(20_000, torch.Generator().manual_seed(0))
FRAME = random_rotations(1, torch.Generator().manual_seed(1))[0]
GRIDS = (RotationGrid(1), RotationGrid(2), RotationGrid(1, frame=FRAME))


@pytest.mark.parametrize("level", [0, 1, 2, 4])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g.order}{'' if g.frame is None else 'f'}")
def test_every_rotation_lies_within_the_stated_angle_of_its_cell(
    grid: RotationGrid, level: int
) -> None:
    centres = grid.rotations(grid.cells_of(ROTATIONS, level), level)
    furthest = angle_between(ROTATIONS, centres).max()
    assert furthest <= grid.covering_radius(level)
    assert furthest > 0.6 * grid.covering_radius(level)


@pytest.mark.parametrize("grid", GRIDS[1:], ids=("plain", "framed"))
def test_every_rotation_of_a_cell_is_in_exactly_one_of_its_children(grid: RotationGrid) -> None:
    for level in range(3):
        children = grid.children(grid.cells_of(ROTATIONS, level), level)
        finer = grid.cells_of(ROTATIONS, level + 1)
        assert (children == finer[:, None]).sum(-1).eq(1).all()


def test_rotations_near_and_at_the_poles_are_covered_like_any_others() -> None:
    tilt = torch.tensor([0.0, 1e-9, 1e-3, 0.5, 179.5, 180 - 1e-6, 180.0]).double()
    rot, tilt, psi = torch.meshgrid(
        torch.arange(0.0, 360, 17).double(),
        tilt,
        torch.arange(0.0, 360, 23).double(),
        indexing="ij",
    )
    rotation = from_relion(rot.flatten(), tilt.flatten(), psi.flatten())
    grid = RotationGrid(2)
    for level in range(4):
        centres = grid.rotations(grid.cells_of(rotation, level), level)
        assert angle_between(rotation, centres).max() <= grid.covering_radius(level)


def test_centres_are_rotations_and_lie_in_their_own_cells() -> None:
    grid = RotationGrid(1, frame=FRAME)
    cells = grid.all(1)
    assert len(cells) == 4608
    rotation = grid.rotations(cells, 1)
    identity = torch.eye(3).double().expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-13)
    assert (torch.linalg.det(rotation) > 0).all()
    assert torch.equal(grid.cells_of(rotation, 1), cells)


def test_cells_are_equally_full_of_uniform_rotations() -> None:
    grid = RotationGrid(0)
    counts = torch.bincount(grid.cells_of(ROTATIONS, 0), minlength=72).double()
    expected = len(ROTATIONS) / 72
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi squared, 71 degrees of freedom


def test_neighbours_surround_the_cell() -> None:
    grid, level = RotationGrid(2), 1
    cells = grid.cells_of(ROTATIONS[:500], level)
    neighbours = grid.neighbours(cells, level)
    assert torch.equal(neighbours[:, 0], cells)
    generator = torch.Generator().manual_seed(2)
    axis = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    step = torch.deg2rad(torch.tensor(grid.spacing(level) / 2).double())
    moved = small_rotation(axis * step) @ grid.rotations(cells, level)
    found = (neighbours == grid.cells_of(moved, level)[:, None]).any(-1)
    assert found.double().mean() > 0.95
    around = grid.rotations(neighbours, level)
    nearest = angle_between(moved[:, None].expand_as(around), around).amin(-1)
    assert nearest.max() <= grid.covering_radius(level)
