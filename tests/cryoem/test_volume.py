"""Volumes on a grid: the same density that the decoder describes."""

import pytest
import torch

from cryoem.decoders.phantom import random_phantom
from cryoem.volume import evaluate_volumes, half_grid, spectrum_to_volume, volume_to_spectrum


@pytest.fixture
def phantom():
    return random_phantom(12, 8.0, 1.5, 32, torch.Generator().manual_seed(0))


def test_the_volume_of_the_phantom_is_its_density_up_to_the_mean(phantom):
    volume = evaluate_volumes(phantom, 32, None, torch.device("cpu"))
    density = phantom.density()
    expected = density - density.mean()
    assert volume.shape == (1, 32, 32, 32)
    torch.testing.assert_close(volume[0], expected, rtol=0, atol=1e-4 * float(density.max()))


def test_the_size_of_the_chunks_does_not_matter(phantom):
    whole = evaluate_volumes(phantom, 16, None, torch.device("cpu"))
    pieces = evaluate_volumes(phantom, 16, None, torch.device("cpu"), points_per_chunk=100)
    torch.testing.assert_close(whole, pieces)


class Scaled:
    """The phantom times its latent."""

    latent_dim = 1

    def __init__(self, phantom):
        self.phantom = phantom

    def __call__(self, freqs, z=None):
        return self.phantom(freqs) * z


def test_each_latent_gives_its_own_volume(phantom):
    volumes = evaluate_volumes(
        Scaled(phantom), 16, torch.tensor([[1.0], [-2.0]]), torch.device("cpu")
    )
    torch.testing.assert_close(volumes[1], -2 * volumes[0])


def test_a_volume_and_its_spectrum_are_two_sides_of_the_same():
    volume = torch.randn(2, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spectrum_to_volume(volume_to_spectrum(volume)), volume)


def test_the_central_plane_of_the_spectrum_is_the_orthonormal_transform_of_the_projection():
    volume = torch.randn(12, 12, 12, generator=torch.Generator().manual_seed(0))
    projection = torch.fft.ifftshift(volume.sum(0))
    expected = torch.fft.rfft2(projection, norm="ortho")
    torch.testing.assert_close(volume_to_spectrum(volume)[0], expected)


def test_the_grid_is_in_cycles_per_voxel_x_first():
    grid = half_grid(8)
    assert grid.shape == (8, 8, 5, 3)
    assert grid[1, 2, 3].tolist() == [3 / 8, 2 / 8, 1 / 8]
    assert grid[7, 0, 0].tolist() == [0.0, 0.0, -1 / 8]
