import math

import pytest
import torch

from cryoem.grids import healpix

ORDERS = (0, 1, 2, 3, 5)


def random_directions(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 2 * torch.asin(((a - b).norm(dim=-1) / 2).clamp(max=1))


@pytest.mark.parametrize("order", ORDERS)
def test_the_centre_of_a_pixel_is_a_unit_vector_in_that_pixel(order: int) -> None:
    pixels = torch.arange(healpix.n_pixels(order))
    centres = healpix.directions(pixels, order)
    torch.testing.assert_close(
        centres.norm(dim=-1), torch.ones(len(pixels)).double(), rtol=0, atol=1e-14
    )
    assert torch.equal(healpix.pixels_of(centres, order), pixels)


def test_the_twelve_base_pixels_are_where_the_paper_puts_them() -> None:
    centres = healpix.directions(torch.arange(12), 0)
    z = torch.tensor([2 / 3] * 4 + [0.0] * 4 + [-2 / 3] * 4).double()
    azimuth = torch.tensor([45.0, 135, 225, 315, 0, 90, 180, 270, 45, 135, 225, 315]).double()
    torch.testing.assert_close(centres[:, 2], z)
    measured = torch.rad2deg(torch.atan2(centres[:, 1], centres[:, 0])) % 360
    torch.testing.assert_close(measured, azimuth, rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_all_pixels_have_the_same_area(order: int) -> None:
    # counts of a regular sample of the sphere in (azimuth, z), which conserves area
    n = 1200
    z = (torch.arange(n).double() + 0.5) * (2 / n) - 1
    azimuth = (torch.arange(n).double() + 0.5) * (2 * math.pi / n)
    z, azimuth = (x.flatten() for x in torch.meshgrid(z, azimuth, indexing="ij"))
    sine = (1 - z.square()).sqrt()
    points = torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), z], dim=-1)
    counts = torch.bincount(healpix.pixels_of(points, order), minlength=healpix.n_pixels(order))
    expected = n * n / healpix.n_pixels(order)
    assert (counts / expected - 1).abs().max() < 0.01


def test_centres_lie_on_four_times_side_minus_one_circles_of_latitude() -> None:
    for order in (1, 2, 3):
        centres = healpix.directions(torch.arange(healpix.n_pixels(order)), order)
        assert len(torch.unique(centres[:, 2].mul(1e9).round())) == 4 * 2**order - 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_pixel_is_made_up_of_its_four_children(order: int) -> None:
    points = random_directions(20_000)
    parents = healpix.pixels_of(points, order)
    finer = healpix.pixels_of(points, order + 1)
    assert (healpix.children(parents) == finer[:, None]).sum(-1).eq(1).all()


@pytest.mark.parametrize("order", ORDERS)
def test_no_point_is_further_from_its_pixels_centre_than_the_covering_radius(order: int) -> None:
    points = random_directions(100_000)
    centres = healpix.directions(healpix.pixels_of(points, order), order)
    furthest = angles(points, centres).max()
    assert furthest <= healpix.covering_radius(order)
    assert furthest > 0.75 * healpix.covering_radius(order)  # and the bound is not idle


def test_pixel_numbers_hold_at_orders_beyond_any_search() -> None:
    points = random_directions(1000)
    pixels = healpix.pixels_of(points, 24)
    error = angles(points, healpix.directions(pixels, 24))
    assert error.max() < 1.1 * healpix.covering_radius(24)
