"""The number that ranks the trainings of a sweep, at the end and on the way."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Objective:
    """A number of ``metrics.json``, and its column in ``metrics.csv`` (None: only at the end)."""

    metric: str
    column: str | None = None
    maximise: bool = True

    def best(self, values: list[float]) -> float:
        """The best of some."""
        return max(values) if self.maximise else min(values)

    def of(self, run: Path) -> float:
        """What a finished run has reached.

        Raises
        ------
        LookupError
            If it does not have the number, or it is not finite.
        """
        numbers = scalars(run)
        if self.metric not in numbers:
            raise LookupError(
                f"objective.metric={self.metric}: metrics.json has none. "
                f"One of: {', '.join(sorted(numbers))}"
            )
        return float(numbers[self.metric])

    def so_far(self, run: Path) -> dict[int, float]:
        """What a run has written until now, by epoch; the line being written is left for later."""
        file = run / "metrics.csv"
        if self.column is None or not file.is_file():
            return {}
        complete = file.read_text().rpartition("\n")[0].splitlines()
        found = {}
        for row in csv.DictReader(complete):
            text = row.get(self.column)
            if text and math.isfinite(float(text)):
                found[int(row["epoch"])] = float(text)
        return found


def scalars(run: Path) -> dict[str, Any]:
    """The single numbers in ``metrics.json`` of a run; none if it has not ended."""
    return {key: value for key, value in _numbers(run).items() if isinstance(value, int | float)}


def explained_up_to(run: Path) -> tuple[list[float], list[float]] | None:
    """Frequencies (1/angstrom), and nats explained of held-out images up to each; None: unknown."""
    found = _numbers(run).get("held_out/explained")
    return None if found is None else (found["up_to_per_angstrom"], found["nats"])


def _numbers(run: Path) -> dict[str, Any]:
    file = run / "metrics.json"
    return json.loads(file.read_text()) if file.is_file() else {}
