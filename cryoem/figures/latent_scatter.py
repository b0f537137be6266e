"""The latent space in the plane: every particle a dot, or counted in hexagons when many."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure

from cryoem.analysis.embedding import fit_pca
from cryoem.figures.style import COLOURS, VALUES, new_figure, styled

HEXBIN_FROM = 20_000


@styled
def latent_scatter(
    z: Float[np.ndarray, "particle latent"],
    colour: Float[np.ndarray, " particle"] | None = None,
    colour_label: str = "",
    marks: Float[np.ndarray, "mark latent"] | None = None,
) -> Figure:
    """Latents in their first two principal components, or as they are when they have two.

    Parameters
    ----------
    z
        At least two columns.
    colour
        A number for each particle, such as the true conformation or the defocus; hexagons show its
        mean.
    colour_label
        What ``colour`` is, with its unit.
    marks
        Latents to number from 1, such as those of the volumes.
    """
    pca = fit_pca(z)
    to_plane = pca.project if z.shape[1] > 2 else np.asarray
    points = to_plane(z)
    figure = new_figure(5.6 if colour is None and len(z) <= HEXBIN_FROM else 6.2, 4.8)
    axes = figure.add_subplot()
    drawn = _draw(axes, points[:, 0], points[:, 1], colour)
    if colour is not None or len(z) > HEXBIN_FROM:
        label = colour_label if colour is not None else "particles"
        bar = figure.colorbar(drawn, ax=axes, shrink=0.85, label=label)
        bar.outline.set_visible(False)
    if marks is not None:
        _number(axes, to_plane(marks))
    names = ["z1", "z2"] if z.shape[1] == 2 else _component_names(pca.explained_variance_ratio)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set_title(f"{len(z):,} particles, {z.shape[1]} latent dimensions", loc="left")
    axes.set_aspect("equal", adjustable="datalim")
    return figure


def _component_names(ratio: np.ndarray) -> list[str]:
    return [f"PC{i + 1} ({100 * share:.0f} % of the variance)" for i, share in enumerate(ratio[:2])]


def _draw(axes: Axes, x: np.ndarray, y: np.ndarray, colour: np.ndarray | None) -> Collection:
    if len(x) > HEXBIN_FROM:
        if colour is None:
            return axes.hexbin(x, y, gridsize=80, mincnt=1, bins="log", cmap=VALUES, lw=0.1)
        return axes.hexbin(x, y, C=colour, gridsize=80, mincnt=1, cmap=VALUES, lw=0.1)
    size = float(np.clip(30_000 / max(len(x), 1), 3, 24))
    alpha = 0.45 if len(x) > 1000 else 0.8
    if colour is None:
        return axes.scatter(x, y, s=size, color=COLOURS[0], alpha=alpha, lw=0)
    order = np.random.default_rng(0).permutation(len(x))  # else the last class hides the others
    return axes.scatter(
        x[order], y[order], s=size, c=colour[order], cmap=VALUES, alpha=max(alpha, 0.6), lw=0
    )


def _number(axes: Axes, points: np.ndarray) -> None:
    axes.plot(points[:, 0], points[:, 1], color="black", lw=0.8, alpha=0.6, zorder=4)
    axes.scatter(
        points[:, 0], points[:, 1], s=150, facecolor="white", edgecolor="black", lw=0.9, zorder=5
    )
    for number, (x, y) in enumerate(points[:, :2], start=1):
        axes.text(x, y, str(number), ha="center", va="center_baseline", fontsize=7.5, zorder=6)
