"""Poses of a phantom's images are found under the phantom itself."""

from dataclasses import replace

import pytest
import torch
from scipy import stats
from searched_phantom import (
    astigmatic_ctf,
    grid_poses,
    make_phantom,
    make_space,
    random_poses,
    simulate,
)

from cryoem.batch import Pose
from cryoem.decoders.phantom import GaussianPhantom
from cryoem.grids import RotationGrid, ShiftGrid, symmetry_group
from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.search import PoseSearch
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import VolumeCache, cache_volume
from cryoem.rotations import angle_between, small_rotation

LATTICE = FourierLattice(24, 11)
PHANTOM = make_phantom(24, 400.0)
RADII = (5, 8, 11)
SPACE = make_space(PHANTOM, LATTICE, order=2, radii=RADII)  # 15 degrees to 3.75, 0.25 pixels
STRATEGIES = ("beam", "branch_and_bound", "exhaustive")


@pytest.mark.parametrize("with_ctf", [False, True], ids=["plain", "astigmatic"])
def test_poses_of_the_grid_are_recovered_exactly_without_noise(with_ctf: bool) -> None:
    truth = grid_poses(SPACE, 24)
    transfer = astigmatic_ctf(LATTICE, 24) if with_ctf else None
    data = simulate(PHANTOM, LATTICE, truth, transfer)
    search = PoseSearch(SPACE)
    result = search(search.images(data.fourier, data.transfer))
    assert angle_between(result.pose.rotation, truth.rotation).max() < 0.01
    torch.testing.assert_close(result.pose.shift, truth.shift)
    signal = data.fourier.abs().square().sum(-1)
    assert (result.error < 0.003 * signal).all()  # the error of interpolation
    assert (result.margin > 10 * result.error).all()
    assert result.margin.isfinite().all()


def test_other_poses_are_recovered_to_the_spacing_of_the_finest_grid() -> None:
    truth = random_poses(40, 1.8)
    data = simulate(PHANTOM, LATTICE, truth, astigmatic_ctf(LATTICE, 40))
    search = PoseSearch(SPACE)
    result = search(search.images(data.fourier, data.transfer))
    angle = angle_between(result.pose.rotation, truth.rotation)
    assert angle.max() < SPACE.rotations.covering_radius(SPACE.last)
    distance = (result.pose.shift - truth.shift).norm(dim=-1)
    assert distance.max() < 1.5 * SPACE.shifts.covering_radius(SPACE.last)


def test_a_ctf_that_is_turned_is_told_from_one_that_is_not() -> None:
    data = simulate(PHANTOM, LATTICE, grid_poses(SPACE, 12), astigmatic_ctf(LATTICE, 12))
    search = PoseSearch(SPACE)
    right = search(search.images(data.fourier, data.transfer))
    wrong = search(search.images(data.fourier, astigmatic_ctf(LATTICE, 12, seed=5)))
    assert (right.error < 0.1 * wrong.error).all()


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_an_exhaustive_search_finds_the_minimum_over_all_poses(noise: float) -> None:
    space = make_space(PHANTOM, LATTICE, order=0, radii=(6, 11), shifts=ShiftGrid(2.0, 3))
    data = simulate(PHANTOM, LATTICE, random_poses(6, 2.0), astigmatic_ctf(LATTICE, 6), noise)
    search = PoseSearch(space, "exhaustive", distinct_degrees=40.0)
    result = search(search.images(data.fourier, data.transfer))
    # one by one, from the definition
    rotation = space.matrices(space.rotations.all(1), 1)
    slices = space.cache.slices(rotation, LATTICE.freqs)[:, 0]
    shifts = space.shifts.shifts(space.all_squares(1), 1)
    for i in range(6):
        centred = data.fourier[i] * shift_phases(LATTICE.freqs, shifts)
        difference = data.transfer[i] * slices[:, None] - centred
        error = difference.abs().square().sum(-1)
        best = int(error.argmin())
        torch.testing.assert_close(result.error[i], error.min(), rtol=1e-4, atol=1e-3)
        assert torch.equal(result.pose.shift[i], shifts[best % len(shifts)])
        torch.testing.assert_close(result.pose.rotation[i], rotation[best // len(shifts)])
        angle = angle_between(rotation, result.pose.rotation[i].expand_as(rotation))
        rival = error[angle > search.distinct_degrees].min() - error.min()
        torch.testing.assert_close(result.margin[i], rival, rtol=1e-3, atol=1e-2)


def test_a_beam_agrees_with_the_exhaustive_search_on_nearly_all_noisy_images() -> None:
    space = make_space(PHANTOM, LATTICE, order=1, radii=(4, 8), shifts=ShiftGrid(2.0, 4))
    data = simulate(PHANTOM, LATTICE, random_poses(60, 2.0), noise=1.0)
    results = [
        search(search.images(data.fourier, data.transfer))
        for search in (PoseSearch(space, "exhaustive"), PoseSearch(space, "beam"))
    ]
    gap = results[1].error - results[0].error
    assert gap.min() > -1e-2  # nothing beats it
    assert (gap < 1e-2).double().mean() > 0.9
    assert (results[1].n_evaluated < 0.05 * results[0].n_evaluated).all()


def test_a_beam_whose_first_product_is_in_bfloat16_ends_at_the_same_poses() -> None:
    data = simulate(PHANTOM, LATTICE, random_poses(60, 2.0), noise=1.0)
    results = [
        search(search.images(data.fourier, data.transfer))
        for search in (PoseSearch(SPACE), PoseSearch(SPACE, coarse_dtype=torch.bfloat16))
    ]
    same = angle_between(results[0].pose.rotation, results[1].pose.rotation) < 0.01
    assert same.double().mean() > 0.95
    assert (results[1].error - results[0].error).median() == 0


def test_poses_are_drawn_as_often_as_their_posterior_says() -> None:
    space = make_space(PHANTOM, LATTICE, order=0, radii=(6,), shifts=ShiftGrid(2.0, 3))
    # so weak that many rotations are plausible; the same image in the place of many particles
    weak = torch.full((1, LATTICE.n_freqs), 0.03)
    data = simulate(PHANTOM, LATTICE, random_poses(1, 2.0), weak, 1.0)
    search, n = PoseSearch(space), 20_000
    images = search.images(data.fourier.expand(n, -1), data.transfer.expand(n, -1))
    drawn = space.rotations.cells_of(search.draw(images, torch.arange(n), 1, 2).pose.rotation, 0)

    freqs = space.freqs(0)
    slices = space.slices(space.rotations.all(0), 0)[:, 0] * data.transfer[0, : len(freqs)]
    shifts = space.shifts.shifts(space.all_squares(0), 0)
    centred = data.fourier[0, : len(freqs)] * shift_phases(freqs, shifts)
    error = (slices[:, None] - centred).abs().square().sum(-1).amin(1)
    expected = n * torch.softmax(-error.double(), 0)
    counts = torch.bincount(drawn, minlength=len(expected))
    often = expected > 5
    assert often.sum() > 10
    observed, wanted = counts[often].double(), expected[often]
    wanted *= observed.sum() / wanted.sum()
    assert stats.chisquare(observed.numpy(), wanted.numpy()).pvalue > 0.01
    assert counts[~often].sum() < 0.05 * n


def mirrored(phantom: GaussianPhantom) -> GaussianPhantom:
    centres = phantom.centres * torch.tensor([1.0, 1.0, -1.0])
    return GaussianPhantom(centres, phantom.weights, phantom.sigma, phantom.box_size)


def test_the_mirrored_volume_explains_the_images_by_the_mirrored_poses() -> None:
    truth = random_poses(16, 1.5)
    data = simulate(PHANTOM, LATTICE, truth)
    search = PoseSearch(make_space(mirrored(PHANTOM), LATTICE, order=2, radii=RADII))
    result = search(search.images(data.fourier, data.transfer))
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    angle = angle_between(result.pose.rotation, mirror @ truth.rotation @ mirror)
    assert angle.max() < SPACE.rotations.covering_radius(SPACE.last)
    unmirrored = PoseSearch(SPACE)(search.images(data.fourier, data.transfer))
    torch.testing.assert_close(result.error, unmirrored.error, rtol=0.5, atol=8.0)


def test_a_search_in_another_frame_finds_the_same_poses() -> None:
    truth = random_poses(16, 1.5)
    data = simulate(PHANTOM, LATTICE, truth)
    frame = random_poses(1, 0.0, seed=9).rotation[0]
    search = PoseSearch(replace(SPACE, rotations=RotationGrid(2, frame=frame)))
    result = search(search.images(data.fourier, data.transfer))
    angle = angle_between(result.pose.rotation, truth.rotation)
    assert angle.max() < SPACE.rotations.covering_radius(SPACE.last)


def test_a_symmetric_volume_is_searched_in_its_asymmetric_unit_only() -> None:
    group = symmetry_group("D2").float()
    seed = make_phantom(24, 100.0)
    phantom = GaussianPhantom(
        (group[:, None] @ seed.centres[None, :5, :, None]).flatten(0, 1)[..., 0],
        seed.weights[:5].repeat(4), seed.sigma, 24,
    )  # fmt: skip
    space = make_space(phantom, LATTICE, order=2, radii=RADII, symmetry="D2")
    assert len(space.rotations.all(0)) < 0.4 * len(SPACE.rotations.all(0))
    truth = random_poses(16, 1.5)
    data = simulate(phantom, LATTICE, truth)
    search = PoseSearch(space)
    result = search(search.images(data.fourier, data.transfer))
    equivalent = result.pose.rotation[:, None] @ group
    angle = angle_between(equivalent, truth.rotation[:, None].expand_as(equivalent)).amin(-1)
    assert angle.max() < space.rotations.covering_radius(space.last)


def test_latents_choose_the_volume_of_each_image() -> None:
    other = make_phantom(24, 400.0, seed=8)
    spaces = [make_space(p, LATTICE, order=2, radii=RADII) for p in (PHANTOM, other)]
    grid = torch.cat([spaces[0].cache.grid, spaces[1].cache.grid], dim=-1)
    cache = VolumeCache(grid, 24, spaces[0].cache.padding, lambda z: torch.cat([1 - z, z], -1))
    search = PoseSearch(replace(SPACE, cache=cache))
    truth = random_poses(12, 1.5)
    z = torch.linspace(0, 1, 12)[:, None]
    parts = [simulate(p, LATTICE, truth).fourier for p in (PHANTOM, other)]
    fourier = (1 - z) * parts[0] + z * parts[1]
    result = search(search.images(fourier, torch.ones(12, LATTICE.n_freqs), z))
    angle = angle_between(result.pose.rotation, truth.rotation)
    assert angle.max() < SPACE.rotations.covering_radius(SPACE.last)
    # and one volume at a time, the direct way
    for i in (0, 5, 11):
        blend = (1 - z[i]) * spaces[0].cache.grid + z[i] * spaces[1].cache.grid
        direct = PoseSearch(replace(SPACE, cache=VolumeCache(blend, 24, 2.0)))
        alone = direct(direct.images(fourier[i : i + 1], torch.ones(1, LATTICE.n_freqs)))
        assert torch.equal(alone.pose.rotation[0], result.pose.rotation[i])
        torch.testing.assert_close(alone.error[0], result.error[i], rtol=1e-3, atol=1e-2)


def test_a_local_search_corrects_a_pose_that_is_nearly_right_and_keeps_one_that_is() -> None:
    truth = random_poses(24, 1.5)
    data = simulate(PHANTOM, LATTICE, truth, noise=0.1)
    search = PoseSearch(SPACE)
    images = search.images(data.fourier, data.transfer)
    generator = torch.Generator().manual_seed(0)
    tilt = small_rotation(0.05 * torch.randn(24, 3, generator=generator))
    moved = Pose(tilt @ truth.rotation, truth.shift + 0.2)
    result = search.around(images, moved, level=1)
    assert angle_between(result.pose.rotation, truth.rotation).max() < 4.5
    assert (result.n_evaluated < 2000).all()
    kept = search.around(images, truth, level=1)
    assert torch.equal(kept.pose.rotation, truth.rotation)
    assert torch.equal(kept.pose.shift, truth.shift)
    assert (kept.error <= result.error).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_memory_that_is_granted_changes_nothing_else(strategy: str) -> None:
    data = simulate(PHANTOM, LATTICE, random_poses(5, 1.0), noise=0.2)
    results = []
    for memory in (1 << 17, 1 << 27):
        space = make_space(
            PHANTOM, LATTICE, order=0, radii=(5, 8), shifts=ShiftGrid(2.0, 2), memory_bytes=memory
        )
        search = PoseSearch(space, strategy)
        results.append(search(search.images(data.fourier, data.transfer)))
    torch.testing.assert_close(results[0].error, results[1].error, rtol=1e-4, atol=1e-3)
    assert torch.equal(results[0].pose.rotation, results[1].pose.rotation)
    assert torch.equal(results[0].n_evaluated, results[1].n_evaluated)


def test_without_shifts_only_rotations_are_searched() -> None:
    space = make_space(PHANTOM, LATTICE, order=2, radii=RADII, shifts=ShiftGrid(0.0, 1))
    truth = random_poses(8, 0.0)
    data = simulate(PHANTOM, LATTICE, truth)
    search = PoseSearch(space)
    result = search(search.images(data.fourier, data.transfer))
    assert (result.pose.shift == 0).all()
    assert angle_between(result.pose.rotation, truth.rotation).max() < 4.5


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="greedy"):
        PoseSearch(SPACE, "greedy")
    with pytest.raises(ValueError, match="latents"):
        PoseSearch(SPACE).images(torch.zeros(1, 3) + 0j, torch.ones(1, 3), torch.zeros(1, 2))


def test_a_space_is_as_large_as_its_finest_grid() -> None:
    space: SearchSpace = make_space(PHANTOM, LATTICE, order=0, radii=(5, 8))
    assert space.size == len(space.rotations.all(1)) * len(space.all_squares(1))
    assert cache_volume(PHANTOM, 24, 8, torch.device("cpu")).n_components == 1
