"""Principal components of the latents."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cryoem.errors import InputError


@dataclass(frozen=True)
class PrincipalAxes:
    """Mean, unit axes (one per row, by falling variance) and the share of the variance of each.

    The sign of an axis is chosen so that its largest entry is positive: the same latents give the
    same picture.
    """

    mean: Float[np.ndarray, " latent"]
    axes: Float[np.ndarray, "axis latent"]
    explained_variance_ratio: Float[np.ndarray, " axis"]

    def project(self, z: Float[np.ndarray, "row latent"]) -> Float[np.ndarray, "row axis"]:
        """Return coordinates along the axes, in the units of the latents."""
        return (z - self.mean) @ self.axes.T

    def point(self, axis: int, coordinate: Float[np.ndarray, " row"]) -> np.ndarray:
        """Return latents on one axis through the mean: ``(row, latent)``."""
        return self.mean + np.asarray(coordinate)[:, None] * self.axes[axis]


def fit_pca(z: Float[np.ndarray, "particle latent"]) -> PrincipalAxes:
    """Fit the principal axes of the rows of ``z``.

    Raises
    ------
    InputError
        If there is a number that is not finite; the first such row is named.
    """
    check_finite(z)
    mean = z.mean(axis=0, dtype=np.float64)
    variance, vectors = np.linalg.eigh((z - mean).T @ (z - mean))
    axes = vectors.T[::-1]
    largest = np.abs(axes).argmax(axis=1)
    sign = np.sign(axes[np.arange(len(axes)), largest])
    share = np.maximum(variance[::-1], 0) / max(variance.sum(), np.finfo(float).tiny)
    return PrincipalAxes(mean, axes * sign[:, None], share)


def check_finite(z: Float[np.ndarray, "particle latent"]) -> None:
    """Raise :class:`InputError` if a latent is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if bad.size:
        raise InputError(
            f"latents: row {bad[0]} is not finite ({bad.size} of {len(z)} rows); "
            "the training diverged, or the file is damaged"
        )
