"""The grid decoder against an analytic phantom."""

import pytest
import torch

from cryoem.decoders.base import combine
from cryoem.decoders.fourier_grid import FourierGrid
from cryoem.decoders.fourier_mlp import FourierMLP
from cryoem.decoders.fourier_mlp_basis import FourierMLPBasis
from cryoem.decoders.phantom import random_phantom
from cryoem.volume import evaluate_volumes

BOX = 16


def points(n: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(1, n, 3, generator=generator)
    radius = 0.5 * torch.rand(1, n, 1, generator=generator)
    return radius * direction / direction.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("decoder", [FourierGrid, FourierMLP, FourierMLPBasis])
def test_friedel_symmetry_holds_everywhere(decoder):
    torch.manual_seed(0)
    volume = decoder(BOX, 2)
    z = torch.randn(1, 2)
    torch.testing.assert_close(volume(-points(), z), volume(points(), z).conj())


@pytest.mark.parametrize("decoder", [FourierGrid, FourierMLPBasis])
def test_the_volume_is_linear_in_the_latent(decoder):
    torch.manual_seed(0)
    volume = decoder(BOX, 2)
    a, b = torch.randn(2, 1, 2)
    mean = volume(points(), torch.zeros(1, 2))
    both = volume(points(), a + b) - mean
    torch.testing.assert_close(
        both, volume(points(), a) + volume(points(), b) - 2 * mean, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(combine(volume.basis(points()), None), mean)


def test_gradient_descent_recovers_a_phantom_with_its_true_density():
    """Also says that the real-space window of the interpolation is undone."""
    torch.manual_seed(0)
    phantom = random_phantom(6, 4.0, 1.3, BOX, torch.Generator().manual_seed(0))
    grid = FourierGrid(BOX, prior=0.0)
    grid.amplitude.fill_(0.1)
    optimizer = torch.optim.Adam(grid.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        freqs = torch.rand(1, 4000, 3, generator=generator) - 0.5
        freqs = freqs[freqs.norm(dim=-1) <= 0.5][None]
        loss = (grid(freqs) - phantom(freqs)).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    truth = phantom.density()
    truth = truth - truth.mean()
    volume = evaluate_volumes(grid, BOX, None, torch.device("cpu"))[0]
    slope = (volume * truth).sum() / truth.square().sum()
    correlation = torch.corrcoef(torch.stack([volume.flatten(), truth.flatten()]))[0, 1]
    assert correlation > 0.99
    assert slope == pytest.approx(1, abs=0.03)


def test_the_prior_is_a_gaussian_in_units_of_the_amplitude():
    grid = FourierGrid(BOX, 1, gain=2.0, prior=1.0, component_prior=3.0)
    with torch.no_grad():
        grid.table.zero_()
        grid.table[5] = torch.tensor([1.0, 0.0, 0.0, 0.5])
    assert grid.negative_log_prior().item() == pytest.approx(2.0**2 * (1 + 3 * 0.25))


def test_many_volumes_of_a_linear_decoder_equal_one_by_one():
    torch.manual_seed(0)
    grid = FourierGrid(BOX, 2)
    z = torch.randn(3, 2)
    together = evaluate_volumes(grid, BOX, z, torch.device("cpu"), points_per_chunk=1000)
    for row, volume in zip(z, together, strict=True):
        alone = evaluate_volumes(grid, BOX, row[None], torch.device("cpu"))[0]
        torch.testing.assert_close(volume, alone, rtol=1e-4, atol=1e-6)
