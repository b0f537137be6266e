"""The ground truth of a data set: volumes, their mean, and where the molecule moves."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from cryoem.simulate.motions import Motion, spread
from cryoem.simulate.parallel import in_threads
from cryoem.simulate.specimen import Specimen
from cryoem.volume import spectrum_to_volume

_MEAN_CONFORMATIONS = 32
_MASK_CONFORMATIONS = 36


def true_volumes(
    specimen: Specimen, coordinates: Float[Tensor, " state"]
) -> Iterator[Float[Tensor, "side side side"]]:
    """Density of each conformation; its projections are the images before CTF and noise."""
    yield from map(spectrum_to_volume, in_threads(specimen.spectrum, coordinates.tolist()))


def mean_volume(
    specimen: Specimen, coordinates: Float[Tensor, " image"]
) -> Float[Tensor, "side side side"]:
    """Average density over the images: what a homogeneous reconstruction can at best find.

    Exact where the images hold at most 32 distinct conformations; otherwise over 32 equally
    populated bins of the coordinate.
    """
    values, counts = torch.unique(coordinates, return_counts=True)
    if len(values) > _MEAN_CONFORMATIONS:
        ordered = coordinates.sort().values
        values = torch.stack([part.mean() for part in ordered.chunk(_MEAN_CONFORMATIONS)])
        counts = torch.ones(len(values))
    share = (counts.double() / counts.sum()).tolist()
    spectra = in_threads(specimen.spectrum, values.tolist())
    mean = sum(weight * spectrum for weight, spectrum in zip(share, spectra, strict=True))
    return spectrum_to_volume(torch.as_tensor(mean))


def moving_mask(
    motion: Motion,
    box_size: int,
    pixel_size_angstrom: float,
    resolution_angstrom: float,
) -> Float[Tensor, "side side side"]:
    """Soft mask around everywhere the moving domain goes: the local FSC is measured in it.

    One within a resolution of a bead of the domain in any conformation, and a cosine edge of three
    voxels beyond.
    """
    moving = motion.beads.domain == motion.moving_domain
    conformations = motion.conformation(spread(motion, _MASK_CONFORMATIONS))[:, moving]
    beads = cKDTree(conformations.flatten(0, 1).numpy() / pixel_size_angstrom)
    axis = np.arange(box_size) - box_size // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    inner, edge = resolution_angstrom / pixel_size_angstrom, 3.0
    distance, _ = beads.query(points, distance_upper_bound=inner + edge)
    ramp = np.clip((distance - inner) / edge, 0, 1)  # infinite beyond the bound
    mask = 0.5 * (1 + np.cos(np.pi * ramp))
    return torch.from_numpy(mask.reshape((box_size,) * 3).astype(np.float32))
