"""What many trainings say together: values against the objective, importance, course."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoem.figures.style import COLOURS, VALUES, new_figure, styled

_STOPPED = "#b8bec5"
_APART = 0.06  # of an axis; values that are closer have no ticks of their own
_LOGARITHMIC = 8  # largest over smallest value, from here on
_JITTER = 0.03


@styled
def parallel_coordinates(
    table: Mapping[str, Sequence[str]], objective: Sequence[float], label: str, maximise: bool
) -> Figure:
    """Draw a line for each training through its values, coloured by its objective.

    Parameters
    ----------
    table
        For each key the values, one per training, as they were typed.
    objective, label, maximise
        The number that ranks them, its name, and whether more is better.
    """
    n = len(table)
    figure = new_figure(max(6.5, 1.7 * (n + 1)), 4.0)
    axes = figure.subplots()
    heights = [_heights(values) for values in table.values()]
    columns = [height for height, _ in heights]
    values = np.asarray(objective, dtype=float)
    low, high = float(values.min()), float(values.max())
    columns.append((values - low) / max(high - low, 1e-12))
    columns = [column if maximise or i < n else 1 - column for i, column in enumerate(columns)]
    # trainings that share values would hide each other
    spread = np.random.default_rng(0).uniform(-_JITTER, _JITTER, (n, len(values)))
    places = np.array([c + (spread[i] if i < n else 0) for i, c in enumerate(columns)])
    norm = Normalize(low, high)
    order = np.argsort(values if maximise else -values)
    for row in order:
        x, y = _smooth(places[:, row])
        is_best = row == order[-1]
        colour = colormaps[VALUES if maximise else f"{VALUES}_r"](norm(values[row]))
        axes.plot(x, y, color=colour, lw=3.2 if is_best else 1.3, alpha=1 if is_best else 0.75)
    for i, (key, (_, ticks)) in enumerate(zip(table, heights, strict=True)):
        _axis(axes, i, key, ticks)
    ends = ((low, high) if maximise else (high, low)) if high > low else (low,)
    _axis(axes, n, label, {f"{end:.5g}": float(i) for i, end in enumerate(ends)})
    axes.set_xlim(-0.4, n + 0.6)
    axes.set_ylim(-0.12, 1.12)
    axes.set_axis_off()
    return figure


@styled
def importance_bars(importance: Mapping[str, float]) -> Figure:
    """Draw what share of the differences each key explains."""
    figure = new_figure(6.5, 0.8 + 0.42 * len(importance))
    axes = figure.subplots()
    names, shares = list(importance)[::-1], list(importance.values())[::-1]
    bars = axes.barh(names, shares, color=COLOURS[0], height=0.6)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=4)
    axes.set_xlim(0, 1.12 * max(shares))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure


@styled
def sweep_curves(
    curves: Mapping[str, Mapping[int, float]], stopped: Sequence[str], best: str | None, label: str
) -> Figure:
    """Draw the objective of each training over its epochs.

    Parameters
    ----------
    curves
        Values by epoch, for each training.
    stopped, best
        Those that did not run to their end, in grey; and the one to bring out.
    label
        Of the objective.
    """
    figure = new_figure(7.5, 3.6)
    axes = figure.subplots()
    for name, curve in curves.items():
        colour = _STOPPED if name in stopped else COLOURS[0]
        style: dict[str, Any] = {"color": colour, "lw": 1.2, "alpha": 0.8, "marker": "o", "ms": 2.5}
        if name == best:
            style |= {"color": COLOURS[1], "lw": 2.4, "alpha": 1.0, "zorder": 5}
        axes.plot([epoch + 1 for epoch in curve], list(curve.values()), **style)
        if name in stopped:
            axes.plot(max(curve) + 1, curve[max(curve)], "x", color="#555555", ms=6)
    last = [value for curve in curves.values() for value in list(curve.values())[-1:]]
    every = [value for curve in curves.values() for value in curve.values()]
    # a first epoch far off would press everything else flat
    axes.set_ylim(*_limits(every, last))
    _name_best(axes, len(curves))
    if stopped:
        axes.plot([], [], color=_STOPPED, marker="x", mec="#555555", label="stopped")
    axes.legend()
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_ylabel(label)
    axes.grid(alpha=0.25, lw=0.6)
    return figure


@styled
def sweep_frequencies(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], best: str | None
) -> Figure:
    """Draw what each training explains of held-out images up to each frequency.

    Parameters
    ----------
    curves
        Frequencies (1/angstrom) and nats, for each training.
    best
        The one to bring out.
    """
    figure = new_figure(7.5, 3.6)
    axes = figure.subplots()
    for name, (frequency, nats) in curves.items():
        style: dict[str, Any] = {"color": COLOURS[0], "lw": 1.2, "alpha": 0.8}
        if name == best:
            style = {"color": COLOURS[1], "lw": 2.4, "zorder": 5}
        axes.plot([0, *frequency], [0, *nats], **style)
    _name_best(axes, len(curves))
    axes.legend(loc="lower right")
    axes.set_xlabel("frequencies up to (1/Å)")
    axes.set_ylabel("explained of a held-out image (nats)")
    ends = [nats[-1] for _, nats in curves.values()]
    axes.set_ylim(bottom=max(axes.get_ylim()[0], min(0.0, min(ends)) - 0.1 * max(ends)))
    axes.grid(alpha=0.25, lw=0.6)
    return figure


def _name_best(axes: Axes, n: int) -> None:
    """Put the best of ``n`` into the legend, and the others if there are any."""
    axes.plot([], [], color=COLOURS[1], lw=2.4, label="best")
    if n > 1:
        axes.plot([], [], color=COLOURS[0], label="others")


def _limits(every: Sequence[float], last: Sequence[float]) -> tuple[float, float]:
    reach = max(max(last) - min(last), 0.05 * abs(max(last)), 1e-9)
    low = max(min(every), min(last) - 2 * reach)
    high = min(max(every), max(last) + 2 * reach)
    margin = 0.05 * max(high - low, 1e-9)
    return low - margin, high + margin


def _heights(values: Sequence[str]) -> tuple[np.ndarray, dict[str, float]]:
    """Where values stand between 0 and 1, and what to write there."""
    names = list(dict.fromkeys(values))
    if len(names) == 1:
        return _evenly(values, names)
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return _evenly(values, names)
    low, high = float(numbers.min()), float(numbers.max())
    ratio = high / low if low > 0 else 1.0
    if ratio >= _LOGARITHMIC:
        height = np.log(numbers / low) / math.log(ratio)
        ends = {f"{low * ratio**s:.2g}": s for s in (0.0, 0.5, 1.0)}
    else:
        height = (numbers - low) / (high - low)
        ends = {f"{low + s * (high - low):.3g}": s for s in (0.0, 0.5, 1.0)}
    each = dict(zip(values, height.tolist(), strict=True))
    apart = np.diff(np.sort(list(each.values()))).min() >= _APART
    return height, each if apart else ends


def _evenly(values: Sequence[str], names: list[str]) -> tuple[np.ndarray, dict[str, float]]:
    n = len(names)
    place = {name: (i / (n - 1) if n > 1 else 0.5) for i, name in enumerate(names)}
    return np.array([place[value] for value in values]), place


def _smooth(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve through the heights that is level at each axis, so that crossings can be followed."""
    t = np.linspace(0, 1, 25)
    step = t * t * (3 - 2 * t)
    pairs = itertools.pairwise(heights)
    x = np.concatenate([i + t for i in range(len(heights) - 1)])
    return x, np.concatenate([a + (b - a) * step for a, b in pairs])


def _axis(axes: Axes, x: int, title: str, ticks: Mapping[str, float]) -> None:
    axes.plot([x, x], [-0.05, 1.05], color="#444444", lw=1.0, zorder=6)
    axes.text(x, 1.1, title.replace("/", "/\n", 1), ha="center", va="bottom", fontsize=9)
    box = {"facecolor": "white", "alpha": 0.8, "pad": 1.0, "edgecolor": "none"}
    for name, height in ticks.items():
        axes.text(x + 0.04, height, name, va="center", fontsize=8, bbox=box, zorder=7)
