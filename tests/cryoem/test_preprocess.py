"""From raw images to the half-disc: light, centred on zero, noise of variance one."""

import pytest
import torch

from cryoem.batch import RawBatch
from cryoem.fourier import fourier_crop
from cryoem.lattice import FourierLattice
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise, radius_grid, soft_disc


def batch(images: torch.Tensor, pixel_size: float = 2.0) -> RawBatch:
    n = len(images)
    return RawBatch(torch.arange(n), images, torch.full((n,), pixel_size))


def noise(n: int, side: int) -> torch.Tensor:
    return torch.randn(n, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("window", [None, (0.85, 0.99), (0.5, 0.7)])
@pytest.mark.parametrize("box_size", [32, 24])
def test_noise_has_variance_one_with_any_window_and_crop(window, box_size):
    raw = 5.0 + 3.0 * noise(500, 32)
    mean, std = estimate_noise(fourier_crop(raw, box_size))
    lattice = FourierLattice(box_size, box_size // 2 - 1)
    preprocess = Preprocess(32, lattice, Normalisation(mean, std, 1), window)
    fourier = preprocess(batch(raw)).fourier
    assert std == pytest.approx(3.0, rel=0.01)
    assert float(fourier.abs().square().mean()) == pytest.approx(1.0, abs=0.02)
    assert float(fourier.real.square().mean()) == pytest.approx(0.5, abs=0.02)


def test_the_background_is_what_lies_outside_the_inscribed_circle():
    images = 2.0 + 0.5 * noise(200, 32)
    images += 2.0 * (radius_grid(32) < 0.9)  # a bright particle does not count
    mean, std = estimate_noise(images)
    assert mean == pytest.approx(2.0, abs=0.01)
    assert std == pytest.approx(0.5, abs=0.01)


def test_images_without_noise_keep_a_finite_scale():
    images = torch.zeros(4, 32, 32)
    images[:, 12:20, 12:20] = 1.0
    mean, std = estimate_noise(images)
    assert mean == 0.0
    assert std == pytest.approx(0.1 * float(images.std()))


def test_dark_particles_become_light():
    image = noise(1, 16)
    lattice = FourierLattice(16)
    light = Preprocess(16, lattice, Normalisation(0.0, 1.0, 1))(batch(image)).fourier
    dark = Preprocess(16, lattice, Normalisation(0.0, 1.0, -1))(batch(-image)).fourier
    torch.testing.assert_close(light, dark)


def test_without_a_window_the_fourier_coefficients_are_those_of_the_image():
    images = noise(3, 16)
    lattice = FourierLattice(16)
    fourier = Preprocess(16, lattice, Normalisation(0.0, 2.0, 1), None)(batch(images)).fourier
    torch.testing.assert_close(fourier, lattice.gather(images) / 2.0)


def test_cropping_enlarges_the_pixels():
    out = Preprocess(32, FourierLattice(16), Normalisation(0.0, 1.0, 1))(batch(noise(2, 32), 1.5))
    assert out.pixel_size_angstrom.tolist() == [3.0, 3.0]


def test_the_window_is_one_inside_zero_outside_and_falls_in_between():
    window = soft_disc(64, 0.5, 0.75)
    radius = radius_grid(64)
    assert radius[32, 32] == 0.0
    assert radius[32, 0] == 1.0
    assert bool((window[radius <= 0.5] == 1).all())
    assert float(window[radius >= 0.75].abs().max()) < 1e-6
    assert float(window[32, 52]) == pytest.approx(0.5, abs=1e-6)  # half-way, at 0.625
