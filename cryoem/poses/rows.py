"""Tables with one row per particle, of which a step touches only the rows in its batch.

Poses that are refined and latents without an encoder live in such tables. They are plain tensors,
neither parameters nor buffers: an optimiser's momentum would move rows outside the batch, and
distributed training would overwrite one rank's rows with another's.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cryoem.rotations import small_rotation

Gather = Callable[[Tensor], Tensor]


class RowAdam:
    """Adam with its own moments and step count for every row (Kingma & Ba 2015, algorithm 1).

    Parameters
    ----------
    n_rows, n_columns
        Shape of the gradient of the whole table.
    lr
        Size of a step, in the units of the columns.
    """

    def __init__(
        self,
        n_rows: int,
        n_columns: int,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.state = {
            "mean": torch.zeros(n_rows, n_columns),
            "square": torch.zeros(n_rows, n_columns),
            "steps": torch.zeros(n_rows),
        }

    def step(
        self,
        index: Int64[Tensor, " batch"],
        gradient: Float[Tensor, "batch column"],
        lr_factor: float = 1.0,
    ) -> Float[Tensor, "batch column"]:
        """Take note of gradients of the given rows; returns what to add to those rows.

        A row whose gradient is not finite (overflow in half precision) stays as it is.
        """
        finite = gradient.isfinite().all(-1)
        gradient = torch.where(finite[:, None], gradient, 0.0)
        decay_1, decay_2 = self.betas
        old_mean, old_square, old_steps = (
            self.state[k][index] for k in ("mean", "square", "steps")
        )
        steps = old_steps + 1
        mean = decay_1 * old_mean + (1 - decay_1) * gradient
        square = decay_2 * old_square + (1 - decay_2) * gradient.square()
        self.state["mean"][index] = torch.where(finite[:, None], mean, old_mean)
        self.state["square"][index] = torch.where(finite[:, None], square, old_square)
        self.state["steps"][index] = torch.where(finite, steps, old_steps)
        # 1 - decay^steps, without the cancellation that float32 suffers in the first steps
        mean = mean / -torch.expm1(steps * math.log(decay_1))[:, None]
        square = square / -torch.expm1(steps * math.log(decay_2))[:, None]
        update = -self.lr * lr_factor * mean / (square.sqrt() + self.eps)
        return torch.where(finite[:, None], update, 0.0)


class RowTable(nn.Module, ABC):
    """Rows looked up by particle, learning by :class:`RowAdam` from a batch's gradient.

    ``table(index)`` returns the rows; in training mode they are attached to a leaf that collects
    the gradient, which :meth:`apply_gradients` turns into a step after ``backward``. A batch may be
    looked up in parts. No row may occur twice in it.

    Parameters
    ----------
    rows
        Start values, one row per particle; copied.
    n_columns
        Degrees of freedom of a row.
    lr
        Size of a step in the units of those.
    """

    def __init__(self, rows: Float[Tensor, "row *shape"], n_columns: int, lr: float) -> None:
        super().__init__()
        self.rows = rows.detach().clone().float()
        self.adam = RowAdam(len(rows), n_columns, lr)
        self.version = torch.zeros(len(rows))
        self._lookups: list[tuple[Tensor, Tensor]] = []  # index and leaf

    @abstractmethod
    def _attach(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return a leaf ``(batch, n_columns)`` and the rows as a differentiable function of it."""

    @abstractmethod
    def _moved(self, rows: Tensor, update: Tensor) -> Tensor:
        """Rows after a step."""

    def forward(self, index: Int64[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Look up rows, on the device of ``index``."""
        self._follow(index.device)
        rows = self.rows[index]
        if not (self.training and torch.is_grad_enabled()):
            return rows
        leaf, rows = self._attach(rows)
        self._lookups.append((index, leaf))
        return rows

    def forget_gradients(self) -> None:
        """Make no step from what was looked up so far."""
        self._lookups = []

    @torch.no_grad()
    def apply_gradients(self, loss_scale: Tensor | None = None, lr_factor: float = 1.0) -> None:
        """Step the rows that were looked up since the last time.

        Parameters
        ----------
        loss_scale
            What the loss was multiplied by before ``backward`` (a gradient scaler's, as a tensor
            on the device), so that nothing has to wait for the device.
        lr_factor
            Of the learning-rate schedule.
        """
        lookups, self._lookups = self._lookups, []
        for index, leaf in lookups:
            if leaf.grad is None:
                continue
            gradient = leaf.grad if loss_scale is None else leaf.grad / loss_scale
            update = self.adam.step(index, gradient, lr_factor)
            self.rows[index] = self._moved(self.rows[index], update)
            self.version[index] += 1

    @torch.no_grad()
    def write(self, index: Int64[Tensor, " batch"], rows: Float[Tensor, "batch *shape"]) -> None:
        """Put rows in the place of others, whose moments are forgotten."""
        self._follow(index.device)
        self.rows[index] = rows.to(self.rows.dtype)
        for value in self.adam.state.values():
            value[index] = 0
        self.version[index] += 1

    def snapshot(self) -> Float[Tensor, "row *shape"]:
        """Copy of all rows on the CPU, which later steps do not change."""
        return self.rows.to("cpu", copy=True)

    def merge(self, gather: Gather) -> None:
        """Take every row from the rank that has changed it most often.

        ``gather`` stacks a tensor of all ranks along a new first axis. Within an epoch a particle
        belongs to one rank, so merging once per epoch loses nothing.
        """
        versions = gather(self.version)
        newest = versions.argmax(0)
        every = torch.arange(len(newest), device=newest.device)
        self.rows = gather(self.rows)[newest, every]
        self.adam.state = {k: gather(v)[newest, every] for k, v in self.adam.state.items()}
        self.version = versions[newest, every]

    def get_extra_state(self) -> dict[str, Any]:
        """Rows and moments: what a checkpoint keeps."""
        return {"rows": self.rows, "version": self.version, **self.adam.state}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_extra_state` gave."""
        self.rows = state["rows"].clone()
        self.version = state["version"].clone()
        self.adam.state = {k: state[k].clone() for k in self.adam.state}

    def _follow(self, device: torch.device) -> None:
        if self.rows.device != device:
            self.rows = self.rows.to(device)
            self.version = self.version.to(device)
            self.adam.state = {k: v.to(device) for k, v in self.adam.state.items()}


class VectorRows(RowTable):
    """Rows that are plain vectors: shifts, latents."""

    def __init__(self, rows: Float[Tensor, "row column"], lr: float) -> None:
        super().__init__(rows, rows.shape[1], lr)

    def _attach(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        leaf = rows.clone().requires_grad_()
        return leaf, leaf

    def _moved(self, rows: Tensor, update: Tensor) -> Tensor:
        return rows + update


class RotationRows(RowTable):
    """Rows that are rotations; a step is a small rotation from the left, in radians."""

    def __init__(self, rows: Float[Tensor, "row 3 3"], lr: float) -> None:
        super().__init__(rows, 3, lr)

    def _attach(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        leaf = rows.new_zeros(len(rows), 3).requires_grad_()
        return leaf, small_rotation(leaf) @ rows

    def _moved(self, rows: Tensor, update: Tensor) -> Tensor:
        moved = small_rotation(update) @ rows
        # one Newton step towards the nearest rotation: rounding would add up over the epochs
        return 1.5 * moved - 0.5 * moved @ moved.mT @ moved
