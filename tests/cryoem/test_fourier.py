"""Centred transforms: what their scale, centre and sign mean."""

import math

import pytest
import torch

from cryoem.fourier import (
    fourier_crop,
    fourier_transform,
    hartley_transform,
    inverse_fourier_transform,
    symmetrise,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_transform_is_the_sum_over_pixels_from_the_centre():
    image = noise(8, 8).double()
    axis = torch.arange(8).double() - 4
    kernel = torch.exp(-2j * math.pi * axis[:, None] * axis / 8)  # frequency k/8 at index 4 + k
    expected = torch.einsum("ky,lx,yx->kl", kernel, kernel, image.to(kernel.dtype)) / 8
    torch.testing.assert_close(fourier_transform(image), expected)


@pytest.mark.parametrize("side", [8, 9])
def test_transforming_back_is_the_identity(side):
    image = noise(2, side, side)
    torch.testing.assert_close(inverse_fourier_transform(fourier_transform(image)), image)
    volume = noise(side, side, side)
    again = inverse_fourier_transform(fourier_transform(volume, ndim=3), ndim=3)
    torch.testing.assert_close(again, volume)


@pytest.mark.parametrize("side", [8, 9])
def test_the_hartley_transform_is_its_own_inverse(side):
    image = noise(3, side, side)
    torch.testing.assert_close(hartley_transform(hartley_transform(image)), image)


def test_power_is_the_same_in_both_domains():
    image = noise(16, 16)
    assert float(fourier_transform(image).abs().square().sum()) == pytest.approx(
        float(image.square().sum()), rel=1e-5
    )


def test_a_centred_point_has_a_flat_real_spectrum():
    image = torch.zeros(8, 8)
    image[4, 4] = 1.0
    expected = torch.full((8, 8), 1 / 8, dtype=torch.complex64)
    torch.testing.assert_close(fourier_transform(image), expected)


def test_on_the_odd_lattice_friedel_symmetry_is_an_index_reversal():
    spectrum = hartley_transform(noise(8, 8))
    wide = symmetrise(spectrum)
    assert wide.shape == (9, 9)
    torch.testing.assert_close(wide[:8, :8], spectrum)
    # H(-k) of an image is H(k) of the image turned by 180 degrees about the centre
    turned = torch.roll(noise(8, 8).flip(0, 1), (1, 1), (0, 1))
    torch.testing.assert_close(wide.flip(0, 1), symmetrise(hartley_transform(turned)))


def blob(side: int, pixel: float) -> torch.Tensor:
    axis = (torch.arange(side) - side // 2) * pixel
    return torch.exp(-0.5 * ((axis[:, None] - 3.0) ** 2 + (axis[None, :] + 5.0) ** 2) / 4.0**2)


def test_cropping_samples_the_same_image_more_coarsely():
    # a blob of 4 pixels is band-limited well below the new Nyquist frequency
    cropped = fourier_crop(blob(64, 1.0), 32)
    torch.testing.assert_close(cropped, 2.0 * blob(32, 2.0), rtol=0, atol=1e-4)


def test_cropping_keeps_white_noise_white_of_the_same_variance():
    cropped = fourier_crop(noise(400, 48, 48), 32)
    power = fourier_transform(cropped).abs().square().mean(0)
    assert float(cropped.var()) == pytest.approx(1.0, abs=0.01)
    assert float(power[1:, 1:].mean()) == pytest.approx(1.0, abs=0.01)
    for nyquist in (power[0], power[:, 0]):
        assert float(nyquist.mean()) == pytest.approx(1.0, abs=0.06)


def test_cropping_to_the_same_size_changes_nothing():
    images = noise(2, 16, 16)
    assert fourier_crop(images, 16) is images


@pytest.mark.parametrize("box_size", [15, 18])
def test_cropping_to_an_odd_or_larger_box_is_refused(box_size):
    with pytest.raises(ValueError, match=f"at most 16, got {box_size}"):
        fourier_crop(noise(16, 16), box_size)
