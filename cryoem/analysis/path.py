"""A way through the latents, in order: along a principal axis, or along the data themselves."""

import numpy as np
from jaxtyping import Float, Int64

from cryoem.analysis.embedding import fit_pca
from cryoem.errors import InputError

_LOW, _HIGH = 5.0, 95.0  # percentiles: the outermost particles are mostly outliers
_WINDOW = 0.06  # share of the particles that are averaged for one point of the curve
_HOLE = 0.09  # share of particles near the centre below which the plane counts as a ring


def axis_path(
    z: Float[np.ndarray, "particle latent"], axis: int, n: int
) -> Float[np.ndarray, "point latent"]:
    """``n`` points on a principal axis (from 0) through the mean, evenly spaced.

    They run from the 5th to the 95th percentile of the particles along that axis. The line leaves
    the data where these are curved; :func:`representative_latents` does not.

    Raises
    ------
    InputError
        If there are fewer axes.
    """
    pca = fit_pca(z)
    if not 0 <= axis < len(pca.axes):
        raise InputError(f"path 'pc{axis + 1}': there are {len(pca.axes)} principal components")
    low, high = np.percentile(pca.project(z)[:, axis], [_LOW, _HIGH])
    return pca.point(axis, np.linspace(low, high, n)).astype(z.dtype)


def representative_particles(
    z: Float[np.ndarray, "particle latent"], n: int = 10
) -> Int64[np.ndarray, " point"]:
    """Rows of ``n`` particles along the main variation of the latents, in order.

    Every particle gets a position on the main variation: its score on the first principal axis or,
    where the first two components form a ring or an arc with nothing in its middle, its angle. At
    ``n`` quantiles of that position, from the 5th to the 95th percentile, the latents of the
    particles near it are averaged (one step of a principal curve, Hastie and Stuetzle 1989), and
    the particle closest to the average is taken.
    """
    position = _position(np.asarray(z, dtype=np.float64))
    order = np.argsort(position, kind="stable")
    half = max(1, int(_WINDOW * len(z) / 2))
    rows = np.empty(n, dtype=np.int64)
    for i, quantile in enumerate(np.linspace(_LOW, _HIGH, n) / 100 if n > 1 else [0.5]):
        centre = round(quantile * (len(z) - 1))
        window = order[max(0, centre - half) : centre + half + 1]
        distance = np.linalg.norm(z[window] - z[window].mean(axis=0), axis=1)
        rows[i] = window[distance.argmin()]
    return rows


def representative_latents(
    z: Float[np.ndarray, "particle latent"], n: int = 10
) -> Float[np.ndarray, "point latent"]:
    """Return the latents of :func:`representative_particles`."""
    return z[representative_particles(z, n)]


def _position(z: np.ndarray) -> np.ndarray:
    pca = fit_pca(z)
    scores = pca.project(z)
    if scores.shape[1] < 2 or pca.explained_variance_ratio[1] < 0.1:
        return scores[:, 0]
    radius = np.linalg.norm(scores[:, :2] / scores[:, :2].std(axis=0), axis=1)
    # A disc has 1/8 of its points within half of the median radius, a Gaussian 0.16, a ring none.
    if np.mean(radius < 0.5 * np.median(radius)) > _HOLE:
        return scores[:, 0]
    return _angle_from_gap(np.arctan2(scores[:, 1], scores[:, 0]))


def _angle_from_gap(angle: np.ndarray) -> np.ndarray:
    """Angles counted from the emptiest direction, so that an arc is not cut in the middle."""
    bins = 36
    count, edges = np.histogram(angle, bins=bins, range=(-np.pi, np.pi))
    smooth = np.convolve(np.concatenate([count[-2:], count, count[:2]]), np.ones(5), mode="valid")
    start = edges[int(smooth.argmin())] + np.pi / bins
    return np.mod(angle - start, 2 * np.pi)
