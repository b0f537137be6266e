"""Random numbers that belong to a particle and a step, whoever draws them.

The same on one device and on many, for a batch taken at once or in parts, and for a run that goes
on: there is no state. Integers are mixed as by the hash function lowbias32 (C. Wellons, 2018), and
turned into normal deviates by the transform of Box and Muller (1958).
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def normal_noise(
    index: Int64[Tensor, " batch"], n_columns: int, seed: int, step: int
) -> Float[Tensor, "batch {n_columns}"]:
    """Standard normal numbers for each particle, on the device of ``index``."""
    first, second = _uniform_noise(index, 2 * n_columns, seed, step).unflatten(1, (-1, 2)).unbind(2)
    return (-2 * first.log()).sqrt() * torch.cos(2 * math.pi * second)


def gumbel_noise(
    index: Int64[Tensor, " batch"], n_columns: int, seed: int, step: int
) -> Float[Tensor, "batch {n_columns}"]:
    """Standard Gumbel numbers for each particle, on the device of ``index``.

    Of log weights plus such numbers the largest is a draw with these weights (Gumbel 1954).
    """
    return -(-_uniform_noise(index, n_columns, seed, step).log()).log()


def _uniform_noise(
    index: Int64[Tensor, " batch"], n_columns: int, seed: int, step: int
) -> Float[Tensor, "batch {n_columns}"]:
    columns = torch.arange(n_columns, device=index.device)
    key: int = _mixed(_mixed(seed) + step)
    rows = _mixed(_mixed(index) ^ key)[:, None]
    return _uniform(_mixed(rows + columns * _GOLDEN))


def _mixed(x: Any) -> Any:
    """An integer, or a tensor of them; products that overflow keep the bits that are wanted."""
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def _uniform(x: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Between 0 and 1, neither included; 24 bits, what float32 can hold."""
    return ((x >> 8).float() + 0.5) / 2**24
