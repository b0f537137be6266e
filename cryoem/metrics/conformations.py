"""Heterogeneity against the truth: volumes of each conformation, and the order of the latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.stats import spearmanr
from torch import Tensor

from cryoem.metrics.fsc import FSCCurve, Shells, correlate_spectra
from cryoem.metrics.latents import coordinate_r2
from cryoem.metrics.neighbourhood import (
    information_imbalance,
    neighbour_ranks,
    neighbourhood_similarity,
)

_RANKED = 2000
_NEIGHBOURS = 15
_SIMILAR_SHARE = 0.05


@dataclass(frozen=True)
class ClassLatents:
    """One latent for each true conformation that occurs.

    ``mean`` is that of its particles, ``nearest`` the particle (row) of the class whose latent lies
    nearest to it, as in CryoBench: a mean of a curved set of latents need not lie on it.
    """

    state: Int64[np.ndarray, " state"]
    count: Int64[np.ndarray, " state"]
    mean: Float[np.ndarray, "state latent"]
    nearest: Int64[np.ndarray, " state"]


class Correlation(NamedTuple):
    """One FSC in our shells, and in those of CryoBench's publications."""

    centred: FSCCurve
    cryobench: FSCCurve

    def numbers(self, voxel_size: float) -> dict[str, float]:
        """Averages, areas in cycles per voxel (and as a share of the largest), and resolution.

        The resolution, in angstrom, is NaN if there is none, and that of Nyquist if the curve stays
        above 0.5.
        """
        return {
            "mean_fsc": self.centred.mean(),
            "auc": self.centred.auc(),
            "auc_norm": self.centred.auc_norm(),
            "auc_cryobench": self.cryobench.auc(),
            "resolution_0.5_angstrom": self.centred.resolution(0.5, voxel_size),
        }


def class_latents(
    z: Float[np.ndarray, "particle latent"], state: Int64[np.ndarray, " particle"]
) -> ClassLatents:
    """Mean latent of each class, and the particle of the class nearest to it."""
    states, counts = np.unique(state, return_counts=True)
    means, nearest = [], []
    for number in states:
        rows = np.flatnonzero(state == number)
        mean = z[rows].mean(0)
        means.append(mean)
        nearest.append(rows[np.square(z[rows] - mean).sum(1).argmin()])
    return ClassLatents(states, counts, np.stack(means), np.array(nearest, dtype=np.int64))


def masked_curves(
    volume: Float[Tensor, "z y x"],
    truth: Float[Tensor, "z y x"],
    masks: Mapping[str, Float[Tensor, "z y x"] | None],
) -> dict[str, Correlation]:
    """FSC against the truth under each mask, both volumes without their mean.

    No image tells the mean of a volume; left in, it would leak through a mask into the first
    shells.
    """
    a, b = volume - volume.mean(), truth - truth.mean()
    curves = {}
    for name, mask in masks.items():
        spectra = [torch.fft.rfftn(map_ if mask is None else map_ * mask) for map_ in (a, b)]
        if mask is None:
            for spectrum in spectra:
                spectrum[0, 0, 0] = 0  # not rounding, which CryoBench's shells would correlate
        centred, cryobench = (
            correlate_spectra(spectra[0], spectra[1], shells) for shells in get_args(Shells)
        )
        curves[name] = Correlation(centred, cryobench)
    return curves


def latent_scores(
    z: Float[np.ndarray, "particle latent"],
    coordinate: Float[np.ndarray, " particle"],
    period: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """How well latents tell a known coordinate.

    Parameters
    ----------
    z
        One row per particle.
    coordinate
        Any unit. Not all the same.
    period
        Its length where it is a circle.
    seed
        Of the 2000 particles that ranks are taken from, and of the jitter of equal coordinates.

    Returns
    -------
    dict
        ``knn_r2`` (1 is perfect, -1/15 chance); ``spearman_pc1``, without its sign, or for a circle
        ``circular_correlation_pc12``; ``neighbourhood_similarity`` among the nearest 5 %, with
        ``neighbourhood_similarity_chance``; ``imbalance_truth_to_latent`` (what the latent says
        beyond the coordinate) and ``imbalance_latent_to_truth`` (what of it is lost).
    """
    scores = {"knn_r2": coordinate_r2(z, coordinate, period, _NEIGHBOURS)}
    if period is None:
        scores["spearman_pc1"] = _spearman(principal(z)[:, 0], coordinate)
    elif z.shape[1] > 1:
        pc, angle = principal(z), 2 * np.pi * coordinate / period
        found = np.arctan2(pc[:, 1], pc[:, 0])
        scores["circular_correlation_pc12"] = abs(circular_correlation(found, angle))
    return scores | _rank_scores(z, coordinate, period, seed)


def principal(z: Float[np.ndarray, "particle latent"]) -> Float[np.ndarray, "particle latent"]:
    """Principal components of latents, largest first, of unit variance where there is any."""
    centred = z.astype(np.float64) - z.mean(0, dtype=np.float64)
    power, axes = np.linalg.eigh(centred.T @ centred / len(z))
    power, axes = power[::-1], axes[:, ::-1]
    return centred @ axes / np.sqrt(np.maximum(power, 1e-12 * power[0] + 1e-300))


def circular_correlation(
    a: Float[np.ndarray, " particle"], b: Float[np.ndarray, " particle"]
) -> float:
    """Correlation of two angles (radians), whatever the origin of each; negative if they run apart.

    The sum over all pairs of ``sin(a_i - a_j) sin(b_i - b_j)``, normalised to [-1, 1]; Fisher &
    Lee, Biometrika 70, 327 (1983), eq. 2.2, in its form without the pairs.
    """

    def moments(angle: np.ndarray) -> complex:
        return complex(np.exp(1j * angle).mean())

    difference, total = moments(a - b), moments(a + b)
    spread_a, spread_b = (1 - abs(moments(2 * angle)) ** 2 for angle in (a, b))
    spread = np.sqrt(max(spread_a * spread_b, 0.0))
    return float((abs(difference) ** 2 - abs(total) ** 2) / spread) if spread > 0 else 0.0


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0:  # latents that have collapsed to a point order nothing
        return 0.0
    return abs(float(spearmanr(a, b).statistic))


def _rank_scores(
    z: np.ndarray, coordinate: np.ndarray, period: float | None, seed: int
) -> dict[str, float]:
    random = np.random.default_rng(seed)
    rows = random.permutation(len(z))[:_RANKED]
    known = _without_ties(coordinate[rows].astype(np.float64), random)
    if period is None:
        points = known[:, None]
    else:
        angle = 2 * np.pi * known / period
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    of_latent, of_truth = neighbour_ranks(z[rows]), neighbour_ranks(points)
    k, n = max(1, round(_SIMILAR_SHARE * len(rows))), len(rows)
    return {
        "neighbourhood_similarity": neighbourhood_similarity(of_latent, of_truth, k),
        "neighbourhood_similarity_chance": k / (n - 1),
        "imbalance_truth_to_latent": information_imbalance(of_truth, of_latent, _NEIGHBOURS),
        "imbalance_latent_to_truth": information_imbalance(of_latent, of_truth, _NEIGHBOURS),
    }


def _without_ties(coordinate: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Scatter equal coordinates by a quarter of their spacing: ranks among equals mean nothing."""
    values = np.unique(coordinate)
    if len(values) == len(coordinate) or len(values) == 1:
        return coordinate
    return coordinate + random.normal(0, np.diff(values).min() / 4, len(coordinate))
