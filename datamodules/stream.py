"""Images from disk through a shuffle window: large sequential reads, batches from memory.

Worker processes read the images of a window in the order of the disk, a few megabytes at a time,
and the kernel puts each where its batch wants it, in memory that is shared. While one window is
handed out the next one fills up, so that two of them are held, however large the files are.
"""

import logging
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cryoem.errors import InputError
from cryoem.io.pixels import are_constant, check_finite
from cryoem.io.source import ParticleSource

log = logging.getLogger(__name__)
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
class _Window:
    """How window ``number`` is read: rows of its batches, and pieces of places in it."""

    number: int
    batches: list[Rows]
    rows: Rows
    pieces: tuple[Rows, ...]


class _Pieces(Dataset[Any]):
    """What a worker does: put a piece of a window into the memory that is shared.

    Bad input is returned, not raised: an exception that crosses from a worker takes its traceback
    into the message.
    """

    def __init__(self, source: ParticleSource, memory: tuple[Images, Images]) -> None:
        self.source, self.memory = source, memory

    def __getitem__(self, request: Any) -> bool | InputError:
        if request is None:
            return False
        number, place, rows = request
        try:
            self.source.read_into(
                self.memory[number % 2], torch.from_numpy(place), torch.from_numpy(rows)
            )
        except InputError as error:
            return error
        return True


class _Requests:
    """Pieces to be read, in turn, as a loader asks for them ahead of time.

    A window is not to be read while its memory holds the last but one: until then, None.
    """

    def __init__(self) -> None:
        self.windows: Iterable[_Window] = ()
        self.newest = 0

    def __iter__(self) -> Iterator[Any]:
        for window in self.windows:
            while window.number > self.newest:
                yield None
            for place in window.pieces:  # arrays: each tensor would be sent as a shared file
                yield window.number, place.numpy(), window.rows[place].numpy()


class ImagesOnDisk:
    """Reads batches through a shuffle window; one pass at a time.

    Parameters
    ----------
    source
        The files.
    largest_window
        Images of a window at most.
    num_workers
        Processes that read; 0 reads here.
    pin_memory
        Hand out batches in page-locked memory.
    constant
        Rows of images known to have the same value everywhere. Those that are found are added, and
        a warning at the end of the pass counts them.
    """

    def __init__(
        self,
        source: ParticleSource,
        largest_window: int,
        num_workers: int,
        pin_memory: bool,
        constant: set[int],
    ) -> None:
        self._source = source
        self._pinned = pin_memory
        self._constant = constant
        self._requests = _Requests()
        self._memory = (_shared(source, largest_window), _shared(source, largest_window))
        self._reader: DataLoader[Any] = DataLoader(
            _Pieces(source, self._memory),
            batch_size=None,
            sampler=self._requests,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context="fork" if num_workers > 0 else None,  # inherits the memory
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
        coming, self._requests.windows = tee(
            self._plan(number, batches) for number, batches in enumerate(windows)
        )
        self._requests.newest = 1
        known = len(self._constant)
        try:
            yield from self._passed_out(coming, iter(self._reader))
        finally:
            self._requests.windows = ()  # or it and we would hold each other, and the workers
            if len(self._constant) > known:
                self._warn()

    def _passed_out(
        self, coming: Iterator[_Window], pieces: Iterator[Any]
    ) -> Iterator[tuple[Rows, Images]]:
        window, n_here = next(coming, None), 0
        while window is not None:
            _receive(pieces, len(window.pieces) - n_here)
            following, n_here = next(coming, None), 0
            for k, batch in enumerate(self._batches(window), start=1):
                yield batch
                if following is not None:
                    wanted = len(following.pieces) * k // len(window.batches)
                    _receive(pieces, wanted - n_here)
                    n_here = wanted
            self._requests.newest = window.number + 2
            window = following

    def _plan(self, number: int, batches: list[Rows]) -> _Window:
        rows = torch.cat(batches)
        pieces = self._source.disk_order(rows).split(block_size(self._source))
        return _Window(number, batches, rows, pieces)

    def _batches(self, window: _Window) -> Iterator[tuple[Rows, Images]]:
        """Rows and images of every batch; copies, since the memory is used again."""
        images = self._memory[window.number % 2][: len(window.rows)]
        lengths = [len(rows) for rows in window.batches]
        for rows, part in zip(window.batches, images.split(lengths), strict=True):
            batch = torch.empty(part.shape, dtype=part.dtype, pin_memory=self._pinned)
            batch.copy_(part)
            check_finite(batch, rows, self._source.table)
            self._constant.update(rows[are_constant(batch)].tolist())
            yield rows, batch

    def _warn(self) -> None:
        table = self._source.table
        first = int(table.row[min(self._constant)])
        log.warning(
            "%s: %d of %d images have the same value in every pixel, first that of row %d (from "
            "0); cryoem preflight --all writes a selection without them",
            table.path, len(self._constant), len(table), first,
        )  # fmt: skip


def _receive(pieces: Iterator[bool | InputError], count: int) -> None:
    """Wait until so many more pieces are in their places."""
    while count > 0:
        done = next(pieces)
        if isinstance(done, InputError):
            raise done
        count -= done


def _shared(source: ParticleSource, n_images: int) -> Images:
    """Memory for so many images that forked processes write to; it costs nothing until then.

    Not by ``share_memory_``, whose file system is 64 MB small in many containers.
    """
    side = source.geometry.box_size
    memory = mmap.mmap(-1, n_images * image_bytes(source))
    return torch.frombuffer(memory, dtype=source.dtype).view(n_images, side, side)
