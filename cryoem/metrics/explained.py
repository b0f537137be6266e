"""What a volume explains of images, shell by shell."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoem.lattice import FourierLattice


def explained_by_shell(
    predicted: Complex[Tensor, "batch freq"],
    observed: Complex[Tensor, "batch freq"],
    lattice: FourierLattice,
) -> Float[Tensor, "batch shell"]:
    """How much better a prediction is than none, in nats per Fourier coefficient.

    ``|X|^2 - |X - P|^2``, which is the gain in log likelihood because the noise has unit variance,
    averaged over the shells 1 to the lattice's radius. Positive where the prediction is right; for
    images that it was not made from, negative where it is noise.
    """
    gain = observed.abs().square() - (observed - predicted).abs().square()
    shell = lattice.radii[: gain.shape[-1]].round().long()
    total = gain.new_zeros(len(gain), lattice.radius + 1).index_add_(1, shell, gain)
    count = torch.bincount(shell, minlength=lattice.radius + 1).clamp(min=1)
    return (total / count)[:, 1:]


def points_of_shells(lattice: FourierLattice) -> Float[Tensor, " shell"]:
    """How many coefficients the shells 1 to the lattice's radius hold."""
    count = torch.bincount(lattice.radii.round().long(), minlength=lattice.radius + 1)
    return count[1:].float()
