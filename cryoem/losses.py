"""What a prediction is compared by."""

from jaxtyping import Complex, Float
from torch import Tensor


def squared_error(
    predicted: Complex[Tensor, "batch freq"], observed: Complex[Tensor, "batch freq"]
) -> Float[Tensor, " batch"]:
    """Sum of ``|predicted - observed|^2`` over the half-disc of each image, in nats.

    The noise of a complex coefficient has unit variance, half in each part, so this is the negative
    log likelihood up to a constant; it is ``n_freqs`` on average where the prediction is right.
    """
    difference = predicted - observed
    return (difference.real.square() + difference.imag.square()).sum(-1)
