from dataclasses import replace

import pytest
import torch
from searched_phantom import CPU, make_phantom
from torch import nn

from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.lattice import FourierLattice
from cryoem.poses.volume_cache import cache_components, cache_low_rank, cache_volume
from cryoem.rotations import random_rotations

LATTICE = FourierLattice(32)
ROTATION = random_rotations(12, torch.Generator().manual_seed(0)).float()
POINTS = LATTICE.freqs[:, :2] @ ROTATION[:, :2]


def relative_error(measured: torch.Tensor, expected: torch.Tensor) -> float:
    return float((measured - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize(("padding", "tolerance"), [(1.5, 0.06), (2.0, 0.03), (3.0, 0.015)])
def test_interpolated_slices_are_those_of_the_phantom(padding: float, tolerance: float) -> None:
    phantom = make_phantom(32, 1.0)
    cache = cache_volume(phantom, 32, 16, CPU, padding)
    assert relative_error(cache.slices(ROTATION, LATTICE.freqs)[:, 0], phantom(POINTS)) < tolerance


def test_the_error_stays_small_at_the_edge_of_a_reduced_radius() -> None:
    phantom = make_phantom(32, 1.0)
    cache = cache_volume(phantom, 32, 8, CPU)
    ring = slice(LATTICE.count(6), LATTICE.count(8))
    slices = cache.slices(ROTATION, LATTICE.freqs[: LATTICE.count(8)])[:, 0, ring]
    assert relative_error(slices, phantom(POINTS[:, ring])) < 0.04
    assert cache.grid.shape[0] < cache_volume(phantom, 32, 16, CPU).grid.shape[0] / 1.7


def test_slices_of_a_grid_decoder_are_its_own() -> None:
    torch.manual_seed(0)
    decoder = FourierGrid(32, latent_dim=2)
    phantom = make_phantom(32, 100.0)
    with torch.no_grad():  # a table of samples of a volume, so that it is continuous at kz = 0
        side = 2 * decoder.reach + 1
        z, yx = torch.arange(decoder.reach + 1), torch.arange(side) - decoder.reach
        cells = torch.stack(torch.meshgrid(z, yx, yx, indexing="ij"), -1).flatten(0, -2)
        kept = cells.float().norm(dim=-1) < 16 + 3**0.5
        values = torch.view_as_real(phantom(cells[kept].flip(-1) / 32))
        inverted = values * torch.tensor([1.0, -1.0])
        decoder.table.copy_(torch.cat([values, 0.3 * values, inverted], 1))
    cache = cache_components(decoder, 32, 16, CPU)
    z = torch.randn(12, 2)
    assert cache.coefficients is not None
    weights = cache.coefficients(z).to(torch.complex64)
    slices = (weights[:, None] @ cache.slices(ROTATION, LATTICE.freqs))[:, 0]
    inside = LATTICE.count(15)
    assert relative_error(slices[:, :inside], decoder(POINTS, z)[:, :inside]) < 0.002


def test_volumes_of_images_are_sums_of_components_and_may_be_one_for_all() -> None:
    caches = [cache_volume(make_phantom(32, 1.0, seed), 32, 12, CPU) for seed in range(3)]
    cache = replace(caches[0], grid=torch.cat([c.grid for c in caches], -1))
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    rotation = ROTATION.view(4, 3, 3, 3)
    freqs = LATTICE.freqs[: LATTICE.count(12)]
    components = cache.slices(ROTATION, freqs).unflatten(0, (4, 3))
    expected = torch.einsum("bc,brcf->brf", weights.to(torch.complex64), components)
    torch.testing.assert_close(cache.volumes(weights).slices(rotation, freqs), expected)
    shared = caches[0].volumes(None).slices(rotation, freqs)
    torch.testing.assert_close(shared, components[:, :, 0])


class MovingBlobs(nn.Module):
    """Not linear in its latent: some blobs of a phantom follow an arc."""

    latent_dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.phantom = make_phantom(32, 100.0)

    def forward(self, freqs: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        values = []
        for points, latent in zip(freqs, z, strict=True):
            phantom = make_phantom(32, 100.0)
            phantom.centres[:4] += 2 * torch.stack([latent[0].sin(), latent[0].cos(), latent[0]])
            values.append(phantom(points))
        return torch.stack(values)


def test_few_components_stand_for_a_decoder_that_is_not_linear() -> None:
    decoder = MovingBlobs()
    samples = torch.linspace(-1.2, 1.2, 24)[:, None]
    cache = cache_low_rank(decoder, samples, rank=8, box_size=32, radius=12)
    assert cache.n_components <= 8
    assert cache.coefficients is not None
    z = 1.1 * (2 * torch.rand(12, 1, generator=torch.Generator().manual_seed(1)) - 1)
    freqs = LATTICE.freqs[: LATTICE.count(12)]
    weights = cache.coefficients(z).to(torch.complex64)
    slices = (weights[:, None] @ cache.slices(ROTATION, freqs))[:, 0]
    assert relative_error(slices, decoder(POINTS[:, : len(freqs)], z)) < 0.04
