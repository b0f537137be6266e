"""Optimisers and the learning-rate schedule."""

import math
from collections.abc import Iterable

from torch import Tensor, optim


def adam(params: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.0) -> optim.Optimizer:
    """Adam (AdamW if ``weight_decay``), fused: one kernel, which can leave out a step by itself."""
    if weight_decay:
        return optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=True)
    return optim.Adam(params, lr=lr, fused=True)


def warmup_cosine(step: int, total: float, warmup_fraction: float, final_fraction: float) -> float:
    """Factor on the learning rate: linear rise, then half a cosine down to ``final_fraction``.

    A function of the step and the number of steps alone, so that resuming needs no state. Constant
    after the rise where ``total`` is infinite.
    """
    if not math.isfinite(total):
        return 1.0
    warmup = warmup_fraction * total
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
