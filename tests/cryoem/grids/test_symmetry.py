import pytest
import torch

from cryoem.errors import InputError
from cryoem.grids import RotationGrid, symmetry_group
from cryoem.grids.symmetry import into_asymmetric_unit
from cryoem.rotations import angle_between, random_rotations

ORDERS = {"C1": 1, "C2": 2, "C7": 7, "D1": 2, "D2": 4, "D7": 14, "T": 12, "O": 24, "I": 60}


def pairwise_angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    shape = (len(a), len(b), 3, 3)
    return angle_between(a[:, None].expand(shape), b[None].expand(shape))


@pytest.mark.parametrize("name", ORDERS)
def test_a_group_is_closed_and_has_its_order(name: str) -> None:
    group = symmetry_group(name)
    assert len(group) == ORDERS[name]
    torch.testing.assert_close(group[0], torch.eye(3).double())
    products = (group[:, None] @ group[None]).flatten(0, 1)
    angle = pairwise_angle(products, group)
    assert ((angle < 1e-4).sum(-1) == 1).all()


@pytest.mark.parametrize(
    ("name", "axis", "fold"),
    [
        ("C3", (0, 0, 1), 3),
        ("D3", (1, 0, 0), 2),
        ("T", (0, 0, 1), 3),
        ("T", (0, 0.816497, 0.577350), 2),
        ("O", (0, 0, 1), 4),
        ("O", (0.577350, 0.577350, 0.577350), 3),
        ("I", (0, 0, 1), 2),
        ("I", (0.525731, 0, 0.850651), 5),
        ("I", (0, 0.356822, 0.934172), 3),
    ],
)
def test_axes_are_where_relion_puts_them(name: str, axis: tuple[float, ...], fold: int) -> None:
    group = symmetry_group(name)
    vector = torch.tensor(axis).double()
    fixes = (group @ vector - vector).norm(dim=-1) < 1e-5
    assert fixes.sum() == fold


@pytest.mark.parametrize("name", ["C2", "C7", "D3", "T", "O", "I"])
def test_every_rotation_has_an_equivalent_in_the_asymmetric_unit(name: str) -> None:
    rotation = random_rotations(3000, torch.Generator().manual_seed(0))
    frame = random_rotations(1, torch.Generator().manual_seed(1))[0]
    for grid in (RotationGrid(1, name), RotationGrid(1, name, frame)):
        cells = grid.cells_of(rotation, 1)
        assert torch.isin(cells, grid.all(1)).all()
        centres = grid.rotations(cells, 1)[:, None] @ grid.group
        nearest = angle_between(rotation[:, None].expand_as(centres), centres).amin(-1)
        assert nearest.max() <= grid.covering_radius(1)


@pytest.mark.parametrize("name", ["C4", "D2", "O"])
def test_the_share_of_the_grid_that_is_listed_tends_to_one_over_the_order(name: str) -> None:
    grid, whole = RotationGrid(0, name), RotationGrid(0)
    order = len(grid.group)
    shares = [len(grid.all(level)) / len(whole.all(level)) * order for level in (2, 4)]
    assert 1 <= shares[1] < shares[0] < 3
    assert shares[1] < 1.4


def test_equivalent_rotations_have_one_representative() -> None:
    group = symmetry_group("O")
    rotation = random_rotations(50, torch.Generator().manual_seed(0))
    chosen = into_asymmetric_unit(rotation[:, None] @ group, group)
    torch.testing.assert_close(chosen, chosen[:, :1].expand_as(chosen))


@pytest.mark.parametrize("name", ["c4", "C0", "X", "I3", "D"])
def test_an_unknown_group_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=name):
        symmetry_group(name)
