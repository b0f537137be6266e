"""In which order particles are read: a pure function of seed, epoch and rank."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Sampler


def shuffled(half: Int64[Tensor, " particle"], seed: int, epoch: int) -> Int64[Tensor, " particle"]:
    """All rows in random order, both half-sets spread evenly along it.

    Each half is shuffled by itself; then the two are merged like the teeth of a zip, so that every
    stretch holds them in the proportion of the whole.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(half), generator=generator)
    place = torch.empty(len(half), dtype=torch.float64)
    for name in (0, 1):
        members = (half[order] == name).nonzero()[:, 0]
        place[members] = (torch.arange(len(members)).double() + 0.5) / max(len(members), 1)
    return order[torch.argsort(place, stable=True)]


class ShuffledOrder(Sampler[int]):
    """A new order every epoch; Lightning calls ``set_epoch``."""

    def __init__(self, half: Int64[Tensor, " particle"], seed: int) -> None:
        self.half, self.seed, self.epoch = half, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.half)

    def __iter__(self) -> Iterator[int]:
        return iter(shuffled(self.half, self.seed, self.epoch).tolist())


class FileOrder(Sampler[int]):
    """Rows as they stand in the file, in every epoch."""

    epoch = 0

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


class RankBatches(Sampler[list[int]]):
    """Cuts an order into global batches, and these into one slice per rank.

    Parameters
    ----------
    sampler
        The order of all particles, the same on every rank.
    batch_size
        Images per step over all ranks.
    rank, world_size
        Which slice is ours, of how many.

    Notes
    -----
    Every rank has the same number of batches and no particle occurs twice. The last batch may be
    small. While training, one with fewer images than there are ranks is left out, since a rank
    without work would make the others wait for ever; in the order of the file, every particle is
    wanted and nobody waits.
    """

    def __init__(
        self,
        sampler: ShuffledOrder | FileOrder,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        self.skip = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        low, high = self._share(rest)
        whole = isinstance(self.sampler, FileOrder) and high > low
        return full + (whole or rest >= self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        skip, self.skip = self.skip, 0
        for step in range(skip, len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            low, high = self._share(len(batch))
            yield batch[low:high]

    @property
    def epoch(self) -> int:
        """Of the order."""
        return self.sampler.epoch

    def _share(self, n: int) -> tuple[int, int]:
        """Rows of a batch of ``n`` that are ours; they differ by one at most between ranks."""
        return n * self.rank // self.world_size, n * (self.rank + 1) // self.world_size
