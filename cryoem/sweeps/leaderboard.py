"""All points of a sweep as a table, the best first."""

from pathlib import Path

import pandas as pd

from cryoem.io.atomic import atomic_path
from cryoem.sweeps.objective import Objective, scalars
from cryoem.sweeps.points import FAILED, FINISHED, PRUNED, RUNNING, Point, Points

_ORDER = (FINISHED, PRUNED, RUNNING, FAILED)


def ranked(points: Points, objective: Objective) -> list[Point]:
    """Finished points, best first; then those that were stopped, those that run, and the failed."""
    sign = -1 if objective.maximise else 1

    def place(point: Point) -> tuple[int, float, int]:
        value = 0.0 if point.objective is None else sign * point.objective
        return _ORDER.index(point.state), value, point.number

    return sorted(points.all, key=place)


def best(points: Points, objective: Objective) -> Point | None:
    """The first of the finished points, if there is one."""
    first = ranked(points, objective)[:1]
    return first[0] if first and first[0].state == FINISHED else None


def write_leaderboard(folder: Path, points: Points, objective: Objective) -> Path:
    """Write ``leaderboard.csv``: values, how each ended, and all single numbers of its run."""
    rows = [
        {
            "point": point.name,
            "state": point.state,
            "objective": point.objective,
            **point.values,
            "seconds": round(point.seconds, 1),
            **scalars(folder / point.name),
            "error": point.error.replace("\n", " "),
        }
        for point in ranked(points, objective)
    ]
    path = folder / "leaderboard.csv"
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return path
