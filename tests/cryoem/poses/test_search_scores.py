import pytest
import torch
from searched_phantom import (
    astigmatic_ctf,
    make_phantom,
    make_space,
    random_poses,
    simulate,
)

from cryoem.lattice import FourierLattice, shift_phases
from cryoem.poses.children import with_best_shift
from cryoem.poses.scores import (
    SearchImages,
    dense_minimum,
    dense_scores,
    local_scores,
    shifted_data,
)
from cryoem.rotations import random_rotations

LATTICE = FourierLattice(16, 7)
PHANTOM = make_phantom(16, 100.0)
DATA = simulate(PHANTOM, LATTICE, random_poses(5, 2.0), astigmatic_ctf(LATTICE, 5), noise=1.0)
GENERATOR = torch.Generator().manual_seed(4)
ROTATION = random_rotations(9, GENERATOR).float()
SHIFT = 4 * torch.rand(6, 2, generator=GENERATOR) - 2
COMPONENTS = torch.view_as_complex(torch.randn(9, 3, LATTICE.n_freqs, 2, generator=GENERATOR))
WEIGHTS = torch.randn(5, 3, generator=GENERATOR)


def squared_distance(volume: torch.Tensor) -> torch.Tensor:
    """``|C V - S X|^2 - |X|^2`` of volumes ``(batch, rot, freq)``, shift by shift, in float64."""
    centred = DATA.fourier[:, None] * shift_phases(LATTICE.freqs, SHIFT)
    predicted = (DATA.transfer[:, None] * volume).to(torch.complex128)
    difference = predicted[:, :, None] - centred[:, None].to(torch.complex128)
    energy = DATA.fourier.abs().square().sum(-1).double()
    return difference.abs().square().sum(-1) - energy[:, None, None]


def test_dense_scores_are_squared_distances_less_the_energy_of_the_image() -> None:
    slices = PHANTOM(LATTICE.freqs[:, :2] @ ROTATION[:, :2])
    images = SearchImages(DATA.fourier, DATA.transfer)
    data = shifted_data(images, LATTICE.freqs, SHIFT)
    scores = dense_scores(images, slices[:, None], data)
    expected = squared_distance(slices[None].expand(5, -1, -1)).float()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=2e-3)
    lowest = dense_minimum(images, slices[:, None], data)
    torch.testing.assert_close(lowest, expected.amin(-1), rtol=1e-4, atol=2e-3)


def test_doubt_in_the_volume_counts_as_noise_of_its_power_behind_the_ctf() -> None:
    power = torch.rand(LATTICE.n_freqs, generator=torch.Generator().manual_seed(7)) * 9
    images = SearchImages(DATA.fourier, DATA.transfer).flattened(power)
    slices = PHANTOM(LATTICE.freqs[:, :2] @ ROTATION[:, :2])
    scores = dense_scores(images, slices[:, None], shifted_data(images, LATTICE.freqs, SHIFT))
    centred = DATA.fourier[:, None] * shift_phases(LATTICE.freqs, SHIFT)
    residual = (DATA.transfer[:, None] * slices)[:, :, None] - centred[:, None]
    variance = 1 + DATA.transfer.square() * power
    error = (residual.abs().square() / variance[:, None, None]).sum(-1)
    energy = (DATA.fourier.abs().square() / variance).sum(-1)
    torch.testing.assert_close(scores, error - energy[:, None, None], rtol=1e-4, atol=2e-3)


def test_each_image_is_compared_with_slices_of_its_own_volume() -> None:
    images = SearchImages(DATA.fourier, DATA.transfer, WEIGHTS)
    volume = torch.einsum("bc,rcf->brf", WEIGHTS.to(torch.complex64), COMPONENTS)
    scores = dense_scores(images, COMPONENTS, shifted_data(images, LATTICE.freqs, SHIFT))
    torch.testing.assert_close(scores, squared_distance(volume).float(), rtol=1e-4, atol=5e-3)
    own = images.combine_own(COMPONENTS[None].expand(5, -1, -1, -1))
    torch.testing.assert_close(own, volume)


def test_local_scores_are_dense_scores_at_shifted_centres() -> None:
    images = SearchImages(DATA.fourier, DATA.transfer)
    slices = PHANTOM(LATTICE.freqs[:, :2] @ ROTATION[:, :2])[:8].view(1, 4, 2, -1)
    centre, offsets = SHIFT[:4].expand(5, -1, -1), SHIFT[3:]
    scores = local_scores(
        images, slices.expand(5, -1, -1, -1).contiguous(), LATTICE.freqs, centre, offsets
    )
    for kept in range(4):
        data = shifted_data(images, LATTICE.freqs, SHIFT[kept] + offsets)
        expected = dense_scores(images, slices[0, kept][:, None], data)
        torch.testing.assert_close(scores[:, kept], expected, rtol=1e-4, atol=2e-3)


def test_a_bfloat16_product_keeps_scores_within_its_rounding() -> None:
    images = SearchImages(DATA.fourier, DATA.transfer)
    slices = PHANTOM(LATTICE.freqs[:, :2] @ ROTATION[:, :2])[:, None]
    data = shifted_data(images, LATTICE.freqs, SHIFT)
    exact = dense_minimum(images, slices, data)
    rounded = dense_minimum(images, slices, data, torch.bfloat16)
    assert (rounded - exact).abs().max() < 0.02 * exact.abs().max()


def test_shifts_beyond_the_extent_are_never_chosen() -> None:
    space = make_space(PHANTOM, LATTICE)
    far = simulate(PHANTOM, LATTICE, random_poses(5, 0.0))
    images = SearchImages(far.fourier, far.transfer)
    cells = torch.zeros(5, 1, 1, dtype=torch.int64)
    corner = torch.full((5, 1, 2), -1)
    steps = space.shifts.child_offsets(1)
    volumes = space.cache.volumes(None)
    found = with_best_shift(space, images.within(space.count(1)), volumes, cells, corner, steps, 1)
    assert space.shifts.contains(found.squares, 1).all()


@pytest.mark.parametrize("radius", [3, 5])
def test_a_smaller_disc_is_a_prefix_of_the_images(radius: int) -> None:
    images = SearchImages(DATA.fourier, DATA.transfer, WEIGHTS).within(LATTICE.count(radius))
    assert images.fourier.shape == images.transfer.shape == (5, LATTICE.count(radius))
    assert images.coefficients is WEIGHTS
