"""Residual multilayer perceptron."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ResidualLinear(nn.Module):
    """``relu(W x + b + x)``: the skip is added before the activation, as in the paper.

    A further ``bias``, one per image, conditions the layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "*batch width"], bias: Tensor | float = 0.0
    ) -> Float[Tensor, "*batch width"]:
        """Apply the block."""
        # no derivative needs the sums, so that they are written over: fewer passes through memory
        sums = functional.linear(x, self.linear.weight)
        sums += x
        sums += (self.linear.bias + bias).to(sums.dtype)
        return sums.relu_()


class ResidualMLP(nn.Sequential):
    """Linear, ReLU, ``depth`` residual blocks, linear."""

    def __init__(self, n_in: int, width: int, depth: int, n_out: int) -> None:
        blocks = [ResidualLinear(width) for _ in range(depth)]
        super().__init__(nn.Linear(n_in, width), nn.ReLU(), *blocks, nn.Linear(width, n_out))
