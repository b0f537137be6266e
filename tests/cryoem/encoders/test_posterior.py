"""The closed-form posterior against the definition of a Gaussian posterior."""

import pytest
import torch

from cryoem.encoders.base import EncoderView, LatentGaussian
from cryoem.encoders.posterior import LinearPosterior
from cryoem.lattice import FourierLattice


@pytest.fixture
def view() -> EncoderView:
    generator = torch.Generator().manual_seed(0)
    n, freqs, latent = 3, FourierLattice(8).n_freqs, 2
    basis = torch.randn(n, freqs, 1 + latent, dtype=torch.complex64, generator=generator)
    transfer = torch.rand(n, freqs, generator=generator) - 0.5
    observed = torch.randn(n, freqs, dtype=torch.complex64, generator=generator)
    return EncoderView(
        torch.arange(n), observed, transfer, torch.zeros(n, freqs, 3), 0.3 * basis, beta=1.0
    )


def encode(view: EncoderView) -> LatentGaussian:
    return LinearPosterior(FourierLattice(8), 2, 3)(view)


def energy(view: EncoderView, z: torch.Tensor) -> torch.Tensor:
    """-log p(image, z) of the first image, in nats, from the generative model itself."""
    slices = view.basis[0, :, 0] + view.basis[0, :, 1:] @ z.to(view.basis.dtype)
    difference = view.observed[0] - view.transfer[0] * slices
    return difference.abs().square().sum() + view.beta * 0.5 * z.square().sum()


def test_the_mean_is_where_the_joint_density_is_stationary(view):
    mean = encode(view).mean[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(view, mean), mean)
    torch.testing.assert_close(gradient, torch.zeros(2), atol=2e-4, rtol=0)


def test_the_covariance_is_the_inverse_of_the_curvature(view):
    posterior = encode(view)
    curvature = torch.autograd.functional.hessian(lambda z: energy(view, z), posterior.mean[0])
    covariance = posterior.factor[0] @ posterior.factor[0].T
    torch.testing.assert_close(covariance @ curvature, torch.eye(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(posterior.log_var[0].exp(), covariance.diagonal())
    torch.testing.assert_close(posterior.log_det[0], torch.logdet(covariance))


def test_beta_weighs_the_prior(view):
    heavy = EncoderView(
        view.index, view.observed, view.transfer, view.coordinates, view.basis, beta=1e6
    )
    assert encode(heavy).mean.norm() < 1e-3 * encode(view).mean.norm()


def test_samples_have_the_stated_covariance(view):
    torch.manual_seed(0)
    posterior = encode(view)
    draws = torch.stack(
        [posterior.sample(torch.randn_like(posterior.mean))[0] for _ in range(4000)]
    )
    expected = posterior.factor[0] @ posterior.factor[0].T
    torch.testing.assert_close(
        draws.T.cov(), expected, rtol=0.15, atol=0.05 * float(expected.max())
    )


def test_kl_of_a_correlated_gaussian_matches_torch(view):
    posterior = encode(view)
    ours = posterior.kl()[0]
    q = torch.distributions.MultivariateNormal(
        posterior.mean[0], posterior.factor[0] @ posterior.factor[0].T
    )
    p = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(q, p), rtol=1e-4, atol=1e-4)


def test_a_decoder_without_components_is_refused(view):
    bare = EncoderView(view.index, view.observed, view.transfer, view.coordinates)
    with pytest.raises(ValueError, match="linear in the latent"):
        encode(bare)
