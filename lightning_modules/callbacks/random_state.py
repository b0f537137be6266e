"""Random states in the checkpoint, so that a resumed run draws the same numbers."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


class RandomState(pl.Callback):
    """Saves the states of torch, numpy and python, and restores them before the first step.

    The first rank's states are saved. The other ranks draw from streams of their own, from the
    start as after resuming: with one seed for all, their images would get the same noise.
    """

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Part the streams of the ranks."""
        if trainer.global_rank > 0:
            torch.manual_seed(
                _mixed(torch.initial_seed(), trainer.global_rank, trainer.global_step)
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore, once: here nothing but the step itself is left to draw numbers."""
        if self._saved is None:
            return
        state, self._saved = self._saved, None
        if trainer.global_rank == 0:
            restore(state)

    def state_dict(self) -> dict[str, Any]:
        """All states, as tensors and plain values."""
        return current()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until the first step."""
        self._saved = state_dict


def current() -> dict[str, Any]:
    """States of all generators in use, safe for a checkpoint."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002 (the one that others may use)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": numpy,
        "python": [version, list(words), gauss],
    }


def restore(state: dict[str, Any]) -> None:
    """Put back what :func:`current` returned; devices that are no longer there are left out."""
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda.cpu(), device)
    numpy = {**state["numpy"], "state": dict(state["numpy"]["state"])}
    numpy["state"]["key"] = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state(numpy)  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def _mixed(seed: int, rank: int, step: int) -> int:
    return (seed * 1_000_003 + rank * 8191 + step) % 2**63
