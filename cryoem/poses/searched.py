"""Poses that are found by search: the table of what was found, and for whom to look again."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cryoem.batch import Pose
from cryoem.grids import symmetry_group
from cryoem.poses.rows import RotationRows, VectorRows
from cryoem.rotations import angle_between, random_rotations

# Columns of what is known of each pose.
_ERROR, _MARGIN, _MOVED = range(3)


class SearchedPoses(nn.Module):
    """Poses of all particles; whoever searches them writes what was found.

    While training, a pose is replaced by a random one of its symmetry mates: the volume becomes
    symmetric.

    Parameters
    ----------
    pose
        The start, for all particles: :func:`random_poses`, where nothing is known.
    strategy, n_keep, delta
        Of :class:`cryoem.poses.search.PoseSearch`.
    symmetry
        Point group of the particle, with axes as in RELION.
    shift_pixels
        Largest shift along x or y that is searched; a tenth of the box when None.
    radii
        Fourier radius in pixels: at the beginning of a random start, at its end, and at last.
    restarts, start_images
        Random starts, and images that each of them sees (with repetition). Without a start the
        search begins under the volume that the model has.
    held_out
        Share of the particles that do not train the volume while poses are searched: their
        likelihood compares starts and tells a collapse.
    seed
        Of what is drawn at random.
    """

    group: Float[Tensor, "element 3 3"]
    _weight: Float[Tensor, " particle"]

    def __init__(
        self,
        pose: Pose,
        strategy: str = "beam",
        symmetry: str = "C1",
        n_keep: int = 8,
        delta: float = 1e-3,
        shift_pixels: float | None = None,
        radii: Sequence[int] = (5, 13, 32),
        restarts: int = 3,
        start_images: int = 20000,
        held_out: float = 0.03,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.strategy, self.n_keep, self.delta = strategy, n_keep, delta
        self.symmetry, self.shift_pixels = symmetry, shift_pixels
        self.radii, self.restarts, self.start_images = tuple(radii), restarts, start_images
        self.seed = seed
        self.register_buffer("group", symmetry_group(symmetry).float(), persistent=False)
        n_particles = len(pose)
        self.rotation = RotationRows(pose.rotation, 0.0)
        self.shift = VectorRows(pose.shift, 0.0)
        self.knowledge = VectorRows(unknown(n_particles), 0.0)
        n_held_out = int(held_out * n_particles)
        # not the order in which an epoch comes to them: its first steps would train nothing
        generator = torch.Generator().manual_seed(2**31 + seed)
        order = torch.randperm(n_particles, generator=generator)
        self.held_out = order[:n_held_out].sort().values
        self.register_buffer("_weight", torch.ones(n_particles), persistent=False)

    def forward(self, index: Int64[Tensor, " batch"]) -> Pose:
        """Poses of these particles, without gradient."""
        with torch.no_grad():
            rotation, shift = self.rotation(index), self.shift(index)
        if self.training and len(self.group) > 1:
            mate = torch.randint(len(self.group), (len(index),), device=index.device)
            rotation = rotation @ self.group[mate]
        return Pose(rotation, shift)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing: the schedule is in steps."""

    def table(self) -> Pose:
        """All poses as they are now, on the CPU."""
        return Pose(self.rotation.snapshot(), self.shift.snapshot())

    def margin(self) -> Float[Tensor, " particle"]:
        """How much worse (nats) the next distinct rotation is, by particle; NaN if not known."""
        return self.knowledge.snapshot()[:, _MARGIN]

    def margin_of(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The same of these particles."""
        return self.knowledge(index)[:, _MARGIN]

    def moved_degrees(self) -> Float[Tensor, " particle"]:
        """How far the last search moved each; infinite for who was never searched."""
        return self.knowledge.snapshot()[:, _MOVED]

    def begin(self, train_on_all: bool) -> None:
        """Let held-out particles train the volume or not."""
        self._weight.fill_(1)
        if not train_on_all:
            self._weight[self.held_out] = 0

    def weights(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """One for particles that train the volume, zero for the held-out ones."""
        return self._weight[index]

    def forget(self, seed: int) -> None:
        """Random poses again."""
        every = torch.arange(len(self.rotation.rows), device=self.rotation.rows.device)
        start = random_poses(len(every), seed).to(every.device)
        self.rotation.write(every, start.rotation)
        self.shift.write(every, start.shift)
        self.knowledge.write(every, unknown(len(every)).to(every.device))

    def go_back(self, state: dict[str, Any]) -> None:
        """Take an earlier ``state_dict``, but keep poses of who had not been searched then."""
        tables = (self.rotation, self.shift, self.knowledge)
        now = [table.rows for table in tables]
        self.load_state_dict(state)
        new = self.knowledge.rows[:, _MOVED].isinf().nonzero()[:, 0]
        for table, rows in zip(tables, now, strict=True):
            table.write(new.to(rows.device), rows[new.to(rows.device)])

    def write(
        self,
        index: Int64[Tensor, " batch"],
        pose: Pose,
        error: Float[Tensor, " batch"],
        margin: Float[Tensor, " batch"],
    ) -> None:
        """Take note of what was found, with the error by frequency.

        An infinite margin says that no rival was looked at; then the one known before stays.
        """
        before = self.rotation.rows.to(index.device)[index]
        mates = before[:, None] @ self.group
        angle = angle_between(mates, pose.rotation[:, None].expand_as(mates)).amin(1)
        self.rotation.write(index, pose.rotation)
        self.shift.write(index, pose.shift)
        margin = torch.where(margin.isinf(), self.margin_of(index), margin)
        known = torch.stack([error, margin, angle], dim=1)
        self.knowledge.write(index, known)

    def settled(
        self, index: Int64[Tensor, " batch"], degrees: float, turn: int
    ) -> Bool[Tensor, " batch"]:
        """Whose pose need only be searched nearby.

        Settled is who moved less than ``degrees`` in the last search and is not in the worst tenth
        of the batch; whatever it is, every tenth particle is searched from the top, others each
        ``turn``.
        """
        known = self.knowledge.rows.to(index.device)[index]
        error = known[:, _ERROR]
        good = error <= error.quantile(0.9)
        return (known[:, _MOVED] < degrees) & good & (index % 10 != turn % 10)


def random_poses(n: int, seed: int) -> Pose:
    """Uniform rotations without shift."""
    generator = torch.Generator().manual_seed(seed)
    return Pose(random_rotations(n, generator), torch.zeros(n, 2))


def unknown(n: int) -> Float[Tensor, "row 3"]:
    """What is known of poses that were never searched: they have moved without bound."""
    return torch.tensor([torch.inf, torch.nan, torch.inf]).expand(n, 3)
