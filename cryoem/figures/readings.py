"""How well several readings of the same files explain the images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cryoem.figures.style import COLOURS, new_figure, styled


@styled
def readings_bars(
    names: Sequence[str], percent: Sequence[float], errors: Sequence[float], stated: int, best: int
) -> Figure:
    """Draw a bar for each reading, from above in the order given.

    Parameters
    ----------
    names, percent, errors
        Of each reading, what it explains of images that were kept out, and its standard error.
    stated, best
        Which of them is that of the files (blue), and which the images bear out (green, where it is
        another one).
    """
    figure = new_figure(7.4, 0.6 + 0.3 * len(names))
    axes = figure.add_subplot()
    colours = ["#b8c2cc"] * len(names)
    colours[best] = COLOURS[2]
    colours[stated] = COLOURS[0]
    places = np.arange(len(names))
    axes.barh(places, percent, xerr=errors, color=colours, height=0.7, error_kw={"lw": 1.0})
    axes.axvline(0, color="#444444", lw=0.8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("explained power of images that the map was not made of (%)")
    axes.grid(axis="x", alpha=0.25, lw=0.6)
    axes.margins(x=0.04)
    return figure


@styled
def sign_panels(maps: dict[str, np.ndarray], skewness: dict[str, float]) -> Figure:
    """Draw the projection of each map as light and as dark particles would have it.

    Parameters
    ----------
    maps
        By name, densities ``[z, y, x]`` as if the particles were light.
    skewness
        Of each.
    """
    figure = new_figure(2.3 * len(maps) + 0.6, 4.9)
    grid = figure.subplots(2, len(maps), squeeze=False)
    for column, (name, density) in zip(grid.T, maps.items(), strict=True):
        projection = density.sum(axis=0)
        reach = float(np.abs(projection).max()) or 1.0
        for axes, sign, word in zip(column, (1, -1), ("light", "dark"), strict=True):
            axes.imshow(sign * projection, cmap="gray", vmin=-reach, vmax=reach)
            axes.set_title(f"{name}\ntaken as {word}: skewness {sign * skewness[name]:+.2f}")
            axes.set_xticks([])
            axes.set_yticks([])
            fits = sign * skewness[name] > 0
            for spine in axes.spines.values():
                spine.set(visible=True, color=COLOURS[2] if fits else "#b8c2cc", lw=2.5)
    return figure


@styled
def half_map_curves(
    curves: dict[str, np.ndarray], voxel_size: float, stated: str, best: str
) -> Figure:
    """Draw the FSC of the half maps of each reading against 1/A; colours as of the bars."""
    figure = new_figure(6.8, 3.8)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        frequency = np.arange(len(curve)) / (2 * len(curve) * voxel_size)
        colour = {best: COLOURS[2], stated: COLOURS[0]}.get(name, "#b8c2cc")
        if stated == best == name:
            colour = COLOURS[0]
        known = name in (best, stated)
        axes.plot(
            frequency[1:], curve[1:], color=colour, lw=2.0 if known else 1.0,
            zorder=3 if known else 2, label=name if known else None,
        )  # fmt: skip
    axes.plot([], [], color="#b8c2cc", label="other readings")
    axes.axhline(0.143, color="#888888", lw=0.9, ls="--", zorder=1)
    axes.set(xlabel="spatial frequency (1/Å)", ylabel="FSC of the half maps", ylim=(None, 1.03))
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(fontsize=8.5)
    return figure
