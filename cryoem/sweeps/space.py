"""What a sweep varies: for each key a list of values, or an interval of numbers."""

import itertools
from dataclasses import dataclass

Values = dict[str, str]


@dataclass(frozen=True)
class Choices:
    """Some values, as one would type them."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """All numbers between two, evenly or by their logarithm; ``whole`` ones, or any."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


Space = dict[str, Choices | Interval]


def grid(space: Space) -> list[Values]:
    """Every combination, in the order of the keys.

    Raises
    ------
    ValueError
        If there is an interval.
    """
    axes = []
    for key, axis in space.items():
        if isinstance(axis, Interval):
            raise ValueError(f"{key}: a grid needs single values, not an interval")
        axes.append(axis.values)
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]


def corners(space: Space) -> list[Values]:
    """The point of all first values and that of all last ones."""
    ends = {
        key: (axis.values[0], axis.values[-1])
        if isinstance(axis, Choices)
        else (typed(axis, axis.low), typed(axis, axis.high))
        for key, axis in space.items()
    }
    return [{key: end[side] for key, end in ends.items()} for side in (0, 1)]


def typed(axis: Interval, value: float) -> str:
    """A number of an interval as one would type it, four digits."""
    return str(round(value)) if axis.whole else f"{value:.4g}"
