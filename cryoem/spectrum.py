"""How strong the signal of a stack is at each Fourier radius."""

import torch
from jaxtyping import Float
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from cryoem.batch import ParticleBatch
from cryoem.ctf import evaluate_ctf
from cryoem.lattice import FourierLattice


def shell_means(values: Float[Tensor, " freq"], lattice: FourierLattice) -> Float[Tensor, " shell"]:
    """Mean over the points of each shell, by rounded radius from 0 to the lattice's; 0 is empty."""
    shell = lattice.radii.round().long()
    total = torch.zeros(lattice.radius + 1, dtype=values.dtype).index_add_(0, shell, values)
    return total / torch.bincount(shell, minlength=lattice.radius + 1).clamp(min=1)


def signal_amplitude(
    batch: ParticleBatch, lattice: FourierLattice, floor: float = 0.03
) -> Float[Tensor, " shell"]:
    """Root of the mean signal power of a central slice at radius 0, 1, ... ``box_size - 1``.

    ``sqrt((E|X|^2 - 1) / E[CTF^2])``: noise of unit variance subtracted, transfer divided out, made
    to fall with the radius (isotonic regression, weighted by the points of a shell), and not below
    ``floor`` of the largest. Radii outside the lattice repeat its last value.

    Parameters
    ----------
    batch
        A sample of preprocessed images, on the CPU.
    lattice
        The half-disc on which they are.
    floor
        Smallest value, as a part of the largest.
    """
    power = shell_means(batch.fourier.abs().square().mean(0), lattice)
    transfer = torch.ones(lattice.radius + 1)
    if batch.ctf is not None:
        ctf = evaluate_ctf(lattice.freqs, batch.pixel_size_angstrom, batch.ctf)
        transfer = shell_means(ctf.square().mean(0), lattice)
    signal = ((power - 1) / transfer.clamp(min=1e-3))[1:].clamp(min=0)
    shells = torch.arange(1, lattice.radius + 1)
    fit = IsotonicRegression(increasing=False).fit(
        shells.numpy(), signal.numpy(), sample_weight=shells.numpy()
    )
    amplitude = torch.from_numpy(fit.predict(shells.numpy())).float().sqrt()
    amplitude = amplitude.clamp(min=max(floor * float(amplitude.max()), 1e-6))
    beyond = amplitude[-1:].expand(lattice.box_size - 1 - lattice.radius)
    return torch.cat([amplitude[:1], amplitude, beyond])
