"""What the volume explains of the images, shell by shell, epoch after epoch."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.figure import Figure

from cryoem.figures.style import VALUES, new_figure, styled

_MOST = 8  # curves


@styled
def shell_likelihood(
    by_epoch: Mapping[int, Float[np.ndarray, " shell"]], box_size: int, pixel_size: float
) -> Figure:
    """Curves over 1/A below and A above, later epochs brighter.

    Parameters
    ----------
    by_epoch
        Nats per Fourier coefficient of the shells from 1 on, by the number of epochs done. At most
        eight are drawn, the first and the last among them.
    box_size, pixel_size
        Of the images; pixels and angstrom.
    """
    numbers = list(by_epoch)
    shown = np.unique(np.linspace(0, len(numbers) - 1, min(_MOST, len(numbers))).round())
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    colours = colormaps[VALUES](np.linspace(0, 0.92, len(shown)))
    for colour, place in zip(colours, shown.astype(int), strict=True):
        curve = by_epoch[numbers[place]]
        frequency = np.arange(1, len(curve) + 1) / (box_size * pixel_size)
        axes.plot(frequency, curve, color=colour, label=f"epoch {numbers[place]}")
    axes.axhline(0, color="#888888", lw=0.9, ls="--", zorder=1)
    # few coefficients hold most of the likelihood, and what is noise is near zero
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set(xlabel="spatial frequency (1/Å)", ylabel="explained, nats per coefficient")
    axes.set_xlim(0, 0.5 / pixel_size)
    highest = max(float(curve.max()) for curve in by_epoch.values())
    axes.set_ylim(top=3 * max(highest, 0.01))
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(fontsize=8, loc="upper right")
    top = axes.secondary_xaxis("top")
    ticks = np.linspace(0, 0.5 / pixel_size, 6)[1:]
    top.set_xticks(ticks, [f"{1 / tick:.3g}" for tick in ticks])
    top.set_xlabel("resolution (Å)")
    return figure
