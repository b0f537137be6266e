"""What one does to a finished map: the other hand, a low-pass filter."""

import numpy as np
from jaxtyping import Float


def other_hand(volume: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Mirror in the plane through the centre voxel ``D // 2``, perpendicular to z.

    The flip alone would move the centre of an even box by a voxel.
    """
    flipped = volume[::-1]
    return np.ascontiguousarray(np.roll(flipped, 1, axis=0) if len(volume) % 2 == 0 else flipped)


def low_pass(
    volume: Float[np.ndarray, "z y x"], resolution: float, voxel_size: float
) -> Float[np.ndarray, "z y x"]:
    """Remove what is finer than ``resolution`` (angstrom), with a raised-cosine edge.

    The filter is 1 up to ``1 / resolution`` and 0 from two shells beyond.
    """
    side = len(volume)
    full, half = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    radius = np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)  # cycles/voxel
    edge = np.clip((radius - voxel_size / resolution) * side / 2, 0, 1)
    spectrum = np.fft.rfftn(volume) * (0.5 + 0.5 * np.cos(np.pi * edge))
    return np.fft.irfftn(spectrum, s=volume.shape, axes=(0, 1, 2)).astype(volume.dtype)
