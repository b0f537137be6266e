"""In which order particles are read: a pure function of seed, epoch and step.

Images are read from disk in blocks of neighbours. The blocks are shuffled, and several make a
window, in which the particles are shuffled one by one. A data set that fits into one window is
shuffled completely.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor


def shuffled(
    half: Int64[Tensor, " row"], seed: int, epoch: int, part: int = 0
) -> Int64[Tensor, " row"]:
    """All rows in random order, both half-sets spread evenly along it.

    Each half is shuffled by itself; then the two are merged like the teeth of a zip, so that every
    stretch holds them in the proportion of the whole. ``part`` numbers the shuffles of an epoch.
    """
    generator = torch.Generator().manual_seed(
        (seed * 1_000_003 + epoch + part * 0x9E3779B1) % 2**32  # it uses no more bits
    )
    order = torch.randperm(len(half), generator=generator)
    place = torch.empty(len(half), dtype=torch.float64)
    for name in (0, 1):
        members = (half[order] == name).nonzero()[:, 0]
        place[members] = (torch.arange(len(members)).double() + 0.5) / max(len(members), 1)
    return order[torch.argsort(place, stable=True)]


class ShuffledOrder:
    """A new order every epoch; Lightning calls ``set_epoch``.

    Parameters
    ----------
    half
        Half-set of each row.
    on_disk
        The rows that are wanted, in the order of the disk.
    block_size, window_size
        Rows that are read together, and that are shuffled one by one.
    """

    def __init__(
        self,
        half: Int64[Tensor, " row"],
        on_disk: Int64[Tensor, " wanted"],
        seed: int,
        *,
        block_size: int,
        window_size: int,
    ) -> None:
        self.half, self.on_disk, self.seed, self.epoch = half, on_disk, seed, 0
        self.block_size, self.window_size = block_size, window_size
        # where the halves lie apart on disk, blocks of one and the other take turns
        parts = half[on_disk].split(block_size)
        self._mostly = torch.tensor([int(2 * int(part.sum()) > len(part)) for part in parts])

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.on_disk)

    def windows(self, first: int) -> Iterator[Int64[Tensor, " row"]]:
        """Rows of every window from number ``first`` on."""
        n, size = len(self), self.window_size
        count = math.ceil(n / size)
        blocks = shuffled(self._mostly, self.seed, self.epoch, part=count)
        place = (blocks[:, None] * self.block_size + torch.arange(self.block_size)).flatten()
        place = place[place < n]
        for number in range(first, count):
            rows = self.on_disk[place[number * size : (number + 1) * size]].sort().values
            yield rows[shuffled(self.half[rows], self.seed, self.epoch, part=number)]


class FileOrder:
    """Rows as they stand in the file, in every epoch."""

    epoch = 0

    def __init__(self, n: int, window_size: int) -> None:
        self.n, self.window_size = n, window_size

    def __len__(self) -> int:
        return self.n

    def windows(self, first: int) -> Iterator[Int64[Tensor, " row"]]:
        """Rows of every window from number ``first`` on."""
        for start in range(first * self.window_size, self.n, self.window_size):
            yield torch.arange(start, min(start + self.window_size, self.n))


class RankBatches:
    """Cuts an order into global batches, and these into one slice per rank.

    Parameters
    ----------
    order
        The order of all particles, the same on every rank. Its windows are whole batches.
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
        order: ShuffledOrder | FileOrder,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if order.window_size % batch_size:
            raise ValueError(f"windows of {order.window_size} are not batches of {batch_size}")
        self.order = order
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch_size)
        low, high = self._share(rest)
        whole = isinstance(self.order, FileOrder) and high > low
        return full + (whole or rest >= self.world_size)

    def windows(self, skip: int = 0) -> Iterator[list[Int64[Tensor, "_"]]]:
        """Rows of our batches behind the first ``skip``, a list for each window."""
        number, done = divmod(skip, self.order.window_size // self.batch_size)
        left = len(self) - skip
        for rows in self.order.windows(number):
            batches = rows.split(self.batch_size)[done:][:left]
            left, done = left - len(batches), 0
            if batches:
                yield [batch[slice(*self._share(len(batch)))] for batch in batches]

    def _share(self, n: int) -> tuple[int, int]:
        """Rows of a batch of ``n`` that are ours; they differ by one at most between ranks."""
        return n * self.rank // self.world_size, n * (self.rank + 1) // self.world_size
