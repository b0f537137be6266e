"""How far poses and latents have moved since the last epoch."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem.figures.style import COLOURS, new_figure, styled


@styled
def changes(moved: Mapping[str, Float[np.ndarray, " particle"]]) -> Figure:
    """One histogram per quantity; what is not finite is left out.

    Parameters
    ----------
    moved
        By label with unit: a length of each particle's move, from zero.
    """
    figure = new_figure(3.4 * max(len(moved), 1), 2.8)
    grid = figure.subplots(1, max(len(moved), 1), squeeze=False)[0]
    for axes, (label, values) in zip(grid, moved.items(), strict=False):
        known = values[np.isfinite(values)]
        axes.set(xlabel=label, ylabel="particles")
        if not len(known):
            continue
        top = max(float(np.quantile(known, 0.99)), 1e-6)
        bins = int(np.clip(np.sqrt(len(known)), 10, 60))
        axes.hist(known.clip(0, top), bins=bins, range=(0, top), color=COLOURS[0])
        middle = float(np.median(known))
        axes.axvline(middle, color=COLOURS[1], lw=1.2)
        axes.set_title(f"median {middle:.3g}", loc="left")
    return figure
