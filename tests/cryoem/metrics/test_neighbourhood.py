import numpy as np
import pytest

from cryoem.metrics.neighbourhood import (
    information_imbalance,
    neighbour_ranks,
    neighbourhood_similarity,
)

N, K = 300, 15


@pytest.fixture
def ranks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a line, of another that knows nothing of it, and of the plane that they span."""
    random = np.random.default_rng(0)
    a, b = random.uniform(size=(2, N, 1))
    return neighbour_ranks(a), neighbour_ranks(b), neighbour_ranks(np.concatenate([a, b], axis=1))


def test_ranks_count_from_the_nearest() -> None:
    ranks = neighbour_ranks(np.array([[0.0], [1.0], [3.0], [-7.0]]))
    assert ranks.tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [1, 2, 3, 0]]


def test_a_space_knows_itself(ranks: tuple[np.ndarray, ...]) -> None:
    assert information_imbalance(ranks[0], ranks[0], K) == pytest.approx((K + 1) / N)
    assert neighbourhood_similarity(ranks[0], ranks[0], K) == 1


def test_unrelated_spaces_know_nothing_of_each_other(ranks: tuple[np.ndarray, ...]) -> None:
    assert information_imbalance(ranks[0], ranks[1], K) == pytest.approx(1, abs=0.03)
    assert neighbourhood_similarity(ranks[0], ranks[1], K) == pytest.approx(K / (N - 1), abs=0.01)


def test_a_plane_knows_a_line_better_than_the_line_the_plane(
    ranks: tuple[np.ndarray, ...],
) -> None:
    line, _, plane = ranks
    assert information_imbalance(plane, line, K) < 0.3
    assert information_imbalance(line, plane, K) > 0.5
