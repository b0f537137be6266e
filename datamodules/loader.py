"""A data loader that goes on where it was stopped."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from cryoem.batch import RawBatch
from cryoem.errors import InputError
from datamodules.dataset import ParticleDataset
from datamodules.order import RankBatches


def _as_read(batch: Any) -> Any:
    return batch


class ResumableLoader(DataLoader):
    """Batches of a dataset; its state is the epoch and how many batches were handed out in it.

    Lightning keeps the state in its checkpoints. The order is a function of seed and epoch, so the
    number is all that is needed to go on exactly, whatever the workers had read ahead.
    """

    def __init__(
        self, dataset: ParticleDataset, batches: RankBatches, num_workers: int, pin_memory: bool
    ) -> None:
        self.batches = batches
        self._done = 0
        self._start: dict[str, int] = {}
        super().__init__(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=_as_read,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            # its own, or every epoch would draw a number from the one that resuming restores
            generator=torch.Generator(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the current pass is."""
        return {"epoch": self.batches.epoch, "batches": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass start there, if it is of the same epoch."""
        self._start = state

    def __iter__(self) -> Iterator[RawBatch]:  # type: ignore[override]
        start, self._start = self._start, {}
        self._done = start["batches"] if start.get("epoch") == self.batches.epoch else 0
        self.batches.skip = self._done
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                raise batch
            self._done += 1
            yield batch
