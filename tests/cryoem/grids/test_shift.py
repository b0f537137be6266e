import pytest
import torch

from cryoem.grids import ShiftGrid

GRID = ShiftGrid(extent=5.0, per_side=7)
SHIFTS = 10 * torch.rand(5000, 2, generator=torch.Generator().manual_seed(0)) - 5


@pytest.mark.parametrize("level", range(4))
def test_every_shift_lies_within_the_covering_radius_of_its_square(level: int) -> None:
    centres = GRID.shifts(GRID.cells_of(SHIFTS, level), level)
    distance = (SHIFTS - centres).norm(dim=-1)
    assert distance.max() <= GRID.covering_radius(level) * (1 + 1e-5)
    assert distance.max() > 0.9 * GRID.covering_radius(level)


@pytest.mark.parametrize("margin", [0, 1])
def test_the_children_of_a_square_hold_every_shift_in_it_once(margin: int) -> None:
    children = GRID.children(GRID.cells_of(SHIFTS, 1), margin)
    assert children.shape[-2] == (2 + 2 * margin) ** 2
    finer = GRID.cells_of(SHIFTS, 2)
    assert (children == finer[:, None]).all(-1).sum(-1).eq(1).all()


def test_squares_tile_the_extent_symmetrically_about_zero() -> None:
    shifts = GRID.shifts(GRID.all(0), 0)
    assert shifts.shape == (49, 2)
    torch.testing.assert_close(shifts.mean(0), torch.zeros(2), rtol=0, atol=1e-6)
    assert (shifts == 0).all(-1).any()  # an odd number of squares has zero among them
    assert float(shifts.max()) == pytest.approx(5 - 5 / 7)


def test_margins_beyond_the_extent_are_told_apart() -> None:
    children = GRID.children(torch.tensor([[0, 6]]), margin=1)[0]
    inside = GRID.contains(children, 1)
    assert inside.sum() == 9
    assert (GRID.shifts(children[inside], 1).abs() < 5).all()


def test_an_extent_of_zero_is_no_shift_at_all() -> None:
    grid = ShiftGrid(0.0, 1)
    cells = grid.cells_of(torch.zeros(3, 2), 2)
    assert (grid.shifts(cells, 2) == 0).all()
