"""How every figure looks: sizes, colours that colour-blind readers can tell apart."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib
import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

P = ParamSpec("P")

# Okabe and Ito (2008), a palette that survives all common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DENSITY = "gray"
DIFFERENCE = "RdBu_r"
VALUES = "viridis"
CYCLE = "twilight"  # ends where it begins

_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "axes.prop_cycle": cycler(color=COLOURS),
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "image.interpolation": "nearest",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function in the style of this page, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, outside pyplot: nothing global is touched."""
    return Figure(figsize=(width, height), layout="constrained")


def new_contact_sheet(width: float, height: float) -> Figure:
    """Return an empty figure for many small images that stand close together."""
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    return Figure(figsize=(width, height), layout=layout)


def without_ticks(axes: Axes) -> None:
    """Leave an image with neither ticks nor frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def scale_bar(axes: Axes, side: int, pixel_size: float) -> None:
    """Draw a bar of a round length, about a quarter of an image ``side`` pixels across."""
    length = round_length(side * pixel_size / 4)
    start, y = 0.05 * side, 0.94 * side
    axes.plot([start, start + length / pixel_size], [y, y], color="white", lw=3.5)
    axes.plot([start, start + length / pixel_size], [y, y], color="black", lw=1.8)
    axes.text(
        start,
        y - 0.035 * side,
        f"{length:g} Å",
        fontsize=8,
        va="bottom",
        bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.8, "edgecolor": "none"},
    )


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50, ... that is not above ``length``."""
    choices = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
    return max((choice for choice in choices if choice <= length), default=choices[0])
