"""A latent space of one dimension: how many particles have which value."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem.figures.style import COLOURS, new_figure, styled


@styled
def latent_histogram(
    z: Float[np.ndarray, " particle"], marks: Float[np.ndarray, " mark"] | None = None
) -> Figure:
    """Histogram of one latent coordinate; ``marks`` (of the volumes) are numbered from 1."""
    figure = new_figure(6.0, 3.2)
    axes = figure.add_subplot()
    counts, *_ = axes.hist(z, bins=int(np.clip(np.sqrt(len(z)), 10, 100)), color=COLOURS[0])
    top = float(np.max(counts))
    for number, value in enumerate([] if marks is None else marks, start=1):
        axes.axvline(value, ymax=0.9, color="black", lw=0.8, alpha=0.6)
        axes.text(value, top * 1.04, str(number), ha="center", va="bottom", fontsize=7.5)
    axes.set(xlabel="z", ylabel="particles", ylim=(0, top * 1.14))
    axes.set_title(f"{len(z):,} particles, 1 latent dimension", loc="left")
    return figure
