"""Whether neighbours in latent space are neighbours in truth: measures from ranks alone."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist


def neighbour_ranks(points: Float[np.ndarray, "point dim"]) -> Int[np.ndarray, "point point"]:
    """Rank of each point among the neighbours of each other (1 = nearest); 0 for itself.

    Euclidean; the memory grows with the square of the number of points, so give a few thousand.
    """
    distance = cdist(points, points)
    np.fill_diagonal(distance, -1.0)
    order = np.argsort(distance, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(points))[None].repeat(len(points), 0), axis=1)
    return ranks


def information_imbalance(
    ranks_a: Int[np.ndarray, "point point"], ranks_b: Int[np.ndarray, "point point"], k: int = 15
) -> float:
    """How much is lost when neighbours are looked up in A instead of in B.

    ``2 / (N^2 k)`` times the ranks in B of the ``k`` nearest in A, summed; averages over 1 to
    ``k``. ``(k + 1) / N`` where A knows all of B, about 1 where it knows nothing. Glielmo et al.,
    PNAS Nexus 1, pgac039 (2022).
    """
    near = (ranks_a >= 1) & (ranks_a <= k)
    return float(2 * ranks_b[near].sum() / (len(ranks_a) ** 2 * k))


def neighbourhood_similarity(
    ranks_a: Int[np.ndarray, "point point"], ranks_b: Int[np.ndarray, "point point"], k: int
) -> float:
    """Share of the ``k`` nearest in A that are among the ``k`` nearest in B, themselves left out.

    One where they agree, ``k / (N - 1)`` by chance.
    """
    shared = (ranks_a >= 1) & (ranks_a <= k) & (ranks_b >= 1) & (ranks_b <= k)
    return float(shared.sum() / (len(ranks_a) * k))
