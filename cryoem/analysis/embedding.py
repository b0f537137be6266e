"""Principal components of the latents."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

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
    pca = PCA(svd_solver="full").fit(np.asarray(z, dtype=np.float64))
    largest = np.abs(pca.components_).argmax(axis=1)
    sign = np.sign(pca.components_[np.arange(len(largest)), largest])
    ratio = np.nan_to_num(pca.explained_variance_ratio_)  # 0/0 where all rows are equal
    return PrincipalAxes(pca.mean_, pca.components_ * sign[:, None], ratio)


def check_finite(z: Float[np.ndarray, "particle latent"]) -> None:
    """Raise :class:`InputError` if a latent is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if bad.size:
        raise InputError(
            f"latents: row {bad[0]} is not finite ({bad.size} of {len(z)} rows); "
            "the training diverged, or the file is damaged"
        )
