"""Steps whose loss is not finite, or far above that of an empty volume, are not made."""

import torch
from torch import Tensor

EXPLODED = 10.0  # times the power of the images, which is the loss of an empty volume
_MEMORY = 50  # steps


class LossGuard:
    """Knows the power of images; decides on the device, so that no step waits for the host.

    Not the loss itself: without noise it falls by orders of magnitude, and comes back when a search
    looks further out.

    Attributes
    ----------
    usual
        Running mean of the power by frequency, of steps that were made; NaN before the first.
    in_a_row
        How many of the latest steps were not made.
    """

    def __init__(self) -> None:
        self.usual = torch.tensor(torch.nan)
        self.in_a_row = torch.tensor(0)

    def factor(self, loss: Tensor) -> Tensor:
        """On the loss: 1, or NaN where it exploded, which makes the gradient NaN on all ranks."""
        exploded = loss.detach() > EXPLODED * self._on(loss.device).usual
        return torch.where(exploded, torch.nan, 1.0)

    def learn(self, power: Tensor, skipped: Tensor) -> None:
        """Take note of a step and of its images."""
        usual = self._on(power.device).usual
        usual = torch.where(usual.isnan(), power, usual + (power - usual) / _MEMORY)
        self.usual = torch.where(skipped, self.usual, usual)
        self.in_a_row = torch.where(skipped, self.in_a_row + 1, 0)

    def _on(self, device: torch.device) -> "LossGuard":
        self.usual, self.in_a_row = self.usual.to(device), self.in_a_row.to(device)
        return self


def not_finite(parameters: list[torch.nn.Parameter]) -> Tensor:
    """Whether any gradient is not finite, as a scalar on the device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return ~torch.stack(torch._foreach_norm(gradients)).isfinite().all()
