"""Search for the pose of every image under a fixed volume."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from cryoem.batch import Pose, TensorRecord, concatenate
from cryoem.noise import gumbel_noise
from cryoem.poses.beam import Beam
from cryoem.poses.bounds import ScoreBound
from cryoem.poses.branch_and_bound import branch_and_bound
from cryoem.poses.candidates import Candidates, margin
from cryoem.poses.cell_change import measure_change
from cryoem.poses.children import with_best_shift
from cryoem.poses.exhaustive import all_rotations
from cryoem.poses.scores import SearchImages, local_scores
from cryoem.poses.search_space import SearchSpace

STRATEGIES = ("beam", "branch_and_bound", "exhaustive")


@dataclass(frozen=True)
class SearchResult(TensorRecord):
    """What a search found, one row per image.

    Parameters
    ----------
    pose
        The best.
    error
        ``|X - C S V|^2`` (nats) within the finest radius.
    margin
        How much larger the error is for the best *distinct* rotation that was scored at the finest
        level; infinite if there was none. Exact for an exhaustive search, otherwise an upper
        bound.
    n_evaluated
        Poses scored, at all levels.
    fraction_pruned
        Share of the poses of the finest grid that were not scored.
    """

    pose: Pose
    error: Float[Tensor, " batch"]
    margin: Float[Tensor, " batch"]
    n_evaluated: Int64[Tensor, " batch"]
    fraction_pruned: Float[Tensor, " batch"]


@dataclass(frozen=True)
class PoseSearch:
    """Search under one model; made anew when the model has changed.

    Parameters
    ----------
    space
        Grids, radii, and the cached volume.
    strategy
        ``beam``: keep the best of each level. ``branch_and_bound``: discard only what cannot be
        best; it looks at every rotation of the finest level once per model, and prunes little where
        the noise of an image hides its signal. ``exhaustive``: score all poses of the finest level.
    n_keep
        Rotations that a beam keeps.
    delta
        Chance that branch and bound discards the best pose of an image with white noise of unit
        variance; 0 for bounds that hold whatever the noise, and discard less.
    distinct_degrees
        Rotations further apart than this are different solutions, not neighbours.
    coarse_dtype
        Of the product that scores level 0 in a beam search. Its sums are float32 and the kept poses
        are scored again, so bfloat16 only affects which are kept.

    Raises
    ------
    ValueError
        If there is no such strategy.
    """

    space: SearchSpace
    strategy: str = "beam"
    n_keep: int = 8
    delta: float = 1e-3
    distinct_degrees: float = 30.0
    coarse_dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {STRATEGIES}, got {self.strategy!r}")

    def images(
        self,
        fourier: Complex[Tensor, "batch freq"],
        transfer: Float[Tensor, "batch freq"],
        z: Float[Tensor, "batch latent"] | None = None,
    ) -> SearchImages:
        """Images, their CTF, and their latents in the terms of the cached volume.

        Raises
        ------
        ValueError
            If there are latents and the cache is of one volume, or the other way round.
        """
        expand = self.space.cache.coefficients
        if (z is None) != (expand is None):
            raise ValueError("latents are needed just where the cache has components")
        coefficients = None if expand is None or z is None else expand(z)
        return SearchImages(fourier, transfer, coefficients)

    @torch.no_grad()
    def __call__(self, images: SearchImages) -> SearchResult:
        """Search from the top, all rotations and shifts."""
        strategy = getattr(self, f"_{self.strategy}")
        length = self.space.chunk_length(getattr(self, f"_{self.strategy}_bytes"))
        starts = range(0, len(images), length)
        return concatenate([strategy(images[i : i + length]) for i in starts])

    @torch.no_grad()
    def draw(
        self, images: SearchImages, index: Int64[Tensor, " batch"], seed: int, step: int
    ) -> SearchResult:
        """A pose of each image from its posterior, not the best.

        The rotation of level 0 is drawn, each with its best shift, by random numbers that belong to
        the particle ``index``, ``seed`` and ``step``; from there it goes down to the best below.
        Under a volume that is wrong the best poses crowd where its slices are strongest, and keep
        it wrong: stochastic EM (Celeux & Diebolt 1985) in place of hard assignment.
        """
        length = self.space.chunk_length(self._beam_bytes)
        parts = []
        for i in range(0, len(images), length):
            noise = gumbel_noise(index[i : i + length], len(self._cells), seed, step)
            parts.append(self._beam(images[i : i + length], n_keep=1, noise=noise))
        return concatenate(parts)

    @torch.no_grad()
    def around(self, images: SearchImages, pose: Pose, level: int) -> SearchResult:
        """Search around given poses, starting from the cells of a level next to them.

        A pose that is better than all that were scored is returned as it is.
        """
        length = self.space.chunk_length(self._local_bytes)
        starts = [slice(i, i + length) for i in range(0, len(images), length)]
        return concatenate([self._around(images[s], pose[s], level) for s in starts])

    def _around(self, images: SearchImages, pose: Pose, level: int) -> SearchResult:
        space = self.space
        found = self._beam_search.from_poses(images, pose, level)
        n_last = found.cells.shape[1] * 16
        n_scored = 27 * 9 + self.n_keep * 8 * 16 * (space.last - level)
        result = self._result(images, found, n_scored, n_last if level < space.last else 27 * 9)
        last = images.within(space.count(space.last))
        slices = space.cache.slices(pose.rotation, space.freqs(space.last))
        volume = last.combine_own(slices)[:, None, None]
        freqs, stay = space.freqs(space.last), torch.zeros(1, 2, device=space.device)
        given = local_scores(last, volume, freqs, pose.shift[:, None], stay).flatten()
        given = given + self._energy(images)
        keep = given <= result.error
        better = Pose(
            torch.where(keep[:, None, None], pose.rotation, result.pose.rotation),
            torch.where(keep[:, None], pose.shift, result.pose.shift),
        )
        error = torch.minimum(given, result.error)
        margin = result.margin + result.error - error
        return SearchResult(better, error, margin, result.n_evaluated, result.fraction_pruned)

    def _beam(
        self, images: SearchImages, n_keep: int | None = None, noise: Tensor | float = 0.0
    ) -> SearchResult:
        beam = replace(self._beam_search, n_keep=n_keep or self.n_keep)
        found = beam.from_the_top(images, self._cells, self._slices, noise)
        n_start = len(self._cells) * self.space.shifts.count(0) ** 2
        n_level = beam.n_keep * 8 * 16
        return self._result(images, found, n_start + self.space.last * n_level, n_level)

    def _exhaustive(self, images: SearchImages) -> SearchResult:
        space = self.space
        cells, error = all_rotations(space, images)
        best = cells[error.argmin(1)][:, None, None]
        anchor = torch.zeros(len(images), 1, 2, dtype=torch.int64, device=space.device)
        last = images.within(space.count(space.last))
        squares = space.all_squares(space.last)
        volumes = space.cache.volumes(images.coefficients)
        found = with_best_shift(space, last, volumes, best, anchor, squares, space.last)
        n = error.shape[1] * len(squares)
        result = self._result(images, found, n, space.size)
        rotation = space.matrices(cells, space.last)[None]
        rival = margin(error, rotation, space.rotations.group, self.distinct_degrees)
        return SearchResult(
            result.pose, result.error, rival, result.n_evaluated, result.fraction_pruned
        )

    def _branch_and_bound(self, images: SearchImages) -> SearchResult:
        space = self.space
        found = self._beam_search.from_the_top(images, self._cells, self._slices)
        first = found.take(found.error.argmin(1)[:, None])
        optimum = branch_and_bound(space, self._bound, images, self._cells, self._slices, first)
        both = Candidates(
            torch.cat([optimum.best.cells, found.cells], 1),
            torch.cat([optimum.best.squares, found.squares], 1),
            torch.cat([optimum.best.error, found.error], 1),
        )
        return self._result(images, both, optimum.n_scored, optimum.n_finest)

    def _result(
        self,
        images: SearchImages,
        found: Candidates,
        n_evaluated: int | Tensor,
        n_finest: int | Tensor,
    ) -> SearchResult:
        """The best of the poses found, at the finest level."""
        space = self.space
        best = found.take(found.error.argmin(1)[:, None]).pose(space, space.last)
        rotation = space.matrices(found.cells, space.last)
        rival = margin(found.error, rotation, space.rotations.group, self.distinct_degrees)
        error = found.error.amin(1) + self._energy(images)
        n_evaluated = torch.zeros_like(best.shift[:, 0, 0], dtype=torch.int64) + n_evaluated
        pruned = torch.zeros_like(error) + (1 - n_finest / space.size)
        pose = Pose(best.rotation[:, 0], best.shift[:, 0])
        return SearchResult(pose, error, rival, n_evaluated, pruned)

    def _energy(self, images: SearchImages) -> Float[Tensor, " batch"]:
        return images.fourier[:, : self.space.count(self.space.last)].abs().square().sum(-1)

    @property
    def _beam_search(self) -> Beam:
        return Beam(self.space, self.n_keep, self.distinct_degrees, self.coarse_dtype)

    @cached_property
    def _cells(self) -> Int64[Tensor, " cell"]:
        return self.space.rotations.all(0, self.space.device)

    @cached_property
    def _slices(self) -> Complex[Tensor, "cell component freq"]:
        """Slices of level 0, which all images share."""
        bytes_each = self._slice_bytes(0, self.space.cache.n_components)
        chunks = self._cells.split(self.space.chunk_length(bytes_each))
        slices = [self.space.slices(chunk, 0).transpose(0, 1) for chunk in chunks]
        return torch.cat(slices, 1).transpose(0, 1)  # so that summing components copies nothing

    @cached_property
    def _bound(self) -> ScoreBound:
        return ScoreBound(measure_change(self.space), self.delta)

    def _slice_bytes(self, level: int, n_components: int = 1) -> int:
        """Of one interpolated slice, with all that is made from it."""
        return self.space.count(level) * (16 * n_components + 32)

    @property
    def _local_bytes(self) -> int:
        cache = self.space.cache
        volume = 8 * cache.grid[..., 0].numel() if cache.n_components > 1 else 0
        return volume + max(27, 8 * self.n_keep) * self._slice_bytes(self.space.last)

    @property
    def _beam_bytes(self) -> int:
        n_shifts = self.space.shifts.count(0) ** 2
        dense = 4 * len(self._cells) * n_shifts + 24 * n_shifts * self.space.count(0)
        if self.space.cache.n_components > 1:
            dense += 12 * len(self._cells) * self.space.count(0)
        return max(dense, self._local_bytes)

    @property
    def _branch_and_bound_bytes(self) -> int:
        return 6 * self._beam_bytes

    @property
    def _exhaustive_bytes(self) -> int:
        last = self.space.last
        n_shifts = self.space.shifts.count(last) ** 2
        n_rotations = len(self._cells) * 8**last
        return 32 * n_shifts * self.space.count(last) + 12 * n_rotations
