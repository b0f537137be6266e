"""Some particles: as in the file, made comparable, and as the model predicts them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem.figures.style import DENSITY, new_contact_sheet, styled, without_ticks


@styled
def particle_gallery(
    raw: Float[np.ndarray, "particle side side"],
    centred: Float[np.ndarray, "particle side side"],
    predicted: Float[np.ndarray, "particle side side"],
    labels: Sequence[str] | None = None,
) -> Figure:
    """One column per particle, with the same three views of each.

    Parameters
    ----------
    raw
        Images of the file.
    centred
        The same with the shift undone, the sign made light and the phases of the CTF flipped.
    predicted
        Projections of the model, multiplied by the absolute CTF as ``centred`` are.
    labels
        A name for each particle; its number from 1 when None.
    """
    names = [str(i + 1) for i in range(len(raw))] if labels is None else labels
    rows = [("in the file", raw), ("centred,\nphases flipped", centred), ("predicted", predicted)]
    figure = new_contact_sheet(max(3.0, 0.7 + 1.15 * len(raw)), 4.0)
    grid = figure.subplots(len(rows), len(raw), squeeze=False)
    for axes_row, (title, images) in zip(grid, rows, strict=True):
        low, high = np.nanquantile(images, [0.005, 0.998])
        for axes, image in zip(axes_row, images, strict=True):
            axes.imshow(image, cmap=DENSITY, vmin=low, vmax=high)
            without_ticks(axes)
        axes_row[0].set_ylabel(title)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name)
    return figure
