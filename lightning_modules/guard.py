"""Steps whose loss is not finite, or far above the usual, are not made."""

import torch
from torch import Tensor

EXPLODED = 10.0  # times the usual loss
_MEMORY = 50  # steps


class LossGuard:
    """Knows the usual loss; decides on the device, so that no step waits for the host.

    Attributes
    ----------
    usual
        Running mean of the losses of steps that were made; NaN before the first.
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

    def learn(self, loss: Tensor, skipped: Tensor) -> None:
        """Take note of a step."""
        usual = self._on(loss.device).usual
        usual = torch.where(usual.isnan(), loss, usual + (loss - usual) / _MEMORY)
        self.usual = torch.where(skipped, self.usual, usual)
        self.in_a_row = torch.where(skipped, self.in_a_row + 1, 0)

    def _on(self, device: torch.device) -> "LossGuard":
        self.usual, self.in_a_row = self.usual.to(device), self.in_a_row.to(device)
        return self


def not_finite(parameters: list[torch.nn.Parameter]) -> Tensor:
    """Whether any gradient is not finite, as a scalar on the device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return ~torch.stack(torch._foreach_norm(gradients)).isfinite().all()
