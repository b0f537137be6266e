"""Residual multilayer perceptron."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ResidualLinear(nn.Module):
    """``relu(W x + b + x)``: the skip is added before the activation, as in the paper.

    A further ``bias``, one per image, conditions the layer. ``(W + 1) x`` is one product: the skip
    costs no pass of its own through memory, neither forwards nor backwards.
    """

    skip: Float[Tensor, "width width"]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("skip", torch.eye(width), persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch width"], bias: Tensor | None = None
    ) -> Float[Tensor, "*batch width"]:
        """Apply the block."""
        return biased_relu(x, self.linear.weight + self.skip, self.linear.bias, bias)


def biased_relu(
    x: Float[Tensor, "*#batch n_in"],
    weight: Float[Tensor, "n_out n_in"],
    bias: Float[Tensor, " n_out"],
    further: Tensor | None,
) -> Float[Tensor, "*rows n_out"]:
    """``relu(W x + b + further)``; one ``x`` may serve all rows of ``further``.

    Sums are written over, because no derivative needs them.
    """
    if further is None:
        return functional.linear(x, weight, bias).relu_()
    sums = functional.linear(x, weight)
    bias = (bias + further).to(sums.dtype)
    sums = sums + bias if len(sums) < len(bias) else sums.add_(bias)
    return sums.relu_()


class ResidualMLP(nn.Sequential):
    """Linear, ReLU, ``depth`` residual blocks, linear."""

    def __init__(self, n_in: int, width: int, depth: int, n_out: int) -> None:
        blocks = [ResidualLinear(width) for _ in range(depth)]
        super().__init__(nn.Linear(n_in, width), nn.ReLU(), *blocks, nn.Linear(width, n_out))
