"""Names for the tensors that cross modules."""

from typing import TypeAlias

from jaxtyping import Complex, Float
from torch import Tensor

Freqs: TypeAlias = Float[Tensor, "*batch freq 3"]
Latents: TypeAlias = Float[Tensor, "batch latent"]
Rotations: TypeAlias = Float[Tensor, "*batch 3 3"]
Shifts: TypeAlias = Float[Tensor, "*batch 2"]
Slices: TypeAlias = Complex[Tensor, "*batch freq"]
