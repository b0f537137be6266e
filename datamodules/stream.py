"""Images from disk through a shuffle window: large sequential reads, batches from memory.

Worker processes read the images of a window in the order of the disk and send them in pieces of a
few megabytes. Here they are put where the batches want them. While one window is handed out the
next one fills up, so that two of them are held, however large the files are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cryoem.errors import InputError
from cryoem.io.pixels import check_finite
from cryoem.io.source import ParticleSource

BLOCK_BYTES = 8 << 20
WINDOW_BYTES = 256 << 20

Rows = Int64[Tensor, "_"]  # of any number of particles
Images = Float[Tensor, "_ side side"]


def image_bytes(source: ParticleSource) -> int:
    """Memory of one image in the precision of the files."""
    return source.geometry.box_size**2 * source.dtype.itemsize


def block_size(source: ParticleSource) -> int:
    """Images that are read together."""
    return max(1, BLOCK_BYTES // image_bytes(source))


def window_size(source: ParticleSource, batch_size: int) -> int:
    """Images of a shuffle window: whole batches."""
    return max(1, WINDOW_BYTES // image_bytes(source) // batch_size) * batch_size


@dataclass(frozen=True)
class _Plan:
    """How a window is read: rows of its batches, and places in it, piece by piece."""

    batches: list[Rows]
    rows: Rows
    pieces: tuple[Rows, ...]


class _Pieces(Dataset[Any]):
    """What a worker does.

    Bad input is returned, not raised: an exception that crosses from a worker takes its traceback
    into the message.
    """

    def __init__(self, source: ParticleSource) -> None:
        self.source = source

    def __getitem__(self, rows: Any) -> Images | InputError:
        index = torch.from_numpy(rows)
        side = self.source.geometry.box_size
        images = torch.empty(len(index), side, side, dtype=self.source.dtype)
        try:
            self.source.read_into(images, index)
            check_finite(images, index, self.source.table)
        except InputError as error:
            return error
        return images


class _Requests:
    """Rows of one piece after the other; a loader takes them as it can."""

    def __init__(self) -> None:
        self.plans: Iterable[_Plan] = ()

    def __iter__(self) -> Iterator[Any]:
        for plan in self.plans:
            for piece in plan.pieces:
                yield plan.rows[piece].numpy()  # an array: a tensor would take a shared file


class _Window:
    """Images of one window, in the order of its batches."""

    def __init__(self, plan: _Plan, memory: Images) -> None:
        self.plan = plan
        self.images = memory[: len(plan.rows)]
        self._filled = 0

    def fill(self, pieces: Iterator[Images | InputError], share: float = 1.0) -> None:
        """Take pieces until this share of them is here."""
        while self._filled < share * len(self.plan.pieces):
            piece = next(pieces)
            if isinstance(piece, InputError):
                raise piece
            self.images.numpy()[self.plan.pieces[self._filled].numpy()] = piece.numpy()
            self._filled += 1

    def batches(self, pinned: bool) -> Iterator[tuple[Rows, Images]]:
        """Rows and images of every batch; copies, since the memory is used again."""
        lengths = [len(rows) for rows in self.plan.batches]
        for rows, part in zip(self.plan.batches, self.images.split(lengths), strict=True):
            images = torch.empty(part.shape, dtype=part.dtype, pin_memory=pinned)
            yield rows, images.copy_(part)


class ImagesOnDisk:
    """Reads batches through a shuffle window; one pass at a time.

    Parameters
    ----------
    source
        The files.
    num_workers
        Processes that read; 0 reads here.
    pin_memory
        Hand out batches in page-locked memory.
    """

    def __init__(self, source: ParticleSource, num_workers: int, pin_memory: bool) -> None:
        self._source = source
        self._pinned = pin_memory
        self._requests = _Requests()
        self._memory = [torch.empty(0), torch.empty(0)]
        self._reader: DataLoader[Any] = DataLoader(
            _Pieces(source),
            batch_size=None,
            sampler=self._requests,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            # its own, or every epoch would draw a number from the one that resuming restores
            generator=torch.Generator(),
        )

    def stream(self, windows: Iterable[list[Rows]]) -> Iterator[tuple[Rows, Images]]:
        """Rows and images of all batches, window after window.

        Raises
        ------
        InputError
            If an image cannot be read or holds values that are not finite.
        """
        plans, self._requests.plans = tee(map(self._plan, windows))
        pieces = iter(self._reader)
        coming = (_Window(plan, self._room(k, plan)) for k, plan in enumerate(plans))
        window = next(coming, None)
        while window is not None:
            window.fill(pieces)
            following = next(coming, None)
            for k, batch in enumerate(window.batches(self._pinned), start=1):
                yield batch
                if following is not None:
                    following.fill(pieces, k / len(window.plan.batches))
            window = following

    def _plan(self, batches: list[Rows]) -> _Plan:
        rows = torch.cat(batches)
        places = self._source.disk_order(rows)
        return _Plan(batches, rows, places.split(block_size(self._source)))

    def _room(self, number: int, plan: _Plan) -> Images:
        """Memory for a window: that of the last but one again."""
        slot = number % 2
        if len(self._memory[slot]) < len(plan.rows):
            side = self._source.geometry.box_size
            self._memory[slot] = torch.empty(len(plan.rows), side, side, dtype=self._source.dtype)
        return self._memory[slot]
