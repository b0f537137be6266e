"""What a volume explains of images is a gain in likelihood, whichever way it is added up."""

import torch

from cryoem.lattice import FourierLattice
from cryoem.metrics.explained import explained_by_shell, points_of_shells

LATTICE = FourierLattice(16, 7)


def noise(n: int, seed: int) -> torch.Tensor:
    """Complex, of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, LATTICE.n_freqs, 2, generator=generator).view(torch.complex64)[..., 0]
        / 2**0.5
    )


def test_the_truth_explains_its_own_power_and_noise_costs_its_own() -> None:
    signal = 2 * noise(1, seed=1).expand(4000, -1)
    observed = signal + noise(4000, seed=2)
    power = torch.zeros(8).index_add_(0, LATTICE.radii.round().long(), signal[0].abs().square())[
        1:
    ] / points_of_shells(LATTICE)
    found = explained_by_shell(signal, observed, LATTICE).mean(0)
    torch.testing.assert_close(found, power, rtol=0.03, atol=0.03)
    wrong = explained_by_shell(noise(4000, seed=3), observed, LATTICE).mean(0)
    torch.testing.assert_close(wrong, torch.full_like(wrong, -1.0), rtol=0, atol=0.1)
    assert (explained_by_shell(torch.zeros_like(signal), observed, LATTICE) == 0).all()


def test_shells_add_up_to_the_log_likelihood_ratio_of_the_image() -> None:
    predicted, observed = noise(5, seed=1), noise(5, seed=2)
    log_likelihood = torch.distributions.Normal(0, 0.5**0.5).log_prob  # real and imaginary parts
    gain = log_likelihood(torch.view_as_real(observed - predicted)) - log_likelihood(
        torch.view_as_real(observed)
    )
    inside = LATTICE.radii.round() >= 1
    expected = gain.sum(-1)[:, inside].sum(-1)
    by_shell = explained_by_shell(predicted, observed, LATTICE)
    torch.testing.assert_close(by_shell @ points_of_shells(LATTICE), expected, rtol=1e-4, atol=1e-3)
