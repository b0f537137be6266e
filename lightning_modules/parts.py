"""A batch taken in parts, where all of it at once does not fit into memory or is slower."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cryoem.batch import ParticleBatch
from cryoem.errors import InputError

log = logging.getLogger(__name__)


class Parts:
    """Every n-th image makes a part, so that each has its share of both half-sets.

    Gradients of the parts add up to that of the batch: a step is the same, and takes longer.

    Attributes
    ----------
    n, now
        How many parts a batch has, and which of them is being worked on.
    """

    def __init__(self) -> None:
        self.n, self.now = 1, 0
        self._joined: dict[str, Tensor] = {}

    @property
    def is_last(self) -> bool:
        """Whether the batch is complete after the part that is being worked on."""
        return self.now == self.n - 1

    def of(self, batch: ParticleBatch) -> ParticleBatch:
        """The part of a batch that it is time for."""
        if self.n == 1:
            return batch
        part = batch[self.now :: self.n]
        if batch.split is None:
            return part
        return replace(part, split=len(range(self.now, batch.split, self.n)))

    def join(self, values: dict[str, Tensor], n_images: int) -> dict[str, Tensor]:
        """Values of the parts so far: sums, and rows where the values are of each image."""
        if self.n == 1:
            return values
        if self.now == 0:
            self._joined = {
                name: value.new_zeros((n_images, *value.shape[1:]) if value.ndim else ())
                for name, value in values.items()
            }
        for name, value in values.items():
            if value.ndim:
                self._joined[name][self.now :: self.n] = value
            else:
                self._joined[name] += value
        return dict(self._joined)

    def step(
        self,
        work: Callable[[Callable[[], Any]], None],
        closure: Callable[[], Any],
        not_yet: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Do the work of a step with the gradients of all parts.

        Parameters
        ----------
        work
            Makes the step, given what computes the gradient.
        closure
            Adds the gradient of one part.
        not_yet
            What keeps the gradients of all parts but the last from being exchanged.
        """

        def all_parts() -> Any:
            for now in range(self.n):
                self.now = now
                with nullcontext() if self.is_last else not_yet():
                    result = closure()
            return result

        work(all_parts)
        self.now = 0

    def step_that_fits(
        self, work: Callable[[Callable[[], Any]], None], closure: Callable[[], Any]
    ) -> None:
        """Do the work of a step; where memory runs out, do it again in twice as many parts.

        Raises
        ------
        InputError
            If there is not enough memory for a single image.
        """
        while not self._fits(work, closure):
            if self.n >= 1024:
                raise InputError("out of memory on the device even with parts of a batch") from None
            self.n *= 2
            torch.cuda.empty_cache()
            log.warning(
                "out of memory on the device: each batch is taken in %d parts from now on, "
                "with the same result; a smaller data.batch_size would be faster",
                self.n,
            )

    def _fits(self, work: Callable[[Callable[[], Any]], None], closure: Callable[[], Any]) -> bool:
        try:
            self.step(work, closure)
        except torch.OutOfMemoryError:
            return False
        return True
