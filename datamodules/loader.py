"""A loader that goes on where it was stopped."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

from cryoem.batch import RawBatch
from datamodules.dataset import ParticleDataset
from datamodules.order import RankBatches


@runtime_checkable
class BatchReader(Protocol):
    """Images of given batches, in order."""

    def stream(
        self, windows: Iterable[list[Int64[Tensor, "_"]]]
    ) -> Iterator[tuple[Int64[Tensor, "_"], Float[Tensor, "_ side side"]]]:
        """Rows and images of all batches, window after window."""
        ...


class ResumableLoader:
    """Batches of a dataset; its state is the epoch and how many batches were handed out in it.

    Lightning keeps the state in its checkpoints, and sets the epoch of ``sampler``. The order is a
    function of seed and epoch, so the number is all that is needed to go on exactly, whatever was
    read ahead.
    """

    def __init__(self, dataset: ParticleDataset, batches: RankBatches, reader: BatchReader) -> None:
        self.dataset = dataset
        self.batches = batches
        self.sampler = batches.order
        self._reader = reader
        self._done = 0
        self._start: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Where the current pass is."""
        return {"epoch": self.sampler.epoch, "batches": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass start there, if it is of the same epoch."""
        self._start = state

    def __iter__(self) -> Iterator[RawBatch]:
        start, self._start = self._start, {}
        self._done = start["batches"] if start.get("epoch") == self.sampler.epoch else 0
        windows = (
            [self.dataset.by_half(rows) for rows in window]
            for window in self.batches.windows(self._done)
        )
        for rows, images in self._reader.stream(windows):
            self._done += 1
            yield self.dataset.batch(rows, images)
