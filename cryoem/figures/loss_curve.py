"""What was logged while training, one small panel per quantity."""

import math
import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoem.figures.style import COLOURS, new_figure, styled

_CLOCKS = ("epoch", "step", "wall_s", "time_s")
_FIRST = re.compile(r"loss|error|elbo|nats|kl", re.IGNORECASE)
_MAX_PANELS = 6


@styled
def loss_curve(metrics: pd.DataFrame) -> Figure:
    """Draw the logged columns against the epoch, or the step where there is no epoch.

    Parameters
    ----------
    metrics
        The table of ``metrics.csv``: columns ``epoch`` and ``step`` and one per quantity, empty
        where nothing was logged. Losses come first; at most six quantities are drawn, and none
        that never changes. A column ``epoch_NAME`` holds means of ``NAME`` over whole epochs and is
        drawn with it.
    """
    clock = next((name for name in _CLOCKS if name in metrics), None)
    columns = _interesting(metrics)
    n_columns = min(3, max(1, len(columns)))
    n_rows = math.ceil(max(1, len(columns)) / n_columns)
    figure = new_figure(3.0 * n_columns + 0.4, 2.3 * n_rows + 0.3)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, column in zip(grid, columns, strict=False):
        _panel(axes, metrics, clock, column)
    for axes in grid[len(columns) :]:
        axes.set_axis_off()
    return figure


def _interesting(metrics: pd.DataFrame) -> list[str]:
    numeric = metrics.select_dtypes("number")
    names = [str(name) for name in numeric if numeric[name].nunique() > 1]
    names = [name for name in names if name not in _CLOCKS and _steps_of(name) not in names]
    return sorted(names, key=lambda name: _FIRST.search(name) is None)[:_MAX_PANELS]


def _steps_of(name: str) -> str | None:
    """Return the column of single steps of which this one holds the means."""
    return name.removeprefix("epoch_") if name.startswith("epoch_") else None


def _panel(axes: Axes, metrics: pd.DataFrame, clock: str | None, column: str) -> None:
    rows = metrics[metrics[column].notna()]
    x, y = _epochs(rows, clock), rows[column].to_numpy(float)
    is_sparse = len(y) <= 40
    axes.plot(x, y, color=COLOURS[0], marker="o" if is_sparse else None, ms=3.5, alpha=_alpha(y))
    means = f"epoch_{column}"
    if clock == "epoch" and means in metrics:
        whole = metrics[metrics[means].notna()]
        middle = whole["epoch"].to_numpy(float) + 0.5
        axes.plot(middle, whole[means].to_numpy(float), color=COLOURS[1], marker="o", ms=2.5)
    elif not is_sparse:
        smooth = pd.Series(y).rolling(max(3, len(y) // 20), center=True, min_periods=1).median()
        axes.plot(x, smooth, color=COLOURS[1], lw=1.4)
    axes.set_title(column, loc="left")
    axes.set_xlabel(clock or "line")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(alpha=0.25, lw=0.6)
    axes.margins(x=0.02)


def _epochs(rows: pd.DataFrame, clock: str | None) -> np.ndarray:
    """Put the steps of one epoch evenly inside it, so that they do not stand above each other."""
    if clock is None:
        return np.arange(len(rows))
    x = rows[clock].to_numpy(float)
    order = rows.groupby(clock).cumcount().to_numpy()
    size = rows.groupby(clock)[clock].transform("size").to_numpy()
    return x + order / size if size.max() > 1 else x


def _alpha(y: np.ndarray) -> float:
    return 0.35 if len(y) > 40 else 1.0
