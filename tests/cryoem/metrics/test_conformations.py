import numpy as np
import pytest
import torch

from cryoem.decoders.phantom import random_phantom
from cryoem.metrics.conformations import (
    circular_correlation,
    class_latents,
    latent_scores,
    masked_curves,
    principal,
)
from cryoem.metrics.fsc import fsc
from cryoem.metrics.mask import ball_mask

N = 600


def test_the_latent_of_a_class_is_its_mean_and_a_particle_near_it() -> None:
    z = np.array([[0.0, 0.0], [1.0, 0.0], [0.4, 0.2], [9.0, 9.0], [9.0, 11.0]], dtype=np.float32)
    classes = class_latents(z, np.array([3, 3, 3, 7, 7]))
    assert classes.state.tolist() == [3, 7]
    assert classes.count.tolist() == [3, 2]
    np.testing.assert_allclose(classes.mean, [[1.4 / 3, 0.2 / 3], [9, 10]], rtol=1e-6)
    assert classes.nearest[0] == 2
    assert classes.nearest[1] in (3, 4)


def test_the_on_data_latent_of_a_ring_lies_on_the_ring() -> None:
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    z = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    classes = class_latents(z, np.zeros(50, dtype=np.int64))
    assert np.linalg.norm(classes.mean[0]) < 1e-12
    assert np.linalg.norm(z[classes.nearest[0]]) == pytest.approx(1)


def test_the_mean_of_a_volume_does_not_enter_a_masked_curve() -> None:
    density = random_phantom(20, 6.0, 1.2, 32, torch.Generator().manual_seed(0)).density()
    masks = {"none": None, "ball": ball_mask(32, 0.4, 0.6)}
    curves = masked_curves(density + 0.3, density - 0.1, masks)
    for centred, cryobench in curves.values():
        np.testing.assert_allclose(centred.correlation[1:], 1, atol=1e-5)
        np.testing.assert_allclose(cryobench.correlation, 1, atol=1e-5)


def test_masked_curves_are_those_of_the_masked_volumes() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 16, 16, 16, generator=generator)
    a, b = a - a.mean(), 0.5 * a + b - (0.5 * a + b).mean()
    mask = ball_mask(16, 0.4, 0.8)
    curves = masked_curves(a, b, {"none": None, "ball": mask})
    np.testing.assert_allclose(curves["none"].centred.correlation[1:], fsc(a, b).correlation[1:])
    expected = fsc(a, b, mask, "cryobench").correlation
    np.testing.assert_allclose(curves["ball"].cryobench.correlation, expected, atol=1e-5)
    numbers = curves["none"].numbers(2.0)
    assert numbers["auc_norm"] == pytest.approx(numbers["auc"] / (7 / 16))
    assert numbers["resolution_0.5_angstrom"] == fsc(a, b).resolution(0.5, 2.0) or np.isnan(
        numbers["resolution_0.5_angstrom"]
    )


@pytest.mark.parametrize("direction", [1, -1])
def test_circular_correlation_ignores_origins_and_tells_the_direction(direction: int) -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, N)
    other = direction * angle + 2.1
    assert circular_correlation(angle, other) == pytest.approx(direction)


def test_circular_correlation_is_the_normalised_sum_over_pairs() -> None:
    random = np.random.default_rng(1)
    a = random.uniform(0, 2 * np.pi, 40)
    b = a + random.normal(0, 0.7, 40)
    sin_a, sin_b = (np.sin(x[:, None] - x) for x in (a, b))
    norm = np.sqrt(np.square(sin_a).sum() * np.square(sin_b).sum())
    assert circular_correlation(a, b) == pytest.approx((sin_a * sin_b).sum() / norm)


def test_unrelated_angles_have_no_circular_correlation() -> None:
    a, b = np.random.default_rng(2).uniform(0, 2 * np.pi, (2, 20_000))
    assert abs(circular_correlation(a, b)) < 0.01


def test_principal_components_are_uncorrelated_and_ordered() -> None:
    random = np.random.default_rng(3)
    z = random.normal(size=(N, 3)) * [0.1, 5.0, 1.0]
    pc = principal(z)
    np.testing.assert_allclose(pc.T @ pc / N, np.eye(3), atol=1e-9)
    assert abs(np.corrcoef(pc[:, 0], z[:, 1])[0, 1]) > 0.999
    assert abs(np.corrcoef(pc[:, 2], z[:, 0])[0, 1]) > 0.99


def test_latents_that_hold_a_line_score_high_and_random_ones_by_chance() -> None:
    random = np.random.default_rng(4)
    state = random.integers(0, 10, N) * 20.0  # ten classes: ties in the truth
    z = random.normal(0, 0.02, (N, 3))
    z[:, 1] -= state / 180
    scores = latent_scores(z, state)
    assert scores["knn_r2"] > 0.97
    assert scores["spearman_pc1"] > 0.97
    # within a class the order of the truth is drawn at random, and 30 neighbours reach no further
    assert scores["neighbourhood_similarity"] > 0.4
    assert scores["imbalance_latent_to_truth"] < 0.2
    lost = latent_scores(random.normal(size=(N, 3)), state)
    assert lost["knn_r2"] == pytest.approx(-1 / 15, abs=0.06)
    assert lost["spearman_pc1"] < 0.15
    chance = lost["neighbourhood_similarity_chance"]
    assert chance == pytest.approx(30 / 599)
    assert lost["neighbourhood_similarity"] == pytest.approx(chance, abs=0.015)
    assert lost["imbalance_latent_to_truth"] == pytest.approx(1, abs=0.05)


def test_a_ring_of_latents_tells_a_circular_coordinate() -> None:
    random = np.random.default_rng(5)
    coordinate = random.uniform(0, 360, N)
    angle = np.deg2rad(-coordinate + 40)
    z = np.stack([np.cos(angle), np.sin(angle)], axis=1) + random.normal(0, 0.05, (N, 2))
    scores = latent_scores(z, coordinate, period=360.0)
    assert scores["knn_r2"] > 0.98
    assert scores["circular_correlation_pc12"] > 0.97
    # seen as a line, 0 and 360 are far apart
    assert latent_scores(z, coordinate)["knn_r2"] < scores["knn_r2"] - 0.01


def test_a_single_latent_has_no_angle() -> None:
    coordinate = np.random.default_rng(6).uniform(0, 360, N)
    scores = latent_scores(np.cos(np.deg2rad(coordinate))[:, None], coordinate, period=360.0)
    assert "circular_correlation_pc12" not in scores


@pytest.mark.parametrize("period", [None, 360.0])
def test_latents_that_have_collapsed_tell_nothing(period: float | None) -> None:
    coordinate = np.random.default_rng(7).uniform(0, 360, N)
    scores = latent_scores(np.zeros((N, 2), dtype=np.float32), coordinate, period)
    assert scores["knn_r2"] < 0.05
    assert scores.get("spearman_pc1", 0) == scores.get("circular_correlation_pc12", 0) == 0
