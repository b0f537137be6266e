"""When poses are searched, how far out in Fourier space, and when they rest or are refined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

# Of a random start: with poses as they were drawn.
_RANDOM_FRACTION = 0.02
# Of a random start: until the radius has reached its second value, where it stays.
_MARCH_FRACTION = 0.6
# Of the epochs after the random starts: searched in turn with fixed poses, then refined.
_SEARCHED_FRACTION = 0.6


class Phase(Enum):
    """What happens to poses at a step.

    ``RANDOM``: left as they are, uniform, so that there is a volume to search under; ``START``:
    drawn from the posterior as long as there is doubt, then searched, under a volume that follows
    every step; ``SEARCH``: searched under one that is renewed a few times an epoch; ``FIXED``:
    looked up; ``REFINE``: moved to the minimum next to them, under a volume that is renewed as
    often.
    """

    RANDOM = "random"
    START = "start"
    SEARCH = "search"
    FIXED = "fixed"
    REFINE = "refine"


@dataclass(frozen=True)
class Stage:
    """What the schedule says about a step.

    Attributes
    ----------
    phase
        What happens to poses.
    radius
        Fourier radius (pixels) up to which poses are searched.
    start
        Which of the random starts; the last one's number after all of them, -1 without any.
    n_searches
        Passes of searching over all particles that were begun after the starts, with this one.
    doubt
        Share of the signal's power by which the volume is taken to be wrong.
    """

    phase: Phase
    radius: int
    start: int
    n_searches: int = 0
    doubt: float = 0.0

    @property
    def starting(self) -> bool:
        """Whether a random start is under way."""
        return self.phase in (Phase.RANDOM, Phase.START)


@dataclass(frozen=True)
class SearchSchedule:
    """Stages as a function of the step alone, so that a resumed run needs no state.

    ``restarts`` random starts of ``start_steps`` each march from the first to the second radius,
    while the doubt in the volume falls from 1 to 0. None where there is a volume to begin with.
    Then, epoch by epoch, searches up to a radius that marches to the third alternate with epochs
    of fixed poses; the last epochs refine.

    Parameters
    ----------
    radii
        Fourier radius (pixels) at the beginning of a start, at its end, and of the last searches.
    restarts, start_steps
        Number of random starts, and steps of each.
    steps_per_epoch, n_epochs
        Of the run.

    """

    radii: tuple[int, int, int]
    restarts: int
    start_steps: int
    steps_per_epoch: int
    n_epochs: int

    @classmethod
    def of_run(
        cls,
        radii: Sequence[int],
        restarts: int,
        start_images: int,
        batch_size: int,
        steps_per_epoch: int,
        n_epochs: int,
    ) -> "SearchSchedule":
        """Fit a schedule to a run: the starts together take at most half of it."""
        wanted = max(1, round(start_images / batch_size))
        most = max(1, steps_per_epoch * n_epochs // (2 * max(restarts, 1)))
        return cls(
            (radii[0], radii[1], radii[2]), restarts, min(wanted, most), steps_per_epoch, n_epochs
        )

    @property
    def first_epoch(self) -> int:
        """First epoch that begins after all starts; what is left of the one before is searched."""
        return math.ceil(self.restarts * self.start_steps / self.steps_per_epoch)

    def at(self, step: int) -> Stage:
        """Stage of a step, counted from the beginning of the run."""
        start, within = divmod(step, self.start_steps)
        if start < self.restarts:
            phase = Phase.RANDOM if within < _RANDOM_FRACTION * self.start_steps else Phase.START
            marched = min(1.0, within / (_MARCH_FRACTION * self.start_steps))
            low, high, _ = self.radii
            radius = round(low + (high - low) * marched)
            return Stage(phase, radius, start, doubt=1 - marched)
        last = self.restarts - 1
        epoch = step // self.steps_per_epoch - self.first_epoch
        if epoch < 0:
            return Stage(Phase.SEARCH, self.radii[1], last, 1)
        searched = max(1, round(_SEARCHED_FRACTION * (self.n_epochs - self.first_epoch)))
        n_searches = (min(epoch, searched - 1)) // 2 + 1
        radius = self._grown(n_searches, (searched + 1) // 2)
        if epoch >= searched:
            return Stage(Phase.REFINE, radius, last, n_searches)
        phase = Phase.FIXED if epoch % 2 else Phase.SEARCH
        return Stage(phase, radius, last, n_searches)

    def _grown(self, n: int, n_all: int) -> int:
        _, low, high = self.radii
        return round(low + (high - low) * min(1.0, 2 * n / n_all))
