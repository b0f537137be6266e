"""Keep the best poses of each level and look at their children: fast, without a guarantee."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from cryoem.batch import Pose
from cryoem.poses.candidates import Candidates, choose
from cryoem.poses.children import children, with_best_shift
from cryoem.poses.scores import SearchImages, dense_minimum, shifted_data
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import Volumes


@dataclass(frozen=True)
class Beam:
    """Beam search over a space.

    ``n_keep`` rotations of each image are kept at a level, the last of which is the best of those
    more than ``distinct_degrees`` from the first. ``coarse_dtype`` is for the product of level 0.
    """

    space: SearchSpace
    n_keep: int
    distinct_degrees: float
    coarse_dtype: torch.dtype

    def from_the_top(
        self,
        images: SearchImages,
        cells: Int64[Tensor, " cell"],
        slices: Complex[Tensor, "cell component freq"],
        noise: Float[Tensor, "batch cell"] | float = 0.0,
    ) -> Candidates:
        """Go down from all shifts and the given cells of level 0, whose slices are given.

        ``noise`` (nats) speaks for cells when those are chosen that are kept.
        """
        space = self.space
        squares = space.all_squares(0)
        coarse = images.within(space.count(0))
        data = shifted_data(coarse, space.freqs(0), space.shifts.shifts(squares, 0))
        error = dense_minimum(coarse, slices, data, self.coarse_dtype) - noise
        kept = cells[self._choose(error, space.matrices(cells, 0)[None], 0)][..., None]
        anchor = torch.zeros(*kept.shape[:2], 2, dtype=torch.int64, device=space.device)
        volumes = space.cache.volumes(images.coefficients)
        found = with_best_shift(space, images, volumes, kept, anchor, squares, 0)
        return self._down(images, volumes, found, 0)

    def from_poses(self, images: SearchImages, pose: Pose, level: int) -> Candidates:
        """Go down from a pose at a level and its neighbours, one step in every sense."""
        space = self.space
        cells = space.rotations.neighbours(space.rotations.cells_of(pose.rotation, level), level)
        steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=space.device)] * 2)
        anchor = space.shifts.cells_of(pose.shift, level)[:, None]
        volumes = space.cache.volumes(images.coefficients)
        found = with_best_shift(space, images, volumes, cells[:, None], anchor, steps, level)
        earlier = (cells[:, :, None] == cells[:, None]).tril(-1).any(-1)
        error = found.error.masked_fill(earlier, torch.inf)
        found = Candidates(found.cells, found.squares, error)
        return self._down(images, volumes, found, level)

    def _down(
        self, images: SearchImages, volumes: Volumes, found: Candidates, level: int
    ) -> Candidates:
        """All children of the last beam, at the finest level."""
        for finer in range(level + 1, self.space.last + 1):
            rotation = self.space.matrices(found.cells, finer - 1)
            kept = self._choose(found.error, rotation, finer - 1)
            found = children(self.space, images, volumes, found.take(kept), finer)
        return found

    def _choose(
        self,
        error: Float[Tensor, "batch rot"],
        rotation: Float[Tensor, "#batch rot 3 3"],
        level: int,
    ) -> Int64[Tensor, "batch kept"]:
        # a child of the rival may lie nearer to the best than the rival itself
        degrees = self.distinct_degrees + self.space.rotations.covering_radius(level)
        return choose(error, rotation, self.space.rotations.group, self.n_keep, degrees)
