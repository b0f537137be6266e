"""How well latents tell what is known of the particles: nearest-neighbour prediction.

What chance gives, for latents that know nothing: ``knn_r2`` and ``knn_r2_circular`` are about
``-1/k`` (the mean of ``k`` random values has ``1/k`` of their variance), ``knn_accuracy`` is near
the sum of the squared class fractions for ``k = 1``, and tends to the largest one for large ``k``.
"""

import numpy as np
from jaxtyping import Float
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

_FOLDS = KFold(n_splits=5, shuffle=True, random_state=0)


def knn_r2(
    latents: Float[np.ndarray, "particle latent"],
    target: Float[np.ndarray, "particle *column"],
    k: int = 15,
) -> float:
    """Share of the target's variance that the mean of ``k`` neighbours in latent space explains.

    Out of sample (5 folds); one for perfect, ``-1/k`` for knowing nothing. Several columns are
    added up before the ratio is taken.
    """
    columns = np.asarray(target, dtype=np.float64).reshape(len(target), -1)
    predicted = cross_val_predict(KNeighborsRegressor(k), latents, columns, cv=_FOLDS)
    residual = np.square(columns - predicted).sum()
    return float(1 - residual / np.square(columns - columns.mean(0)).sum())


def knn_r2_circular(
    latents: Float[np.ndarray, "particle latent"],
    angle_radians: Float[np.ndarray, " particle"],
    k: int = 15,
) -> float:
    """:func:`knn_r2` of the point ``(cos, sin)`` of an angle without beginning or end."""
    angle = np.asarray(angle_radians, dtype=np.float64)
    return knn_r2(latents, np.stack([np.cos(angle), np.sin(angle)], axis=1), k)


def coordinate_r2(
    latents: Float[np.ndarray, "particle latent"],
    coordinate: Float[np.ndarray, " particle"],
    period: float | None,
    k: int = 15,
) -> float:
    """:func:`knn_r2` of a coordinate, or of its point on the circle where it has a period."""
    if period is None:
        return knn_r2(latents, coordinate, k)
    return knn_r2_circular(latents, 2 * np.pi * coordinate / period, k)


def knn_accuracy(
    latents: Float[np.ndarray, "particle latent"], labels: np.ndarray, k: int = 15
) -> float:
    """Share of particles whose ``k`` neighbours in latent space vote for their label (5 folds)."""
    labels = np.asarray(labels)
    predicted = cross_val_predict(KNeighborsClassifier(k), latents, labels, cv=_FOLDS)
    return float(np.mean(predicted == labels))
