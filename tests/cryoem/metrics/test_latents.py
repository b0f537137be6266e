import numpy as np
import pytest

from cryoem.metrics.latents import knn_accuracy, knn_r2, knn_r2_circular

RANDOM = np.random.default_rng(0)


def test_latents_that_are_a_curve_of_the_target_explain_it() -> None:
    target = RANDOM.uniform(0, 1, 2000)
    latents = np.stack([np.cos(3 * target), np.sin(3 * target), target**2], axis=1)
    assert knn_r2(latents, target) > 0.999


def test_noise_takes_its_share_of_the_explained_variance() -> None:
    # target = signal + noise of equal variance: half can be known, and the mean of k neighbours
    # carries 1/k of the noise: 1 - (1 + 1/15) / 2
    signal = RANDOM.standard_normal(4000)
    target = signal + RANDOM.standard_normal(4000)
    assert knn_r2(signal[:, None], target) == pytest.approx(1 - (1 + 1 / 15) / 2, abs=0.04)


def test_latents_that_know_nothing_score_as_the_docstring_says() -> None:
    latents = RANDOM.standard_normal((4000, 8))
    assert knn_r2(latents, RANDOM.uniform(0, 1, 4000), k=15) == pytest.approx(-1 / 15, abs=0.03)
    angles = RANDOM.uniform(-np.pi, np.pi, 4000)
    assert knn_r2_circular(latents, angles) == pytest.approx(-1 / 15, abs=0.03)
    labels = RANDOM.integers(0, 10, 4000)
    assert knn_accuracy(latents, labels) == pytest.approx(0.1, abs=0.03)


def test_an_angle_has_no_seam() -> None:
    angle = RANDOM.uniform(-np.pi, np.pi, 2000)
    latents = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert knn_r2_circular(latents, angle) > 0.999
    assert knn_r2_circular(latents, angle) > knn_r2(latents, angle)


def test_separate_clusters_are_told_apart() -> None:
    labels = RANDOM.integers(0, 4, 800)
    latents = np.eye(4)[labels] + 0.1 * RANDOM.standard_normal((800, 4))
    assert knn_accuracy(latents, labels) == 1.0
