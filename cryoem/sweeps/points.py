"""The points of a sweep and how each of them ended, in a file that is always complete."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cryoem.errors import InputError
from cryoem.io.atomic import atomic_path
from cryoem.sweeps.space import Values

RUNNING, FINISHED, PRUNED, FAILED = "running", "finished", "pruned", "failed"


@dataclass
class Point:
    """One training.

    Attributes
    ----------
    number, values
        From 1; what it sets of the keys that the sweep varies.
    state
        ``running`` also means interrupted: who finds it goes on with it.
    objective
        The number that ranks the points; of a pruned one the last that it had.
    error
        Of a failed one, a line or two.
    seconds
        Spent on it, over all its parts.
    job
        Where a cluster knows it by a number of its own.
    """

    number: int
    values: Values
    state: str = RUNNING
    objective: float | None = None
    error: str = ""
    seconds: float = 0.0
    job: str = ""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"point_{self.number:03d}"


@dataclass
class Points:
    """All points of a sweep that were begun, in order, as in ``points.json``."""

    path: Path
    all: list[Point] = field(default_factory=list)

    def in_state(self, *states: str) -> list[Point]:
        """Those that are in one of these states."""
        return [point for point in self.all if point.state in states]

    def save(self) -> None:
        """Write the file anew."""
        with atomic_path(self.path) as temporary:
            content = [asdict(point) for point in self.all]
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def load_points(path: Path) -> Points:
    """Read the file; no points where there is none.

    Raises
    ------
    InputError
        If it is not such a file.
    """
    if not path.is_file():
        return Points(path)
    try:
        return Points(path, [Point(**entry) for entry in json.loads(path.read_text())])
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a list of points ({error}); choose another name=") from error
