"""Numbers of whole epochs, one small panel each."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoem.figures.style import COLOURS, new_figure, styled


@styled
def epoch_curves(epochs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Draw each quantity, by its label, against the number of epochs done; NaN leaves a gap."""
    n_columns = min(3, max(1, len(curves)))
    n_rows = math.ceil(max(1, len(curves)) / n_columns)
    figure = new_figure(3.0 * n_columns + 0.2, 2.1 * n_rows + 0.2)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    margin = max(0.04 * (epochs[-1] - epochs[0]), 0.4)
    for axes, (label, values) in zip(grid, curves.items(), strict=False):
        y = np.asarray(values, dtype=float)
        axes.plot(epochs, y, color=COLOURS[0], marker="o", ms=3)
        axes.set_title(label, loc="left")
        low, high = np.nanmin([0.0, *y]), np.nanmax([0.0, *y])
        axes.set_ylim(1.1 * low, 1.1 * high if high > low else 1.0)
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)  # also where early ones are unknown
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25, lw=0.6)
    for axes in grid[len(curves) :]:
        axes.set_axis_off()
    return figure
