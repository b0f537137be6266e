"""From where the particles are seen: viewing directions on the whole sphere."""

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from cryoem.figures.style import VALUES, new_figure, styled, without_ticks

_N_UNIFORM = 100_000


@styled
def pose_distribution(rotations: Float[np.ndarray, "particle 3 3"]) -> Figure:
    """Density of viewing directions relative to a uniform distribution, Mollweide's map.

    Parameters
    ----------
    rotations
        Euler matrices; the viewing direction in the volume's frame is the third row.

    Notes
    -----
    The map keeps areas, so hexagons of one size are equal solid angles; those that the rim cuts are
    compared with what a uniform distribution puts into the same piece.
    """
    # About 30 particles per hexagon where possible, so that chance is not taken for structure.
    n_across = int(np.sqrt(np.clip(len(rotations) / 30, 60, 2500) * np.sqrt(3)))
    figure = new_figure(6.6, 3.0)
    axes = figure.add_subplot()
    hexagons = _count(axes, rotations[:, 2, :], n_across)
    uniform = _count(axes, _uniform_directions(), n_across)
    expected = np.asarray(uniform.get_array()) * len(rotations) / _N_UNIFORM
    uniform.remove()
    density = np.asarray(hexagons.get_array()) / np.maximum(expected, 1e-9)
    density[expected < 0.02 * expected.max()] = 0  # slivers at the rim
    hexagons.set_array(density)
    hexagons.set_clim(0, max(2.0, float(np.quantile(density, 0.995))))
    bar = figure.colorbar(hexagons, ax=axes, shrink=0.75, label="density / uniform density")
    bar.outline.set_visible(False)
    _graticule(axes, hexagons)
    without_ticks(axes)
    axes.set_aspect("equal")
    axes.set_title(f"viewing directions of {len(rotations):,} particles", loc="left")
    axes.set_xlabel("rot: -180° to 180°", labelpad=4)
    axes.set_ylabel("tilt: 180° to 0°", labelpad=4)
    return figure


def mollweide(
    directions: Float[np.ndarray, "particle 3"],
) -> tuple[Float[np.ndarray, " particle"], Float[np.ndarray, " particle"]]:
    """Project unit vectors to the plane, areas kept (Snyder 1987, eq. 31-1 to 31-4, R = 1).

    ``2 t + sin 2 t = pi sin(latitude)`` is solved by Newton's method, with Snyder's first guess.
    """
    longitude = np.arctan2(directions[:, 1], directions[:, 0])
    sine = np.clip(directions[:, 2] / np.linalg.norm(directions, axis=1), -1, 1)
    angle = np.arcsin(sine)
    for _ in range(30):
        slope = np.maximum(2 + 2 * np.cos(2 * angle), 1e-9)
        angle = angle - (2 * angle + np.sin(2 * angle) - np.pi * sine) / slope
    angle = np.clip(angle, -np.pi / 2, np.pi / 2)
    return 2 * np.sqrt(2) / np.pi * longitude * np.cos(angle), np.sqrt(2) * np.sin(angle)


def _count(axes: Axes, directions: np.ndarray, n_across: int) -> PolyCollection:
    """Hexagons over the whole map; the same ones, in the same order, for any directions."""
    half_width, half_height = 2 * np.sqrt(2), np.sqrt(2)
    extent = (-half_width, half_width, -half_height, half_height)
    n_up = max(1, round(n_across / (2 * np.sqrt(3))))  # regular hexagons: the map is 2 : 1
    x, y = mollweide(directions)
    return axes.hexbin(x, y, gridsize=(n_across, n_up), extent=extent, cmap=VALUES, lw=0.1)


def _uniform_directions() -> np.ndarray:
    """Return a Fibonacci lattice on the sphere."""
    i = np.arange(_N_UNIFORM)
    height = 1 - (2 * i + 1) / _N_UNIFORM
    return _unit(np.pi * (1 + np.sqrt(5)) * i, np.arcsin(height))


def _graticule(axes: Axes, clipped: Artist) -> None:
    outline = Ellipse((0, 0), 4 * np.sqrt(2), 2 * np.sqrt(2), fill=False, ec="#444444", lw=1)
    axes.add_patch(outline)
    clipped.set_clip_path(outline)
    turn = np.linspace(-np.pi + 1e-6, np.pi - 1e-6, 181)
    for degrees in (-60, -30, 0, 30, 60):
        latitude = np.full_like(turn, np.radians(degrees))
        axes.plot(*mollweide(_unit(turn, latitude)), color="white", lw=0.5, alpha=0.5)
    for degrees in range(-120, 121, 60):
        longitude = np.full_like(turn, np.radians(degrees))
        axes.plot(*mollweide(_unit(longitude, turn / 2)), color="white", lw=0.5, alpha=0.5)


def _unit(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    cos = np.cos(latitude)
    return np.stack([cos * np.cos(longitude), cos * np.sin(longitude), np.sin(latitude)], axis=1)
