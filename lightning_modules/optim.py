"""Optimisers and the learning-rate schedule."""

from collections.abc import Iterable

from torch import Tensor, optim


def adam(params: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.0) -> optim.Optimizer:
    """Adam (AdamW if ``weight_decay``), fused where the parameters are on a CUDA device."""
    raise NotImplementedError
