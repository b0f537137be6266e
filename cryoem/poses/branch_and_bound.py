"""Discard cells that cannot hold the best pose, and score what is left."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor

from cryoem.batch import TensorRecord
from cryoem.poses.bounds import LevelBound, ScoreBound
from cryoem.poses.candidates import Candidates
from cryoem.poses.children import pose_scores
from cryoem.poses.scores import SearchImages, dense_scores, shifted_data
from cryoem.poses.search_space import SearchSpace

# Rounding of float32 scores, relative to the energy of an image.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Frontier(TensorRecord):
    """Cells that may hold the best pose of an image, in no order."""

    image: Int64[Tensor, " cell"]
    cell: Int64[Tensor, " cell"]
    square: Int64[Tensor, "cell 2"]

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Optimum:
    """The best pose of each image, and how many were scored to find it."""

    best: Candidates
    n_scored: Int64[Tensor, " batch"]
    n_finest: Int64[Tensor, " batch"]


def branch_and_bound(
    space: SearchSpace,
    bound: ScoreBound,
    images: SearchImages,
    cells: Int64[Tensor, " cell"],
    slices: Complex[Tensor, "cell component freq"],
    best: Candidates,
) -> Optimum:
    """Search every cell whose bound is not above the score of a known good pose.

    Parameters
    ----------
    space, bound
        Where to look, and what is known of cells.
    images
        A few; what survives of the poses of all of them must fit into memory.
    cells, slices
        Level 0.
    best
        One pose of each image at the finest level, from a beam search.
    """
    rounding = _ROUNDING * images.fourier.abs().square().sum(-1)
    ceiling = best.error[:, 0] + rounding
    frontier, n_scored = _start(space, bound, images, cells, slices, ceiling)
    n_finest = torch.zeros_like(n_scored)
    for level in range(1, space.last + 1):
        n_finest = torch.bincount(frontier.image, minlength=len(images)) * 32
        n_scored = n_scored + n_finest
        bounds = bound.at(images, level)
        length = space.chunk_length(8 * 64 * space.count(level) * space.cache.n_components)
        survivors = []
        for start in range(0, len(frontier), length):
            part = frontier[start : start + length]
            below, error = _expand(space, images, part, level)
            if level == space.last:
                best = _improve(best, below, error)
            else:
                survivors.append(below[_survives(space, bounds, below, error, ceiling, level)])
        if level < space.last:
            frontier = _concatenate(survivors, frontier)
    return Optimum(best, n_scored, n_finest)


def _start(
    space: SearchSpace,
    bound: ScoreBound,
    images: SearchImages,
    cells: Int64[Tensor, " cell"],
    slices: Complex[Tensor, "cell component freq"],
    ceiling: Float[Tensor, " batch"],
) -> tuple[Frontier, Int64[Tensor, " batch"]]:
    """Survivors of level 0."""
    squares = space.all_squares(0)
    coarse = images.within(space.count(0))
    data = shifted_data(coarse, space.freqs(0), space.shifts.shifts(squares, 0))
    error = dense_scores(coarse, slices, data)
    pixels = space.rotations.pixels(cells, 0)[None]
    every = torch.arange(len(images), device=space.device)
    lower = bound.at(images, 0).lower(error, every, pixels)
    image, rot, shift = (lower <= ceiling[:, None, None]).nonzero(as_tuple=True)
    n_scored = torch.full_like(every, error.shape[1] * error.shape[2])
    return Frontier(image, cells[rot], squares[shift]), n_scored


def _expand(
    space: SearchSpace, images: SearchImages, part: Frontier, level: int
) -> tuple[Frontier, Float[Tensor, " child"]]:
    """The 32 children of each cell, and their scores."""
    steps = space.shifts.child_offsets(0, space.device)
    cells = space.rotations.children(part.cell, level - 1)
    own = images.within(space.count(level))[part.image]
    volume = own.combine_own(_shared_slices(space, cells, level))
    anchor = 2 * part.square[:, None]
    error = pose_scores(space, own, volume[:, None], anchor, steps, level)[:, 0]
    shape = error.shape
    squares = (anchor + steps)[:, None].expand(*shape, 2)
    return (
        Frontier(
            part.image[:, None, None].expand(shape).flatten(),
            cells[:, :, None].expand(shape).flatten(),
            squares.flatten(0, 2),
        ),
        error.flatten(),
    )


def _shared_slices(
    space: SearchSpace, cells: Int64[Tensor, "some 8"], level: int
) -> Complex[Tensor, "some 8 component freq"]:
    """Slices of cells, interpolated once for those that occur often."""
    unique, inverse = cells.unique(return_inverse=True)
    return space.slices(unique, level)[inverse]


def _survives(
    space: SearchSpace,
    bounds: LevelBound,
    below: Frontier,
    error: Float[Tensor, " child"],
    ceiling: Float[Tensor, " batch"],
    level: int,
) -> Bool[Tensor, " child"]:
    pixels = space.rotations.pixels(below.cell, level)
    lower = bounds.lower(error[:, None], below.image, pixels[:, None])[:, 0]
    return lower <= ceiling[below.image]


def _improve(best: Candidates, below: Frontier, error: Float[Tensor, " child"]) -> Candidates:
    """The better of the best so far and these poses, for each image."""
    lowest = best.error[:, 0].scatter_reduce(0, below.image, error, "amin")
    new = (error == lowest[below.image]) & (error < best.error[below.image, 0])
    winner, image = below[new], below.image[new]
    cells, squares = best.cells.clone(), best.squares.clone()
    cells[image, 0], squares[image, 0] = winner.cell, winner.square
    return Candidates(cells, squares, lowest[:, None])


def _concatenate(parts: list[Frontier], empty: Frontier) -> Frontier:
    if not parts:
        return empty[:0]
    return Frontier(
        torch.cat([p.image for p in parts]),
        torch.cat([p.cell for p in parts]),
        torch.cat([p.square for p in parts]),
    )
