"""Fourier shell correlation against spatial frequency, with the resolutions it means."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cryoem.figures.style import new_figure, styled
from cryoem.metrics.fsc import FSCCurve

THRESHOLDS = (0.143, 0.5)


@styled
def fsc_curve(curves: Mapping[str, FSCCurve], voxel_size: float) -> Figure:
    """Draw curves over 1/A below and A above; the legend gives the resolution at both thresholds.

    Parameters
    ----------
    curves
        Name (which maps, which mask) and curve.
    voxel_size
        Angstrom per voxel.
    """
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        frequency = curve.frequency[1:] / voxel_size  # shell 0 is the mean of the volumes
        axes.plot(frequency, curve.correlation[1:], label=_legend(name, curve, voxel_size))
    nyquist = 0.5 / voxel_size
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color="#888888", lw=0.9, ls="--", zorder=1)
        axes.text(nyquist * 0.998, threshold, f"{threshold}", ha="right", va="bottom", fontsize=8)
    lowest = min((float(np.nanmin(c.correlation[1:])) for c in curves.values()), default=0)
    axes.set(xlim=(0, nyquist), ylim=(min(-0.05, lowest - 0.05), 1.03))
    axes.set(xlabel="spatial frequency (1/Å)", ylabel="Fourier shell correlation")
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, fontsize=8.5)
    _resolution_axis(axes, nyquist)
    return figure


def _legend(name: str, curve: FSCCurve, voxel_size: float) -> str:
    at = [
        f"{'≤ ' if curve.at_nyquist(t) else ''}{curve.resolution(t, voxel_size):.1f} Å at {t}"
        for t in THRESHOLDS
    ]
    return f"{name}: {', '.join(at)}"


def _resolution_axis(axes: Axes, nyquist: float) -> None:
    ticks = np.linspace(0, nyquist, 6)[1:]
    top = axes.secondary_xaxis("top")
    top.set_xticks(ticks, [f"{1 / tick:.3g}" for tick in ticks])
    top.set_xlabel("resolution (Å)")
    top.spines["top"].set_visible(False)
