"""What the learned encoders see, and what they give."""

import torch

from cryoem.encoders.base import EncoderView, LatentGaussian
from cryoem.encoders.conv import ConvEncoder
from cryoem.encoders.mlp import MLPEncoder
from cryoem.encoders.table import TableEncoder
from cryoem.lattice import FourierLattice


def view(lattice: FourierLattice, n: int = 4) -> EncoderView:
    generator = torch.Generator().manual_seed(0)
    observed = torch.randn(n, lattice.n_freqs, dtype=torch.complex64, generator=generator)
    transfer = torch.rand(n, lattice.n_freqs, generator=generator) - 0.3
    return EncoderView(torch.arange(n), observed, transfer, torch.zeros(n, lattice.n_freqs, 3))


def test_networks_see_phase_flipped_images():
    """Data and CTF of the opposite sign are the same image."""
    lattice = FourierLattice(16)
    seen = view(lattice)
    flipped = EncoderView(seen.index, -seen.observed, -seen.transfer, seen.coordinates)
    for encoder in (MLPEncoder(lattice, 2, 4, width=16), ConvEncoder(lattice, 2, 4, channels=8)):
        torch.testing.assert_close(encoder(seen).mean, encoder(flipped).mean)
        assert encoder(seen).mean.shape == (4, 2)


def test_an_mlp_of_small_radius_ignores_higher_frequencies():
    lattice = FourierLattice(16)
    encoder = MLPEncoder(lattice, 2, 4, width=16, radius=4)
    seen = view(lattice)
    changed = seen.observed.clone()
    changed[:, lattice.count(4) :] = 0
    other = EncoderView(seen.index, changed, seen.transfer, seen.coordinates)
    torch.testing.assert_close(encoder(seen).mean, encoder(other).mean)


def test_a_step_moves_only_the_latents_of_its_batch():
    lattice = FourierLattice(16)
    encoder = TableEncoder(lattice, 2, n_particles=10)
    before = encoder.table.rows.clone()
    posterior = encoder(view(lattice))
    (posterior.mean.sum() + posterior.kl().sum()).backward()
    encoder.table.apply_gradients()
    moved = (encoder.table.rows != before).any(dim=1)
    assert moved.tolist() == [True] * 4 + [False] * 6


def test_the_kl_of_the_prior_is_zero_and_of_a_shifted_gaussian_half_its_square():
    zeros = torch.zeros(1, 3)
    assert LatentGaussian(zeros, zeros).kl().item() == 0
    assert LatentGaussian(zeros + 2.0, zeros).kl().item() == 6.0
