"""The loop of a sweep: start points, watch them, stop the hopeless, note how each ended."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryoem.errors import InputError
from cryoem.sweeps.objective import Objective
from cryoem.sweeps.points import FAILED, FINISHED, PRUNED, RUNNING, Point, Points
from cryoem.sweeps.samplers import Sampler
from cryoem.sweeps.workers import Workers

log = logging.getLogger(__name__)
_POLL_S = 1.0


@dataclass
class Sweep:
    """A sweep in its folder.

    Parameters
    ----------
    folder
        ``sweeps/NAME``.
    points
        Those begun by an earlier part of the sweep.
    sampler, objective, workers
        Which points, by what they are ranked, where they run.
    command
        Command line that trains a point.
    changed
        Called whenever a point has ended.
    """

    folder: Path
    points: Points
    sampler: Sampler
    objective: Objective
    workers: Workers
    command: Callable[[Point], list[str]]
    changed: Callable[[], None]
    _hopeless: set[int] = field(default_factory=set)
    _since: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        """Run to the end: points that were interrupted first, then new ones."""
        for point in self.points.in_state(FINISHED, PRUNED, FAILED):
            self.sampler.tell(point)
        waiting = self.points.in_state(RUNNING)
        running: list[Point] = []
        try:
            while True:
                running = [point for point in running if not self._has_ended(point)]
                while len(running) < self.workers.parallel:
                    following = waiting.pop(0) if waiting else self._new()
                    if following is None:
                        break
                    if self._start(following):
                        running.append(following)
                if not running:
                    return
                time.sleep(_POLL_S)
        finally:
            self._note_seconds(running)
            self.workers.stop_all()

    def _new(self) -> Point | None:
        number = len(self.points.all) + 1
        values = self.sampler.ask(number)
        if values is None:
            return None
        self.points.all.append(Point(number, values))
        self.points.save()
        return self.points.all[-1]

    def _start(self, point: Point) -> bool:
        """Whether it could be started."""
        try:
            command = self.command(point)
        except InputError as error:
            self._settle(point, FAILED, error=str(error))
            return False
        point.job = self.workers.start(point.name, command, point.job)
        self._since[point.number] = time.monotonic()
        self.points.save()
        log.info("%s begins: %s", point.name, _listed(point))
        return True

    def _has_ended(self, point: Point) -> bool:
        status = self.workers.status(point.name)
        so_far = self.objective.so_far(self.folder / point.name)
        is_new = point.number not in self._hopeless
        if status is None:
            if is_new and self.sampler.is_hopeless(point.number, so_far):
                self._hopeless.add(point.number)
                self.workers.stop(point.name)
            return False
        self._note_seconds([point])
        if status == 0:
            self.sampler.is_hopeless(point.number, so_far)  # what it was on the way counts as well
            self._finish(point)
        elif not is_new:
            self._settle(point, PRUNED, so_far[max(so_far)])
        else:
            words = self.workers.last_words(point.name)
            self._settle(point, FAILED, error=words or f"exit status {status}")
        return True

    def _finish(self, point: Point) -> None:
        try:
            self._settle(point, FINISHED, self.objective.of(self.folder / point.name))
        except LookupError as error:
            self._settle(point, FAILED, error=str(error.args[0]))

    def _settle(
        self, point: Point, state: str, objective: float | None = None, error: str = ""
    ) -> None:
        point.state, point.objective, point.error = state, objective, error
        self.points.save()
        self.sampler.tell(point)
        shown = error.splitlines()[0] if error else ""
        if objective is not None:
            shown = f"{self.objective.metric} {objective:.6g}"
        log.log(
            logging.WARNING if error else logging.INFO,
            "%s %s after %.0f s: %s",
            point.name, state, point.seconds, shown,
        )  # fmt: skip
        self.changed()

    def _note_seconds(self, points: list[Point]) -> None:
        now = time.monotonic()
        for point in points:
            point.seconds += now - self._since.pop(point.number, now)
        if points:
            self.points.save()


def _listed(point: Point) -> str:
    return " ".join(f"{key}={value}" for key, value in point.values.items())
