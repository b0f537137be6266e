"""One volume: two decoders on disjoint half-sets."""

from typing import Any

import torch

from cryoem.batch import ParticleBatch, Pose
from cryoem.forward_model import ForwardModel
from cryoem.geometry import ImageGeometry
from cryoem.losses import squared_error
from cryoem.poses.base import PoseProvider
from cryoem.poses.scores import SearchImages
from cryoem.poses.volume_cache import VolumeCache, cache_volume
from lightning_modules.base import LossTerms, Reconstruction


class HomoReconstruction(Reconstruction):
    """Homogeneous reconstruction: the half maps' agreement is an honest resolution.

    Parameters
    ----------
    geometry, poses, data_scale, **options
        As :class:`Reconstruction`: decoder, optimizer, radius, amplitude, warmup_fraction,
        final_fraction. The two decoders start from different random weights.
    """

    kind = "homo"

    def __init__(
        self,
        geometry: ImageGeometry,
        poses: PoseProvider,
        data_scale: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(geometry, poses, data_scale, n_decoders=2, **options)

    def loss_terms(self, batch: ParticleBatch) -> LossTerms:
        """Compare rows before ``batch.split`` with the first decoder, the rest with the second."""
        if batch.split is None:
            raise ValueError("the homogeneous model needs batches ordered by half-set")
        with self.float32():
            pose = self.poses(batch.index)
        halves = (slice(None, batch.split), slice(batch.split, None))
        errors = [
            self._error(model, batch[rows], pose[rows])  # type: ignore[arg-type]
            for model, rows in zip(self.forward_models, halves, strict=True)
        ]
        return LossTerms(error=torch.cat(errors))

    def cached_volumes(self, radius: int) -> list[VolumeCache]:
        """One for each half-set, in the same frame as long as poses were found under their mean."""
        return [
            cache_volume(decoder, self.geometry.box_size, radius, self.device)
            for decoder in self.decoders
        ]

    def search_images(self, batch: ParticleBatch, cache: VolumeCache) -> SearchImages:
        """Images and their CTF."""
        return SearchImages(batch.fourier, self.forward_model().transfer(batch))

    def _error(self, model: ForwardModel, batch: ParticleBatch, pose: Pose) -> torch.Tensor:
        with self.float32():
            radius = self.compared_radius
            coordinates = model.coordinates(pose.rotation, batch.pixel_size_angstrom, radius)
            transfer = model.transfer(batch, radius)
            observed = model.observed(batch, pose.shift, radius)
        slices = model.decoder(coordinates)
        with self.float32():
            return squared_error(transfer * slices, observed)
