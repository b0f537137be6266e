"""Bounds over cells hold, and with them branch and bound finds what an exhaustive search finds."""

from dataclasses import replace

import pytest
import torch
from searched_phantom import (
    astigmatic_ctf,
    grid_poses,
    make_phantom,
    make_space,
    random_poses,
    simulate,
)

from cryoem.grids import ShiftGrid
from cryoem.lattice import FourierLattice
from cryoem.poses.bounds import NoiseQuantiles, ScoreBound
from cryoem.poses.cell_change import measure_change, shell_norms
from cryoem.poses.scores import SearchImages, dense_scores, shifted_data
from cryoem.poses.search import PoseSearch
from cryoem.poses.search_space import SearchSpace

LATTICE = FourierLattice(16, 7)
PHANTOM = make_phantom(16, 60.0)


def small_space(radii: tuple[int, ...], n_shifts: int = 2) -> SearchSpace:
    return make_space(PHANTOM, LATTICE, order=0, radii=radii, shifts=ShiftGrid(1.0, n_shifts))


def test_slices_of_all_cells_below_stay_within_the_stated_change() -> None:
    space = small_space((3, 5, 7))
    change = measure_change(space)
    for level in range(space.last):
        cells = space.rotations.all(level)
        below = cells
        for finer in range(level, space.last):
            below = space.rotations.children(below, finer).flatten()
        freqs = space.freqs(space.last)
        centre = space.cache.slices(space.matrices(cells, level), freqs)[:, 0]
        finest = space.cache.slices(space.matrices(below, space.last), freqs)[:, 0]
        moved = finest.view(len(cells), -1, len(freqs)) - centre[:, None]
        pixels = space.rotations.pixels(cells, level)
        limit, largest = change.reaches[level][pixels, 0], shell_norms(space, moved).amax(1)
        assert (largest <= limit * 1.0001 + 1e-4).all()
        assert largest.norm(dim=-1).mean() > 0.5 * limit.norm(dim=-1).mean()  # and is not idle
        norms = shell_norms(space, centre)
        assert (norms <= change.norms[level][pixels, 0] * 1.0001 + 1e-4).all()
        assert (shell_norms(space, finest) <= change.largest()[0] * 1.0001 + 1e-4).all()


def all_scores(space: SearchSpace, images: SearchImages, level: int) -> torch.Tensor:
    """``(batch, cell, square)`` for all of a level."""
    cells = space.rotations.all(level)
    part = images.within(space.count(level))
    shifts = space.shifts.shifts(space.all_squares(level), level)
    data = shifted_data(part, space.freqs(level), shifts)
    return dense_scores(part, space.slices(cells, level), data)


def lowest_below(space: SearchSpace, finest: torch.Tensor, level: int) -> torch.Tensor:
    """Smallest score of the finest grid inside each cell and square of a level."""
    side, level_side = space.shifts.count(space.last), space.shifts.count(level)
    cells, below = space.rotations.all(level), space.rotations.all(level)
    for finer in range(level, space.last):
        below = space.rotations.children(below, finer).flatten()
    order = torch.searchsorted(space.rotations.all(space.last), below)
    scores = finest[:, order].view(len(finest), len(cells), -1, side, side)
    factor = side // level_side
    squares = scores.amin(2).unflatten(-1, (level_side, factor)).amin(-1)
    return squares.unflatten(-2, (level_side, factor)).amin(-2).flatten(-2)


def violated(space: SearchSpace, delta: float, images: SearchImages) -> torch.Tensor:
    """Images for which any bound of any level is above a score that it should bound."""
    bound = ScoreBound(measure_change(space), delta)
    finest = all_scores(space, images, space.last)
    wrong = torch.zeros(len(images), dtype=torch.bool)
    every = torch.arange(len(images))
    for level in range(space.last + 1):
        pixels = space.rotations.pixels(space.rotations.all(level), level)[None]
        error = all_scores(space, images, level)
        lower = bound.at(images, level).lower(error, every, pixels)
        below = lowest_below(space, finest, level)
        wrong |= (lower > below + 1e-3 * (1 + below.abs())).flatten(1).any(1)
    return wrong


@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("radii", [(7, 7), (3, 5)])
def test_the_deterministic_bound_holds_whatever_the_image(
    noise: float, radii: tuple[int, ...]
) -> None:
    space = small_space(radii)
    truth = random_poses(6, 1.0)
    data = simulate(PHANTOM, LATTICE, truth, astigmatic_ctf(LATTICE, 6), noise)
    assert not violated(space, 0.0, SearchImages(data.fourier, data.transfer)).any()


@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_the_probabilistic_bound_fails_no_more_often_than_it_says(signal: float) -> None:
    space = small_space((4, 7))
    data = simulate(PHANTOM, LATTICE, random_poses(300, 1.0))
    generator = torch.Generator().manual_seed(5)
    white = torch.randn(*data.fourier.shape, 2, generator=generator) / 2**0.5
    images = SearchImages(
        signal * data.fourier + torch.view_as_complex(white), astigmatic_ctf(LATTICE, 300)
    )
    delta = 0.2
    rate = torch.cat([violated(space, delta, images[i : i + 50]) for i in range(0, 300, 50)])
    assert rate.double().mean() <= delta


def test_the_coverage_of_quantiles_that_are_too_small_is_found_wanting() -> None:
    """Or else the test above could not fail."""
    space = make_space(PHANTOM, LATTICE, order=0, radii=(7, 7), shifts=ShiftGrid(0.0, 1))
    data = simulate(PHANTOM, LATTICE, random_poses(100, 0.0), noise=1.0)
    images = SearchImages(data.fourier, data.transfer)
    bound = ScoreBound(measure_change(space), 0.2).at(images, 0)
    naive = NoiseQuantiles(norm=float(LATTICE.n_freqs), deviates=0.0)
    pixels = space.rotations.pixels(space.rotations.all(0), 0)[None]
    error, every = all_scores(space, images, 0), torch.arange(100)
    below = lowest_below(space, all_scores(space, images, 1), 0)
    assert (bound.lower(error, every, pixels) <= below + 1e-2).all()
    wrong = replace(bound, noise=naive).lower(error, every, pixels) > below + 1e-2
    assert wrong.flatten(1).any(1).double().mean() > 0.25


def test_where_noise_dominates_the_probabilistic_bound_is_the_tighter() -> None:
    lattice = FourierLattice(48, 22)
    phantom = make_phantom(48, 30.0)
    space = make_space(phantom, lattice, order=0, radii=(22, 22), shifts=ShiftGrid(0.0, 1))
    data = simulate(phantom, lattice, random_poses(3, 0.0), noise=1.0)
    images = SearchImages(data.fourier, data.transfer)
    change = measure_change(space)
    error = all_scores(space, images, 0)
    pixels = space.rotations.pixels(space.rotations.all(0), 0)[None]
    every = torch.arange(3)
    slack = [
        (error - ScoreBound(change, delta).at(images, 0).lower(error, every, pixels)).mean()
        for delta in (0.0, 1e-3)
    ]
    assert slack[1] < 0.9 * slack[0]


@pytest.mark.parametrize("delta", [0.0, 1e-3])
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_branch_and_bound_finds_the_minimum_of_the_exhaustive_search(
    noise: float, delta: float
) -> None:
    space = make_space(PHANTOM, LATTICE, order=1, radii=(6, 7), shifts=ShiftGrid(1.0, 2))
    data = simulate(PHANTOM, LATTICE, random_poses(12, 1.0), astigmatic_ctf(LATTICE, 12), noise)
    exact = PoseSearch(space, "exhaustive")
    images = exact.images(data.fourier, data.transfer)
    truth = exact(images)
    result = PoseSearch(space, "branch_and_bound", n_keep=1, delta=delta)(images)
    torch.testing.assert_close(result.error, truth.error, rtol=1e-4, atol=2e-3)
    same = (result.pose.rotation - truth.pose.rotation).abs().amax((1, 2)) < 1e-4
    assert same.all()
    assert torch.equal(result.pose.shift, truth.pose.shift)


def test_in_a_deep_tree_nearly_all_poses_are_pruned() -> None:
    space = make_space(PHANTOM, LATTICE, order=1, radii=(7, 7, 7, 7), shifts=ShiftGrid(0.0, 1))
    data = simulate(PHANTOM, LATTICE, grid_poses(space, 4), noise=0.3)
    search = PoseSearch(space, "branch_and_bound", delta=0.0)
    result = search(search.images(data.fourier, data.transfer))
    assert (result.fraction_pruned > 0.9).all()


def test_latents_widen_the_bounds_by_the_triangle_inequality() -> None:
    space = small_space((5, 7))
    change = measure_change(space)
    weights = torch.tensor([[1.0], [-2.0]])
    images = SearchImages(torch.ones(2, LATTICE.n_freqs) + 0j, torch.ones(2, LATTICE.n_freqs))
    plain = ScoreBound(change, 0.0).at(images, 0)
    scaled = ScoreBound(change, 0.0).at(SearchImages(images.fourier, images.transfer, weights), 0)
    torch.testing.assert_close(scaled.change[0], plain.change[0])
    torch.testing.assert_close(scaled.change[1], 2 * plain.change[1])
