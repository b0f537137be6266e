import numpy as np
import pytest

from cryoem.analysis.clusters import cluster_particles
from cryoem.analysis.embedding import fit_pca
from cryoem.analysis.path import axis_path, representative_latents, representative_particles
from cryoem.errors import InputError


def line(n: int = 1000, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return latents along a known direction in five dimensions, and how far along each is."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, n)
    direction = np.array([1.0, -2, 0, 2, 0]) / 3
    return t[:, None] * direction + rng.normal(0, noise, (n, 5)), t


def arc(extent: float, n: int = 2000, noise: float = 0.04) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, extent, n)
    plane = np.stack([np.cos(angle + 1), np.sin(angle + 1), np.zeros(n)], axis=1)
    return plane + rng.normal(0, noise, (n, 3)), angle


def test_principal_axes_are_the_eigenvectors_of_the_covariance():
    z = np.random.default_rng(0).normal(size=(400, 3)) @ np.diag([1.0, 3, 2])
    values, vectors = np.linalg.eigh(np.cov(z.T))
    pca = fit_pca(z)
    np.testing.assert_allclose(np.abs((pca.axes @ vectors[:, ::-1]).diagonal()), 1, atol=1e-10)
    np.testing.assert_allclose(pca.explained_variance_ratio, values[::-1] / values.sum())
    np.testing.assert_allclose(pca.project(z).var(axis=0, ddof=1), values[::-1])


def test_latents_that_are_all_the_same_have_no_variance_to_explain():
    pca = fit_pca(np.ones((10, 3)))
    np.testing.assert_array_equal(pca.explained_variance_ratio, 0)
    np.testing.assert_array_equal(representative_latents(np.ones((10, 3)), 4), np.ones((4, 3)))


def test_a_diverged_latent_is_named():
    z = np.ones((10, 3))
    z[7, 1] = np.nan
    with pytest.raises(InputError, match="row 7 is not finite"):
        fit_pca(z)


def test_an_axis_is_walked_from_the_fifth_to_the_ninety_fifth_percentile():
    z, _ = line()
    path = axis_path(z, 0, 5)
    pca = fit_pca(z)
    expected = np.linspace(*np.percentile(pca.project(z)[:, 0], [5, 95]), 5)
    np.testing.assert_allclose(pca.project(path)[:, 0], expected)
    np.testing.assert_allclose(pca.project(path)[:, 1:], 0, atol=1e-12)


def test_representatives_of_a_line_are_particles_in_order():
    z, t = line()
    rows = representative_particles(z, 10)
    steps = np.diff(t[rows])
    assert (steps > 0).all() or (steps < 0).all()
    assert abs(t[rows[0]] - t[rows[-1]]) == pytest.approx(1.8, abs=0.2)
    np.testing.assert_array_equal(representative_latents(z, 10), z[rows])


def test_representatives_lie_in_the_middle_of_the_data_and_not_at_its_rim():
    z, _ = line(noise=0.1)
    away = np.linalg.norm(fit_pca(z).project(z)[:, 1:], axis=1)
    assert away[representative_particles(z, 10)].max() < np.median(away)


@pytest.mark.parametrize("extent", [np.pi, 1.5 * np.pi])
def test_an_arc_is_followed_from_end_to_end(extent):
    z, angle = arc(extent)
    chosen = angle[representative_particles(z, 10)]
    steps = np.diff(chosen)
    assert (steps > 0).all() or (steps < 0).all()
    assert abs(chosen[-1] - chosen[0]) == pytest.approx(0.9 * extent, rel=0.07)


def test_a_ring_is_followed_once_around():
    z, angle = arc(2 * np.pi)
    steps = np.diff(np.unwrap(angle[representative_particles(z, 10)]))
    assert (steps > 0).all() or (steps < 0).all()
    np.testing.assert_allclose(np.abs(steps), 0.9 * 2 * np.pi / 9, rtol=0.35)


def test_a_featureless_cloud_is_walked_along_its_first_axis():
    z = np.random.default_rng(0).normal(size=(3000, 3)) * [2, 1.5, 1]
    scores = fit_pca(z).project(representative_latents(z, 8))[:, 0]
    assert (np.diff(scores) > 0).all()


def test_one_latent_dimension_is_a_path_already():
    z = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    path = representative_latents(z, 6)[:, 0]
    assert (np.diff(path) > 0).all() or (np.diff(path) < 0).all()
    assert path.dtype == np.float32


@pytest.mark.parametrize("n_particles", [1, 2, 5])
def test_few_particles_are_taken_more_than_once(n_particles):
    z = np.random.default_rng(0).normal(size=(n_particles, 4))
    assert representative_latents(z, 10).shape == (10, 4)


def test_clusters_find_the_states_and_are_numbered_by_size():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [5, 0], [0, 5]])
    sizes = [50, 200, 100]
    z = np.repeat(centres, sizes, axis=0) + rng.normal(0, 0.3, (350, 2))
    rows, labels = cluster_particles(z, 3)
    np.testing.assert_array_equal(np.bincount(labels), [200, 100, 50])
    np.testing.assert_allclose(z[rows], centres[[1, 2, 0]], atol=0.2)
    np.testing.assert_array_equal(labels[rows], [0, 1, 2])


def test_more_clusters_than_particles_are_refused():
    with pytest.raises(InputError, match="11 clusters"):
        cluster_particles(np.zeros((10, 2)), 11)
