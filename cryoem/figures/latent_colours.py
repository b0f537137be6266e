"""The latent space once for each thing that it might tell: defocus, view, a known answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cryoem.analysis.embedding import fit_pca
from cryoem.figures.style import COLOURS, CYCLE, VALUES, new_figure, styled

_MOST = 4000  # particles that are drawn


@styled
def latent_colours(
    z: Float[np.ndarray, "particle latent"], quantities: Mapping[str, Float[np.ndarray, "..."]]
) -> Figure:
    """One panel per quantity, with the same points: the first two principal components.

    Parameters
    ----------
    z
        Latents; with a single dimension, it is drawn against the quantity.
    quantities
        By label: for each particle one number; or two, the cosine and sine of an angle; or three, a
        unit vector, with a colour for every direction.

    Notes
    -----
    At most 4000 particles, evenly spaced in the file. Colours that lie in patches say that the
    latent tells the quantity.
    """
    rows = np.linspace(0, len(z) - 1, min(len(z), _MOST)).astype(int)
    points = z[rows] if z.shape[1] <= 2 else fit_pca(z).project(z[rows])[:, :2]
    shown = quantities or {"": np.zeros((len(z), 0))}
    figure = new_figure(3.5 * len(shown), 3.2)
    for axes, (label, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0],
                                     shown.items(), strict=True):  # fmt: skip
        _panel(figure, axes, points, values[rows], label)
    return figure


def _panel(figure: Figure, axes: Axes, points: np.ndarray, values: np.ndarray, label: str) -> None:
    size = float(np.clip(12_000 / max(len(points), 1), 2, 20))
    style: dict[str, Any] = {"s": size, "alpha": 0.7, "lw": 0}
    colours = VALUES
    if values.shape[1:] == (2,):
        values, colours = np.degrees(np.arctan2(values[:, 1], values[:, 0])) % 360, CYCLE
        label = f"{label} (degrees)"
    if points.shape[1] == 1:
        height = values if values.ndim == 1 else np.degrees(np.arccos(values[:, -1:].clip(-1, 1)))
        axes.scatter(points[:, 0], np.ravel(height), color=COLOURS[0], **style)
        axes.set(xlabel="z", ylabel=label if values.ndim == 1 else f"{label}: tilt (degrees)")
        return
    x, y = points.T
    if values.ndim == 1:
        drawn = axes.scatter(x, y, c=values, cmap=colours, **style)
        figure.colorbar(drawn, ax=axes, shrink=0.85).outline.set_visible(False)
    elif values.shape[1]:
        axes.scatter(x, y, c=(values + 1) / 2, **style)
    else:
        axes.scatter(x, y, color=COLOURS[0], **style)
    axes.set_title(label, loc="left")
    axes.set_aspect("equal", adjustable="datalim")
