"""Noise that belongs to a particle and a step: normal, independent, and nobody's state."""

import torch
from scipy import stats

from cryoem.noise import gumbel_noise, normal_noise


def test_noise_is_standard_normal_and_uncorrelated_along_particles_columns_and_steps() -> None:
    index = torch.arange(20000)
    noise = torch.stack([normal_noise(index, 3, seed=1, step=step) for step in range(4)])
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    for one, other in [
        (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1]), (noise[1:], noise[:-1]),
        (noise[0], normal_noise(index, 3, seed=2, step=0)),
    ]:  # fmt: skip
        assert abs((one * other).mean()) < 5 / one.numel() ** 0.5


def test_noise_is_the_particle_s_own_in_any_batch_and_grows_with_columns() -> None:
    index = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    noise = normal_noise(torch.arange(50), 4, seed=7, step=123)
    assert torch.equal(normal_noise(index[:9], 4, seed=7, step=123), noise[index[:9]])
    assert torch.equal(normal_noise(torch.arange(50), 2, seed=7, step=123), noise[:, :2])
    large = torch.tensor([2**31 - 1, 2**40])
    assert normal_noise(large, 2, seed=2**63 - 1, step=10**9).isfinite().all()


def test_gumbel_noise_has_its_distribution() -> None:
    noise = gumbel_noise(torch.arange(20000), 2, seed=1, step=5)
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 0.01
    assert torch.equal(gumbel_noise(torch.tensor([7]), 2, seed=1, step=5), noise[7:8])
