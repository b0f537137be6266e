"""Whether particles are dark or light, decided by experiment."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.backproject import backproject
from cryoem.batch import Pose
from cryoem.io.source import ParticleSource
from cryoem.lattice import FourierLattice
from cryoem.metrics.mask import ball_mask
from cryoem.preprocess import Normalisation, Preprocess, estimate_noise


@dataclass(frozen=True)
class SignEvidence:
    """The sign of a stack and what speaks for it.

    Attributes
    ----------
    sign
        +1 for light particles, -1 for dark ones: the factor that makes the molecule positive.
    skewness
        Of the density reconstructed as if the particles were light.
    half_skewness
        The same of the two half maps.
    n_images
        How many images were used.
    """

    sign: int
    skewness: float
    half_skewness: tuple[float, float]
    n_images: int

    @property
    def certain(self) -> bool:
        """Whether both half maps, from different images, say the same as their union."""
        return all(self.sign * value > 0 for value in self.half_skewness)


def skewness(density: Float[Tensor, "side side side"]) -> float:
    """Third standardised moment inside the ball that touches the faces of the box."""
    inside = density[ball_mask(density.shape[0], 0.9, 1.0).to(density.device) > 0.5]
    centred = inside - inside.mean()
    return float(centred.pow(3).mean() / centred.square().mean().pow(1.5))


def decide_sign(
    source: ParticleSource,
    pose: Pose,
    *,
    n_images: int = 2000,
    box_size: int = 32,
    use_ctf: bool = True,
    device: torch.device | str = "cpu",
) -> SignEvidence:
    """Back-project some images coarsely: the density of a molecule in solvent is skewed upwards.

    A molecule fills little of its box, and all its density is on one side of the solvent's; noise
    and the ripples of missing low frequencies are symmetric. With the CTF undone, a negative skew
    means that the molecule is darker than its surroundings.

    Parameters
    ----------
    source
        The images.
    pose
        One per row of ``source.table``, shifts in pixels of the file's images.
    n_images
        At most so many, evenly spaced in the file.
    box_size
        Side to which the images are cropped in Fourier space.
    use_ctf
        Whether to correct for the transfer function; without it, phase flips hide the sign.
    device
        Where to compute.
    """
    n_particles = len(source.table)
    rows = torch.linspace(0, n_particles - 1, min(n_images, n_particles)).round().long()
    source_box = source.geometry.box_size
    sample = source.read(rows[:: max(1, len(rows) // 200)])
    mean, noise_std = estimate_noise(sample)
    lattice = FourierLattice(min(box_size, source_box))
    preprocess = Preprocess(source_box, lattice, Normalisation(mean, noise_std, sign=1)).to(device)
    maps = backproject(source, pose, preprocess, rows=rows, use_ctf=use_ctf)
    skew = skewness(maps.volume)
    first, second = (skewness(half) for half in maps.half_maps)
    return SignEvidence(-1 if skew < 0 else 1, skew, (first, second), len(rows))
