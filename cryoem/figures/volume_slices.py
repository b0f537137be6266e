"""One volume: its central slices and its projections along the three axes."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem.figures.style import DENSITY, new_figure, scale_bar, styled, without_ticks

# Axis of the array [z, y, x], its name, and the names of the rows and columns of what remains.
_VIEWS = ((0, "z", "y", "x"), (1, "y", "z", "x"), (2, "x", "z", "y"))


@styled
def volume_slices(volume: Float[np.ndarray, "z y x"], voxel_size: float) -> Figure:
    """Central slices (above) and projections (below) perpendicular to z, y and x.

    Parameters
    ----------
    volume
        Density ``[z, y, x]``.
    voxel_size
        Angstrom, for the scale bar.

    Notes
    -----
    All slices share one grey scale and all projections another, from the 0.1 % to the 99.9 %
    quantile. Rows are drawn downwards, as 3dmod and RELION show them.
    """
    slices = [np.take(volume, volume.shape[axis] // 2, axis=axis) for axis, *_ in _VIEWS]
    projections = [volume.sum(axis=axis) for axis, *_ in _VIEWS]
    figure = new_figure(7.4, 5.3)
    grid = figure.subplots(2, 3)
    _draw_row(grid[0], slices, [f"slice {name} = {volume.shape[a] // 2}" for a, name, *_ in _VIEWS])
    _draw_row(grid[1], projections, [f"projection along {name}" for _, name, *_ in _VIEWS])
    scale_bar(grid[0, 0], volume.shape[-1], voxel_size)
    return figure


def _draw_row(row: np.ndarray, images: list[np.ndarray], titles: list[str]) -> None:
    low, high = grey_range(images)
    for axes, image, title, view in zip(row, images, titles, _VIEWS, strict=True):
        axes.imshow(image, cmap=DENSITY, vmin=low, vmax=high)
        without_ticks(axes)
        axes.set_title(title)
        axes.set_xlabel(f"{view[3]} →", labelpad=2)
        axes.set_ylabel(f"← {view[2]}", labelpad=2)


def grey_range(images: list[np.ndarray] | np.ndarray) -> tuple[float, float]:
    """Return the 0.1 % and 99.9 % quantiles of all images, never equal."""
    values = np.concatenate([np.ravel(image) for image in images])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.quantile(values, [0.001, 0.999])
    return float(low), float(high if high > low else low + 1.0)
