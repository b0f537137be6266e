"""A few particles that stand for all: the ones nearest to the centres of k-means."""

import numpy as np
from jaxtyping import Float, Int64
from sklearn.cluster import KMeans

from cryoem.analysis.embedding import check_finite
from cryoem.errors import InputError


def cluster_particles(
    z: Float[np.ndarray, "particle latent"], n_clusters: int, seed: int = 0
) -> tuple[Int64[np.ndarray, " cluster"], Int64[np.ndarray, " particle"]]:
    """Rows of the particles nearest to the centres of k-means, and the cluster of every particle.

    Clusters are numbered by size, the largest first. A centre itself may lie where there is no
    particle and so decode to nothing real; hence the nearest particle.

    Raises
    ------
    InputError
        If there are fewer particles than clusters, or a latent is not finite.
    """
    check_finite(z)
    if not 1 <= n_clusters <= len(z):
        raise InputError(f"k-means with {n_clusters} clusters needs 1 to {len(z)} of them")
    fit = KMeans(n_clusters, n_init=3, random_state=seed).fit(np.asarray(z, dtype=np.float64))
    order = np.argsort(-np.bincount(fit.labels_, minlength=n_clusters), kind="stable")
    rank = np.empty(n_clusters, dtype=np.int64)
    rank[order] = np.arange(n_clusters)
    labels = rank[fit.labels_]
    rows = np.array(
        [_nearest(z, labels == i, fit.cluster_centers_[order[i]]) for i in range(n_clusters)]
    )
    return rows.astype(np.int64), labels


def _nearest(z: np.ndarray, members: np.ndarray, centre: np.ndarray) -> int:
    rows = np.flatnonzero(members)
    return int(rows[np.linalg.norm(z[rows] - centre, axis=1).argmin()])
