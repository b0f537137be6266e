"""The exact posterior of a decoder that is linear in the latent: nothing to learn."""

import torch
from torch import nn

from cryoem.encoders.base import EncoderView, LatentGaussian
from cryoem.lattice import FourierLattice


class LinearPosterior(nn.Module):
    """Closed-form ``p(z | image)`` for ``V = B_0 + sum_r z_r B_r``, white noise, standard prior.

    With ``A = C [B_1 ... B_n]`` and ``r = X - C B_0`` the precision is ``2 Re(A^H A) / beta + 1``
    and the mean ``precision^-1 2 Re(A^H r) / beta``: probabilistic PCA with a known imaging
    operator (Tipping & Bishop, J. R. Stat. Soc. B 61, 1999). Trained together with the decoder this
    is expectation maximisation in mini-batches.

    Parameters
    ----------
    lattice, n_particles
        Not used; other encoders need them.
    latent_dim
        Dimensions of the latent.
    """

    def __init__(self, lattice: FourierLattice, latent_dim: int, n_particles: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, view: EncoderView) -> LatentGaussian:
        """Posterior of a batch. No gradient flows: the bound is tight at its maximum.

        Raises
        ------
        ValueError
            If the decoder is not linear in the latent.
        """
        if view.basis is None:
            raise ValueError("the exact posterior needs a decoder that is linear in the latent")
        with torch.no_grad(), torch.autocast(view.transfer.device.type, enabled=False):
            n = view.basis.shape[1]  # the basis may end at a smaller radius than the image
            transfer = view.transfer[:, :n]
            components = transfer[..., None] * view.basis[..., 1:]
            residual = view.observed[:, :n] - transfer * view.basis[..., 0]
            adjoint = components.mH * (2 / view.beta)
            identity = torch.eye(self.latent_dim, device=residual.device)
            precision = (adjoint @ components).real + identity
            # cholesky_ex: unlike cholesky it does not make the host wait to check for failure,
            # which the identity rules out
            root, _ = torch.linalg.cholesky_ex(precision)
            target = (adjoint @ residual[..., None]).real
            mean = torch.cholesky_solve(target, root)[..., 0]
            factor = torch.linalg.solve_triangular(root.mT, identity, upper=True)
            log_var = factor.square().sum(-1).log()
            log_det = -2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            return LatentGaussian(mean, log_var, factor, log_det)
