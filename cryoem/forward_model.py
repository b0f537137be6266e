"""Predicted slices: rotate the lattice, ask the decoder, multiply by the CTF."""

from jaxtyping import Complex, Float
from torch import Tensor, nn

from cryoem.batch import ParticleBatch
from cryoem.ctf import evaluate_ctf
from cryoem.decoders.base import Decoder
from cryoem.lattice import FourierLattice, shift_phases


class ForwardModel(nn.Module):
    """Image formation in Fourier space, ``C_i V(freqs A_i, z_i)``.

    Parameters
    ----------
    decoder
        The volume.
    lattice
        Points of the half-disc.
    pixel_size_angstrom
        Of the volume. A particle with another pixel size is sampled at rescaled frequencies.
    """

    def __init__(
        self, decoder: Decoder, lattice: FourierLattice, pixel_size_angstrom: float
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.lattice = lattice
        self.pixel_size_angstrom = pixel_size_angstrom

    def coordinates(
        self,
        rotation: Float[Tensor, "batch 3 3"],
        pixel_size_angstrom: Float[Tensor, " batch"],
        radius: int | None = None,
    ) -> Float[Tensor, "batch freq 3"]:
        """Frequencies of central slices in the volume's frame, cycles per voxel."""
        freqs = self.lattice.freqs[: self._count(radius)]
        magnification = self.pixel_size_angstrom / pixel_size_angstrom
        # slices are in the plane z = 0, so the third row of the rotation never contributes
        return freqs[:, :2] @ (rotation[:, :2] * magnification[:, None, None])

    def slices(
        self,
        rotation: Float[Tensor, "batch 3 3"],
        pixel_size_angstrom: Float[Tensor, " batch"],
        z: Float[Tensor, "batch latent"] | None = None,
        radius: int | None = None,
    ) -> Complex[Tensor, "batch freq"]:
        """Central slices of the volumes, without CTF."""
        return self.decoder(self.coordinates(rotation, pixel_size_angstrom, radius), z)

    def transfer(
        self, batch: ParticleBatch, radius: int | None = None
    ) -> Float[Tensor, "batch freq"]:
        """CTF of each image; ones where the particles have none."""
        freqs = self.lattice.freqs[: self._count(radius)]
        if batch.ctf is None:
            return freqs.new_ones(len(batch), len(freqs))
        return evaluate_ctf(freqs, batch.pixel_size_angstrom, batch.ctf)

    def observed(
        self, batch: ParticleBatch, shift: Float[Tensor, "batch 2"], radius: int | None = None
    ) -> Complex[Tensor, "batch freq"]:
        """Centred data: the shift of each particle undone."""
        count = self._count(radius)
        return batch.fourier[:, :count] * shift_phases(self.lattice.freqs[:count], shift)

    def _count(self, radius: int | None) -> int:
        return self.lattice.n_freqs if radius is None else self.lattice.count(radius)
