"""Scores of the poses around given ones, at one level of a search."""

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from cryoem.poses.candidates import Candidates
from cryoem.poses.scores import SearchImages, local_scores
from cryoem.poses.search_space import SearchSpace
from cryoem.poses.volume_cache import Volumes


def pose_scores(
    space: SearchSpace,
    images: SearchImages,
    volume: Complex[Tensor, "batch kept child freq"],
    anchor: Int64[Tensor, "batch kept 2"],
    steps: Int64[Tensor, "step 2"],
    level: int,
) -> Float[Tensor, "batch kept child step"]:
    """Scores of slices, with shifts at all steps from the anchors; infinite beyond the extent."""
    images = images.within(space.count(level))
    centre = space.shifts.shifts(anchor, level)
    offsets = steps.float() * space.shifts.spacing(level)
    scores = local_scores(images, volume, space.freqs(level), centre, offsets)
    inside = space.shifts.contains(anchor[:, :, None] + steps, level)
    return scores.masked_fill(~inside[:, :, None], torch.inf)


def with_best_shift(
    space: SearchSpace,
    images: SearchImages,
    volumes: Volumes,
    cells: Int64[Tensor, "batch kept child"],
    anchor: Int64[Tensor, "batch kept 2"],
    steps: Int64[Tensor, "step 2"],
    level: int,
) -> Candidates:
    """Cells, each with the best of the shifts at all steps from its anchor."""
    volume = volumes.slices(space.matrices(cells, level), space.freqs(level))
    error, step = pose_scores(space, images, volume, anchor, steps, level).min(-1)
    squares = anchor[:, :, None] + steps[step]
    return Candidates(cells.flatten(1), squares.flatten(1, 2), error.flatten(1))


def children(
    space: SearchSpace, images: SearchImages, volumes: Volumes, parents: Candidates, level: int
) -> Candidates:
    """Children at ``level`` of cells one above, each with the best of the 16 shifts around."""
    cells = space.rotations.children(parents.cells, level - 1)
    steps = space.shifts.child_offsets(1, space.device)
    return with_best_shift(space, images, volumes, cells, 2 * parents.squares, steps, level)
