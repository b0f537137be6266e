"""The poses of each image that a search goes on with."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cryoem.batch import Pose, TensorRecord
from cryoem.poses.search_space import SearchSpace


@dataclass(frozen=True)
class Candidates(TensorRecord):
    """Cells of rotation and shift at one level, and their scores."""

    cells: Int64[Tensor, "batch kept"]
    squares: Int64[Tensor, "batch kept 2"]
    error: Float[Tensor, "batch kept"]

    def take(self, index: Int64[Tensor, "batch chosen"]) -> "Candidates":
        """Return the given ones of each image."""
        squares = self.squares.gather(1, index[..., None].expand(-1, -1, 2))
        return Candidates(self.cells.gather(1, index), squares, self.error.gather(1, index))

    def pose(self, space: SearchSpace, level: int) -> Pose:
        """Their poses, at the centres of the cells."""
        return Pose(space.matrices(self.cells, level), space.shifts.shifts(self.squares, level))


def distinct(
    best: Float[Tensor, "batch 3 3"],
    rotation: Float[Tensor, "#batch rot 3 3"],
    group: Float[Tensor, "element 3 3"],
    degrees: float,
) -> Bool[Tensor, "batch rot"]:
    """Whether rotations are further than an angle from the best and all its equivalents."""
    equivalent = (best[:, None] @ group.to(best)).flatten(-2)
    trace = (equivalent @ rotation.flatten(-2).mT).amax(1)  # 1 + 2 cos(angle)
    return trace < 1 + 2 * math.cos(math.radians(degrees))


def choose(
    error: Float[Tensor, "batch rot"],
    rotation: Float[Tensor, "#batch rot 3 3"],
    group: Float[Tensor, "element 3 3"],
    n_keep: int,
    degrees: float,
) -> Int64[Tensor, "batch kept"]:
    """The ``n_keep`` best, the last of which is the best of those distinct from the first.

    Without it a beam soon holds neighbours only, and nothing is known of other solutions.
    """
    index = error.topk(min(n_keep, error.shape[1]), largest=False).indices
    if index.shape[1] < 2:
        return index
    far = distinct(_row(rotation, index[:, 0]), rotation, group, degrees)
    rival_error, rival = error.masked_fill(~far, torch.inf).min(1)
    replace = rival_error.isfinite() & (index != rival[:, None]).all(1)
    index[:, -1] = torch.where(replace, rival, index[:, -1])
    return index


def margin(
    error: Float[Tensor, "batch rot"],
    rotation: Float[Tensor, "#batch rot 3 3"],
    group: Float[Tensor, "element 3 3"],
    degrees: float,
) -> Float[Tensor, " batch"]:
    """How much worse the best distinct rotation is than the best; infinite if there is none."""
    lowest, best = error.min(1)
    far = distinct(_row(rotation, best), rotation, group, degrees)
    return error.masked_fill(~far, torch.inf).amin(1) - lowest


def _row(
    rotation: Float[Tensor, "#batch rot 3 3"], index: Int64[Tensor, " batch"]
) -> Float[Tensor, "batch 3 3"]:
    if len(rotation) == 1:
        return rotation[0, index]
    return rotation[torch.arange(len(index), device=index.device), index]
