"""One volume: two decoders on disjoint half-sets."""

from torch import Tensor

from cryoem.batch import ParticleBatch
from lightning_modules.base import Reconstruction


class HomoReconstruction(Reconstruction):
    """Homogeneous reconstruction; the constructor is that of :class:`Reconstruction`."""

    def loss_terms(self, batch: ParticleBatch) -> dict[str, Tensor]:
        """Rows before ``batch.split`` are compared with the first decoder, the rest with the second."""
        raise NotImplementedError
