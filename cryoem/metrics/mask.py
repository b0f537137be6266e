"""Soft real-space masks: a ball, and the outline of a density."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor


class Outline(NamedTuple):
    """How far a mask reaches beyond the density, and over what distance it falls off."""

    dilate_angstrom: float
    edge_angstrom: float


LOOSE = Outline(25.0, 15.0)
TIGHT = Outline(6.0, 6.0)


def ball_mask(
    box_size: int, inner: float = 0.85, outer: float = 0.99
) -> Float[Tensor, "side side side"]:
    """One within ``inner``, zero beyond ``outer`` (half sides), a raised cosine in between.

    The default is the window of :class:`cryoem.preprocess.Preprocess` in three dimensions.
    """
    axis = (torch.arange(box_size) - box_size // 2) / (box_size / 2)
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    edge = ((radius - inner) / (outer - inner)).clamp(0, 1)
    return 0.5 * (1 + torch.cos(torch.pi * edge))


def outline_mask(
    volume: Float[Tensor, "z y x"], voxel_size: float, outline: Outline
) -> Float[Tensor, "z y x"]:
    """Follow the outline of a density, softly.

    Voxels above half the 99.99th percentile are dilated by ``dilate_angstrom``; beyond, at a
    distance ``d``, the mask is ``cos(pi d / 2w)`` with ``w = edge_angstrom``. The parameters
    :data:`LOOSE` and :data:`TIGHT` are those of cryoDRGN's FSC tables.

    Parameters
    ----------
    volume
        Light density (positive where the molecule is).
    voxel_size
        In angstrom.
    outline
        Reach and fall-off.
    """
    density = volume.detach().cpu().numpy()
    solid = density > np.percentile(density, 99.99) / 2
    if not solid.any():
        raise ValueError("no voxel is above half the 99.99th percentile: the density is not light")
    distance = ndimage.distance_transform_edt(~solid, sampling=voxel_size)
    beyond = np.clip((distance - outline.dilate_angstrom) / outline.edge_angstrom, 0, 1)
    mask = np.cos(np.pi / 2 * beyond)
    return torch.from_numpy(mask).to(volume)


def soft_mask(volume: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
    """Follow the outline of a map without noise, such as a ground truth; lengths in voxels.

    Where the map, blurred by one voxel, is above 5 % of its maximum, dilated by 3 voxels, with a
    raised cosine over the next 5.
    """
    blurred = ndimage.gaussian_filter(volume.detach().cpu().numpy(), 1.0)
    solid = ndimage.binary_dilation(blurred > 0.05 * blurred.max(), iterations=3)
    distance = ndimage.distance_transform_edt(~solid)
    mask = 0.5 * (1 + np.cos(np.pi * np.clip(distance / 5, 0, 1)))
    return torch.from_numpy(mask).to(volume)
