"""The radial profile of a stack's signal, where it is known."""

import pytest
import torch

from cryoem.batch import ParticleBatch
from cryoem.lattice import FourierLattice
from cryoem.spectrum import shell_means, signal_amplitude


def _batch(lattice: FourierLattice, amplitude: torch.Tensor, n: int = 2000) -> ParticleBatch:
    """Signal of known power at each radius under noise of unit variance."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor:
        return torch.randn(n, lattice.n_freqs, dtype=torch.complex64, generator=generator)

    fourier = amplitude[lattice.radii.round().long()] * draw() + draw()
    return ParticleBatch(torch.arange(n), fourier, torch.ones(n))


def test_the_noise_is_subtracted_and_the_profile_found() -> None:
    lattice = FourierLattice(16)
    truth = 8 / (1 + torch.arange(16)).float()
    found = signal_amplitude(_batch(lattice, truth), lattice)
    torch.testing.assert_close(found[1:9], truth[1:9], rtol=0.05, atol=0)
    assert len(found) == 16


def test_pure_noise_gives_a_positive_floor() -> None:
    lattice = FourierLattice(16, 6)
    found = signal_amplitude(_batch(lattice, torch.zeros(16)), lattice)
    assert (found > 0).all()
    assert found.max() < 0.2


def test_shells_are_averaged_over_their_points() -> None:
    lattice = FourierLattice(16)
    means = shell_means(lattice.radii.round(), lattice)
    assert means.tolist() == pytest.approx(list(range(9)))
