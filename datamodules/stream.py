"""Images from disk through a shuffle window: large sequential reads, batches from memory.

Worker processes read the images of a window in the order of the disk, a few megabytes at a time,
and the kernel puts each where its batch wants it, in memory that is shared. Batches are parts of
that memory, so that no pixel is copied. While one window is handed out the next one fills up:
two of them are held, however large the files are.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cryoem.errors import InputError
from cryoem.io.pixels import are_constant, check_finite, suspects
from cryoem.io.source import ParticleSource
from cryoem.memory import give_back_freed_memory
from datamodules.window_memory import WindowMemory

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


@dataclass(frozen=True)
class _Done:
    """Rows whose pixels were looked at, and which of them have one value everywhere."""

    examined: list[int]
    constant: list[int]


def _read_piece(
    source: ParticleSource, images: Images, place: Rows, rows: Rows, is_new: bool
) -> _Done:
    """Read rows to their places, and look at the pixels of what was not read before.

    Raises
    ------
    InputError
        If an image cannot be read or holds values that are not finite.
    """
    source.read_into(images, place, rows)
    if not is_new:
        return _Done([], [])
    wild, flat = suspects(images, place)
    check_finite(images[place[wild]], rows[wild], source.table)
    return _Done(rows.tolist(), rows[flat][are_constant(images[place[flat]])].tolist())


class _Pieces(Dataset[Any]):
    """What a worker does: put a piece of a window into the memory that is shared, and look at it.

    Bad input is returned, not raised: an exception that crosses from a worker takes its traceback
    into the message.
    """

    def __init__(self, source: ParticleSource, memory: tuple[WindowMemory, WindowMemory]) -> None:
        self.source, self.memory = source, memory

    def __getitem__(self, request: Any) -> _Done | InputError | None:
        if request is None:
            return None
        number, place, rows, is_new = request
        images = self.memory[number % 2].images
        try:
            return _read_piece(
                self.source, images, torch.from_numpy(place), torch.from_numpy(rows), is_new
            )
        except InputError as error:
            return error


class _Requests:
    """Pieces to be read, in turn, as a loader asks for them ahead of time.

    ``newest`` is the last window whose memory is free to be read into; for the next, None until
    then. Windows that are read ``elsewhere`` are left out. ``examined`` says for each row of the
    table whether its pixels were looked at.
    """

    def __init__(self, n_rows: int) -> None:
        self.windows: Iterable[_Window] = ()
        self.examined = torch.zeros(n_rows, dtype=torch.bool)
        self.newest = -1
        self.elsewhere: set[int] = set()

    def __iter__(self) -> Iterator[Any]:
        for window in self.windows:
            while window.number > self.newest:
                yield None
            if window.number in self.elsewhere:
                continue
            for place in window.pieces:  # arrays: each tensor would be sent as a shared file
                rows = window.rows[place]
                is_new = not bool(self.examined[rows].all())
                yield window.number, place.numpy(), rows.numpy(), is_new


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

    Notes
    -----
    Pixels are looked at when they are first read, not in every epoch.

    A batch stays what it is for as long as somebody holds it. Memory that is held when it is wanted
    for another window stays as it is, and that window is read here, into memory of its own: right,
    but slow, and not what a training does.
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
        self._requests = _Requests(len(source.table))
        side = source.geometry.box_size
        shape = (largest_window, side, side)
        self._memory = WindowMemory(shape, source.dtype), WindowMemory(shape, source.dtype)
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
        self._next = 0  # number of the first window of the next pass
        give_back_freed_memory()  # or workers would inherit it

    def stream(self, windows: Iterable[list[Rows]]) -> Iterator[tuple[Rows, Images]]:
        """Rows and images of all batches, window after window.

        Raises
        ------
        InputError
            If an image cannot be read or holds values that are not finite.
        """
        coming, self._requests.windows = tee(
            self._plan(number, batches) for number, batches in enumerate(windows, self._next)
        )
        self._requests.newest, self._requests.elsewhere = self._next - 1, set()
        self._advance(self._next + 1)
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
            memory = self._completed(window, pieces, n_here)
            self._next = window.number + 1
            following, n_here = next(coming, None), 0
            for k, batch in enumerate(self._batches(window, memory), start=1):
                yield batch
                if following is not None and self._advance(following.number):
                    wanted = len(following.pieces) * k // len(window.batches)
                    self._receive(pieces, wanted - n_here)
                    n_here = wanted
            window = following

    def _plan(self, number: int, batches: list[Rows]) -> _Window:
        rows = torch.cat(batches)
        pieces = self._source.disk_order(rows).split(block_size(self._source))
        return _Window(number, batches, rows, pieces)

    def _completed(self, window: _Window, pieces: Iterator[Any], n_here: int) -> WindowMemory:
        """Memory with all images of a window, of which so many pieces have come."""
        if self._advance(window.number):
            self._receive(pieces, len(window.pieces) - n_here)
            return self._memory[window.number % 2]
        self._requests.elsewhere.add(window.number)
        self._requests.newest = window.number
        own = WindowMemory(
            (len(window.rows), *self._memory[0].images.shape[1:]), self._source.dtype
        )
        for place in window.pieces:
            rows = window.rows[place]
            self._note(_read_piece(self._source, own.images, place, rows, is_new=True))
        return own

    def _advance(self, number: int) -> bool:
        """Let windows be read up to this one, as far as their memory is free."""
        requests = self._requests
        while requests.newest < number and self._memory[(requests.newest + 1) % 2].is_free():
            requests.newest += 1
        return requests.newest >= number

    def _receive(self, pieces: Iterator[_Done | InputError | None], count: int) -> None:
        """Wait until so many more pieces are in their places."""
        while count > 0:
            done = next(pieces)
            if isinstance(done, InputError):
                raise done
            if done is not None:
                self._note(done)
                count -= 1

    def _note(self, done: _Done) -> None:
        if done.examined:
            self._requests.examined[done.examined] = True
            self._constant.update(done.constant)

    def _batches(self, window: _Window, memory: WindowMemory) -> Iterator[tuple[Rows, Images]]:
        """Rows and images of every batch."""
        start = 0
        for rows in window.batches:
            images = memory.part(start, len(rows))
            yield rows, images.pin_memory() if self._pinned else images
            start += len(rows)

    def _warn(self) -> None:
        table = self._source.table
        first = int(table.row[min(self._constant)])
        log.warning(
            "%s: %d of %d images have the same value in every pixel, first that of row %d (from "
            "0); cryoem preflight --all writes a selection without them",
            table.path, len(self._constant), len(table), first,
        )  # fmt: skip
