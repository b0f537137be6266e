"""A figure as a file: complete under its name, or not there."""

from pathlib import Path

from matplotlib.figure import Figure

from cryoem.io.atomic import atomic_path

DPI = 150


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure to ``path`` (the suffix chooses the format) and return the path."""
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path
