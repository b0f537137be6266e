"""Searches the poses of batches under a copy of the volume that is renewed now and then."""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cryoem.batch import ParticleBatch, Pose, concatenate
from cryoem.grids import RotationGrid, ShiftGrid
from cryoem.poses.memory import search_memory_bytes
from cryoem.poses.polish import Polisher
from cryoem.poses.schedule import Phase, Stage
from cryoem.poses.scores import SearchImages
from cryoem.poses.search import PoseSearch, SearchResult
from cryoem.poses.search_space import SearchSpace, level_radii
from cryoem.poses.searched import SearchedPoses
from cryoem.poses.volume_cache import VolumeCache, mean_cache
from cryoem.rotations import random_rotations
from lightning_modules.base import Reconstruction

# Of level 0, in Fourier pixels: there its rotations and shifts are about half a wave apart.
_COARSE_RADIUS = 10
_SHIFTS_PER_WAVE = 3
# Rotations kept where a pose is only searched nearby, which has no other solutions to follow.
_NEARBY_KEEP = 2


class Searcher:
    """The poses of a model's particles, under its volume as it was at the last :meth:`renew`.

    ``coarse_dtype`` is that of :class:`cryoem.poses.search.PoseSearch`.
    """

    def __init__(
        self,
        model: Reconstruction,
        poses: SearchedPoses,
        coarse_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.poses, self.coarse_dtype = model, poses, coarse_dtype
        self._from_top: list[PoseSearch] = []
        self._offset = torch.zeros(3, device=model.device)
        self._seed = 0

    @torch.no_grad()
    def renew(self, radius: int, seed: int, own_halves: bool = False) -> None:
        """Copy the volume, for searches up to a radius.

        Half-sets have volumes of their own, but as long as poses are sought everywhere it is under
        the mean of both, so that the two stay in one frame; with ``own_halves`` each image is
        searched under the volume of its half, and one level further down.
        """
        caches = self.model.cached_volumes(radius)
        if len(caches) > 1 and not own_halves:
            caches = [mean_cache(caches)]
        self._seed = seed
        frame = random_rotations(1, torch.Generator().manual_seed(seed))[0]
        self._from_top = [self._search(cache, radius, frame, own_halves) for cache in caches]
        self._offset = torch.zeros(3, device=self.model.device)

    @torch.no_grad()
    def centre(self) -> None:
        """From now on let found shifts put the volume into the middle of the box.

        Nothing in the images says where that is; a volume that wandered off would leave the range
        of shifts.
        """
        self._offset = self._from_top[0].space.cache.centre()

    @torch.no_grad()
    def write(self, batch: ParticleBatch, stage: Stage) -> None:
        """Find the poses of a batch, or draw them while the volume is doubted, into the table."""
        for part, search in self._parts(batch):
            images = self.model.search_images(part, search.space.cache)
            if stage.doubt:
                images = images.flattened(stage.doubt * self.model.signal_power)
                found = search.draw(images, part.index, self.poses.seed, self._seed)
            else:
                found = self._find(part, images, search, self._nearby(part, search, stage))
            if stage.phase is not Phase.START:
                found = _polished(images, found, search.space)
            pose = self._moved(found.pose)
            n_freqs = search.space.count(search.space.last)
            self.poses.write(part.index, pose, found.error / n_freqs, found.margin)

    @torch.no_grad()
    def refine(self, batch: ParticleBatch) -> None:
        """Move the poses of a batch to the minimum next to them."""
        for part, search in self._parts(batch):
            rows, space = part.index, search.space
            images = self.model.search_images(part, space.cache)
            pose, error, gain = _polish(images, self._present(rows), space)
            margin = self.poses.margin_of(rows) + gain
            self.poses.write(rows, pose, error / space.count(space.last), margin)

    @torch.no_grad()
    def explained(self, batch: ParticleBatch) -> Float[Tensor, " batch"]:
        """How many nats the volume, in the best pose, explains of each image."""
        search = self._from_top[0]
        images = self.model.search_images(batch, search.space.cache)
        count = search.space.count(search.space.last)
        return batch.fourier[:, :count].abs().square().sum(-1) - search(images).error

    def _parts(self, batch: ParticleBatch) -> list[tuple[ParticleBatch, PoseSearch]]:
        """What is searched together: all, or each half-set under its own volume."""
        halves = [batch] if len(self._from_top) == 1 else _halves(batch)
        pairs = zip(halves, self._from_top, strict=True)
        return [(part, search) for part, search in pairs if len(part)]

    def _present(self, rows: Int64[Tensor, " batch"]) -> Pose:
        return Pose(self.poses.rotation(rows), self.poses.shift(rows))

    def _moved(self, pose: Pose) -> Pose:
        """The same poses for a volume that has been moved by the offset."""
        return Pose(pose.rotation, pose.shift - (pose.rotation @ self._offset)[:, :2])

    def volume_power(self) -> float:
        """Mean square of the cached volume (of its mean, where it has components)."""
        grid = self._from_top[0].space.cache.grid
        return float(grid[..., :2].square().mean())

    def _find(
        self,
        batch: ParticleBatch,
        images: SearchImages,
        search: PoseSearch,
        nearby: Bool[Tensor, " batch"],
    ) -> SearchResult:
        """Search around the present pose where ``nearby`` says so, else from the top."""
        close, far = nearby.nonzero()[:, 0], (~nearby).nonzero()[:, 0]
        parts = []
        if len(far):
            parts.append(search(images[far]))
        if len(close):
            present = self._present(batch.index[close])
            level = max(search.space.last - 1, 0)
            around = PoseSearch(search.space, n_keep=_NEARBY_KEEP).around
            parts.append(around(images[close], present, level))
        return concatenate(parts)[torch.cat([far, close]).argsort()]

    def _nearby(
        self, batch: ParticleBatch, search: PoseSearch, stage: Stage
    ) -> Bool[Tensor, " batch"]:
        """Who has settled; nobody in a first search, or where an exact one was asked for."""
        exact = search.strategy != "beam"
        if exact or stage.phase is Phase.START or stage.n_searches < 2:
            return torch.zeros_like(batch.index, dtype=torch.bool)
        degrees = 2 * search.space.rotations.spacing(max(search.space.last - 1, 0))
        return self.poses.settled(batch.index, degrees, turn=stage.n_searches)

    def _search(
        self, cache: VolumeCache, radius: int, frame: Float[Tensor, "3 3"], finer: bool
    ) -> PoseSearch:
        poses, lattice = self.poses, self.model.lattice
        rotations = RotationGrid(symmetry=poses.symmetry, frame=frame)
        extent = poses.shift_pixels or lattice.box_size / 10
        wave = lattice.box_size / min(radius, _COARSE_RADIUS)
        shifts = ShiftGrid(extent, math.ceil(2 * extent * _SHIFTS_PER_WAVE / wave))
        radii = level_radii(radius, _COARSE_RADIUS, rotations.spacing(0))
        space = SearchSpace(
            cache, lattice, rotations, shifts, (*radii, radius) if finer else radii,
            search_memory_bytes(self.model.device),
        )  # fmt: skip
        return PoseSearch(
            space, poses.strategy, poses.n_keep, poses.delta, coarse_dtype=self.coarse_dtype
        )


def _polished(images: SearchImages, found: SearchResult, space: SearchSpace) -> SearchResult:
    """What was found on a grid, moved off it; the rival stays where it is."""
    pose, _, gain = _polish(images, found.pose, space)
    return replace(found, pose=pose, error=found.error - gain, margin=found.margin + gain)


def _polish(
    images: SearchImages, pose: Pose, space: SearchSpace
) -> tuple[Pose, Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Poses, errors and gains of :class:`Polisher`, as many images at a time as memory allows."""
    freqs = space.freqs(space.last)
    polisher, images = Polisher(space.cache, freqs), images.within(len(freqs))
    n = space.chunk_length(polisher.bytes_each)
    parts = [polisher(images[i : i + n], pose[i : i + n]) for i in range(0, len(images), n)]
    poses, errors, gains = zip(*parts, strict=True)
    return concatenate(poses), torch.cat(errors), torch.cat(gains)


def _halves(batch: ParticleBatch) -> list[ParticleBatch]:
    return [batch[: batch.split], batch[batch.split :]]
