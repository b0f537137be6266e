"""Which of the varied keys the objective depends on."""

from collections.abc import Sequence

import numpy as np

from cryoem.sweeps.points import Point
from cryoem.sweeps.space import Choices, Space

_FEWEST = 6  # points; fewer say nothing
_TREES, _REPEATS = 200, 20


def importances(space: Space, points: Sequence[Point]) -> dict[str, float]:
    """Share of each key in what a random forest knows of the objective, largest first.

    How much worse the forest's prediction gets when the values of one key are shuffled (Breiman,
    Mach. Learn. 45, 2001). A small sweep allows no more than a rough order. Empty for fewer than
    six points, or if all are equally good.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    keys = [key for key in space if len({point.values[key] for point in points}) > 1]
    target = np.array([point.objective for point in points], dtype=float)
    if len(points) < _FEWEST or not keys or np.ptp(target) == 0:
        return {}
    table = np.array([[_number(space, key, p.values[key]) for key in keys] for p in points])
    forest = RandomForestRegressor(_TREES, random_state=0).fit(table, target)
    found = permutation_importance(forest, table, target, n_repeats=_REPEATS, random_state=0)
    share = found["importances_mean"].clip(min=0)
    share = share / max(share.sum(), 1e-12)
    return dict(sorted(zip(keys, share.tolist(), strict=True), key=lambda item: -item[1]))


def _number(space: Space, key: str, value: str) -> float:
    """A value as a number; the place in the list where it is none."""
    try:
        return float(value)
    except ValueError:
        axis = space[key]
        assert isinstance(axis, Choices)
        return float(axis.values.index(value))
