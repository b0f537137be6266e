"""How sure each found pose is: the lead over the next distinct one."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cryoem.figures.style import COLOURS, new_figure, styled

# The likelihood of the best pose is then twenty times that of the next.
SURE_NATS = 3.0


@styled
def pose_margins(margin: Float[np.ndarray, " particle"]) -> Figure:
    """Histogram of the margins (nats); what is not finite was never compared, and is left out."""
    known = margin[np.isfinite(margin)]
    figure = new_figure(6.0, 3.2)
    axes = figure.add_subplot()
    if len(known):
        top = max(float(np.quantile(known, 0.99)), 2 * SURE_NATS)
        bins = int(np.clip(np.sqrt(len(known)), 10, 100))
        axes.hist(known.clip(0, top), bins=bins, range=(0, top), color=COLOURS[0])
    axes.axvline(SURE_NATS, color=COLOURS[1], lw=1.2)
    axes.set(xlabel="margin over the next distinct rotation, nats", ylabel="particles")
    unsure = 100 * float(np.mean(known < SURE_NATS)) if len(known) else 100.0
    axes.set_title(f"{len(known):,} particles, {unsure:.1f} % below {SURE_NATS:g} nats", loc="left")
    return figure
