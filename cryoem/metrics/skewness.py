"""How lopsided a density is: a molecule in solvent has a tail on the side of the molecule."""

from jaxtyping import Float
from torch import Tensor

from cryoem.metrics.mask import ball_mask


def skewness(density: Float[Tensor, "side side side"]) -> float:
    """Third standardised moment inside the ball that touches the faces of the box."""
    inside = density[ball_mask(density.shape[0], 0.9, 1.0).to(density.device) > 0.5]
    centred = inside - inside.mean()
    return float(centred.pow(3).mean() / centred.square().mean().pow(1.5))
