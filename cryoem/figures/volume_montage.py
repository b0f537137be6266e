"""Several volumes side by side, drawn so that what moves between them can be seen."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem.figures.style import DENSITY, DIFFERENCE, new_contact_sheet, styled, without_ticks
from cryoem.figures.volume_slices import grey_range

_MAX_SHOWN = 12


@styled
def volume_montage(
    volumes: Float[np.ndarray, "volume z y x"], labels: Sequence[str] | None = None
) -> Figure:
    """One column per volume: projection, its difference from the mean, slice, difference.

    Parameters
    ----------
    volumes
        At most twelve are drawn, evenly spaced from the first to the last.
    labels
        A name for each; their numbers from 1 when None.

    Notes
    -----
    Every row has one colour scale. The projection is along the axis, and the slice is the plane,
    in which the volumes differ most (variance over volumes), because a motion along the line of
    sight cannot be seen. In a difference red is density that the mean has less of, blue more.
    """
    names = [str(i + 1) for i in range(len(volumes))] if labels is None else list(labels)
    shown = np.unique(np.linspace(0, len(volumes) - 1, _MAX_SHOWN).round().astype(int))
    projection_axis, slice_axis, plane = _most_variable_views(volumes)
    projections = volumes.sum(axis=1 + projection_axis)
    slices = np.take(volumes, plane, axis=1 + slice_axis)
    rows = [
        (f"projection\nalong {'zyx'[projection_axis]}", projections),
        ("minus mean", projections - projections.mean(0)),
        (f"slice\n{'zyx'[slice_axis]} = {plane}", slices),
        ("minus mean", slices - slices.mean(0)),
    ]
    figure = new_contact_sheet(max(3.2, 0.6 + 1.1 * len(shown)), 5.0)
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    for axes_row, (title, images) in zip(grid, rows, strict=True):
        _draw_row(axes_row, images, shown, title)
    for axes, index in zip(grid[0], shown, strict=True):
        axes.set_title(names[index])
    return figure


def _draw_row(axes_row: np.ndarray, images: np.ndarray, shown: np.ndarray, title: str) -> None:
    if title == "minus mean":
        high = float(np.quantile(np.abs(images), 0.999)) or 1.0
        low, cmap = -high, DIFFERENCE
    else:
        (low, high), cmap = grey_range(images), DENSITY
    for axes, index in zip(axes_row, shown, strict=True):
        axes.imshow(images[index], cmap=cmap, vmin=low, vmax=high)
        without_ticks(axes)
    axes_row[0].set_ylabel(title)


def _most_variable_views(volumes: np.ndarray) -> tuple[int, int, int]:
    """Axis to project along; axis and index of the plane to show (axes of ``[z, y, x]``)."""
    spread = [volumes.sum(axis=1 + axis).var(axis=0).sum() for axis in range(3)]
    variance = volumes.var(axis=0)
    profiles = [variance.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    slice_axis = int(np.argmax([profile.max() for profile in profiles]))
    return int(np.argmax(spread)), slice_axis, int(profiles[slice_axis].argmax())
