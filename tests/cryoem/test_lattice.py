"""The half-disc: its points, its order, and images on it and back."""

import pytest
import torch

from cryoem.fourier import fourier_transform
from cryoem.lattice import FourierLattice, shift_phases


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def as_pixels(lattice: FourierLattice) -> torch.Tensor:
    return (lattice.freqs[:, :2] * lattice.box_size).round().long()


# full discs without the origin, as the reference implementation counts them
@pytest.mark.parametrize(
    ("radius", "full_disc"),
    [(12, 440), (14, 612), (16, 796), (18, 1008), (22, 1516), (27, 2288), (32, 3208)],
)
def test_the_disc_has_as_many_points_as_it_should(radius, full_disc):
    assert 2 * FourierLattice(64, radius).n_freqs == full_disc
    assert 2 * FourierLattice(64).count(radius) == full_disc


def test_the_half_disc_and_its_mirror_image_are_the_disc_without_the_origin():
    points = as_pixels(FourierLattice(16))
    half = {tuple(point) for point in points.tolist()}
    mirrored = {(-x, -y) for x, y in half}
    disc = {(x, y) for x in range(-8, 9) for y in range(-8, 9) if 0 < x * x + y * y <= 64}
    assert len(half) == len(points)
    assert not half & mirrored
    assert half | mirrored == disc


def test_points_are_in_order_of_radius_so_that_a_smaller_disc_is_a_prefix():
    lattice = FourierLattice(32)
    radius = as_pixels(lattice).double().norm(dim=-1)
    assert bool((radius.diff() >= 0).all())
    torch.testing.assert_close(lattice.radii.double(), radius, rtol=0, atol=1e-5)
    for smaller in (1, 5, 11):
        prefix = as_pixels(lattice)[: lattice.count(smaller)]
        assert torch.equal(prefix, as_pixels(FourierLattice(32, smaller)))


def test_frequencies_are_cycles_per_pixel_in_the_plane_z_zero():
    lattice = FourierLattice(20, 10)
    assert float(lattice.freqs.norm(dim=-1).max()) == pytest.approx(0.5)
    assert not lattice.freqs[:, 2].any()


def test_gathered_values_are_the_centred_transform_at_these_points():
    lattice = FourierLattice(16, 7)
    images = noise(3, 16, 16)
    x, y = as_pixels(lattice).unbind(-1)
    expected = fourier_transform(images)[:, 8 + y, 8 + x]
    torch.testing.assert_close(lattice.gather(images), expected)


def test_gathered_values_at_nyquist_are_its_only_sample():
    lattice = FourierLattice(16)
    images = noise(2, 16, 16)
    at_nyquist = {tuple(p): i for i, p in enumerate(as_pixels(lattice).tolist())}
    spectrum = fourier_transform(images)  # index 0 is -8 cycles per box, the same as +8
    values = lattice.gather(images)
    torch.testing.assert_close(values[:, at_nyquist[8, 0]], spectrum[:, 8, 0])
    torch.testing.assert_close(values[:, at_nyquist[0, 8]], spectrum[:, 0, 8])


def test_noise_of_variance_one_has_coefficients_of_variance_one():
    lattice = FourierLattice(16, 7)
    power = lattice.gather(noise(2000, 16, 16)).abs().square()
    assert float(power.mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("radius", [5, 7, 8])
def test_scattering_undoes_gathering(radius):
    lattice = FourierLattice(16, radius)
    images = lattice.scatter(lattice.gather(noise(3, 16, 16)))
    inside = lattice.radii < 8
    torch.testing.assert_close(
        lattice.gather(images)[:, inside], lattice.gather(noise(3, 16, 16))[:, inside]
    )
    again = lattice.scatter(lattice.gather(images))
    torch.testing.assert_close(again, images, rtol=0, atol=1e-5)


def test_scattering_a_prefix_fills_the_smaller_disc():
    lattice, small = FourierLattice(16), FourierLattice(16, 4)
    values = small.gather(noise(16, 16))
    torch.testing.assert_close(lattice.scatter(values), small.scatter(values))


def test_a_shift_and_its_opposite_are_the_identity():
    lattice = FourierLattice(16)
    shift = 10 * noise(5, 2)
    product = shift_phases(lattice.freqs, shift) * shift_phases(lattice.freqs, -shift)
    torch.testing.assert_close(product, torch.ones_like(product))


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -2), (5, 4)])
def test_a_shift_by_whole_pixels_is_a_roll_to_larger_indices(x, y):
    lattice = FourierLattice(16)
    image = noise(16, 16)
    shifted = lattice.gather(image) * shift_phases(lattice.freqs, torch.tensor([x, y]).float())
    rolled = torch.roll(image, (y, x), (0, 1))
    torch.testing.assert_close(shifted, lattice.gather(rolled), rtol=0, atol=1e-5)


def test_an_odd_box_or_a_radius_beyond_nyquist_is_refused():
    with pytest.raises(ValueError, match="must be even, got 15"):
        FourierLattice(15)
    with pytest.raises(ValueError, match="between 1 and 8, got 9"):
        FourierLattice(16, 9)


def test_nothing_of_the_lattice_is_in_a_checkpoint():
    assert not FourierLattice(16).state_dict()
