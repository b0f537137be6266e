"""Score every pose of the finest grid: the truth that other strategies are held against."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.poses.scores import SearchImages, dense_minimum, shifted_data
from cryoem.poses.search_space import SearchSpace


def all_rotations(
    space: SearchSpace, images: SearchImages
) -> tuple[Int64[Tensor, " cell"], Float[Tensor, "batch cell"]]:
    """Every cell of the finest level, and its score with the best of all shifts."""
    level = space.last
    cells = space.rotations.all(level, space.device)
    images = images.within(space.count(level))
    shifts = space.shifts.shifts(space.all_squares(level), level)
    data = shifted_data(images, space.freqs(level), shifts)
    per_cell = 8 * space.count(level) * space.cache.n_components + 4 * len(images) * len(shifts)
    error = [
        dense_minimum(images, space.slices(chunk, level), data)
        for chunk in cells.split(space.chunk_length(per_cell))
    ]
    return cells, torch.cat(error, dim=1)
