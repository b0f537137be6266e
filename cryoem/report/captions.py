"""What each figure shows and how to read it, in the order in which one wants to see them."""

from pathlib import Path

CAPTIONS = {
    "motion": (
        "The volumes along the latent space",
        "One column per volume, in order along the main variation of the latents. Projection and "
        "slice are those in which the volumes differ most. “Minus mean” is the difference from the "
        "mean of all volumes: red, more density; blue, less. Each row has one colour scale.",
    ),
    "volume": (
        "Volume",
        "Central slices (above) and projections (below). Slices share one grey scale, projections "
        "another.",
    ),
    "fsc": (
        "Fourier shell correlation",
        "The legend gives the resolution at 0.143 (meant for two half-set volumes) and at 0.5 "
        "(meant for a volume against a known one). “≤” means that the curve does not fall below "
        "the threshold before Nyquist.",
    ),
    "latents": (
        "Latent space",
        "Each particle at its mean latent; in the first two principal components where there are "
        "more than two dimensions. Numbers are the volumes above.",
    ),
    "latent_colours": (
        "What the latents tell",
        "The same particles, coloured by the direction that they are seen from (one colour for "
        "each direction), by defocus and, where it is known, by the true conformation. The first "
        "two should look mixed: colours in patches mean that the latent knows what it should not.",
    ),
    "progress": (
        "Epoch by epoch",
        "What was measured after each epoch. R² is the share of the variance of viewing direction "
        "or defocus that neighbours in the latent space tell; -0.07 is what chance gives. The "
        "wait for data is a share of the time.",
    ),
    "changes": (
        "Moved in the last epoch",
        "How far each particle went since the epoch before. Latents: what the best affine map "
        "leaves over, because a latent space that turns or grows has not changed.",
    ),
    "likelihood": (
        "What the volume explains, by resolution",
        "How much better the model predicts some images than an empty volume does, in nats per "
        "Fourier coefficient. Half-sets are compared with the volume of the other half, held-out "
        "images with one that has not seen them. At zero or below, the volume is noise there.",
    ),
    "loss": (
        "Training",
        "What was logged while training. Orange: means of whole epochs, or a running median over "
        "the single steps.",
    ),
    "poses": (
        "Viewing directions",
        "Equal-area map of the sphere; 1 is what a uniform distribution would have. A single "
        "strong spot or an empty region means preferred orientation.",
    ),
    "margins": (
        "How sure the poses are",
        "How much better each particle's pose explains it than the best one that is turned by more "
        "than 30 degrees. Near zero, two orientations fit equally well: a symmetry, or an image "
        "that shows little.",
    ),
    "particles": (
        "Particles and predictions",
        "Images as they lie in the file; centred with the phases of the CTF flipped; and what the "
        "model predicts for them. The last two should agree but for noise.",
    ),
    "suspicious": (
        "Explained worst",
        "The particles with the largest errors, in nats per frequency; about 1 is noise alone. "
        "Those that stand apart from the rest are listed in suspicious.csv.",
    ),
}


def caption(stem: str) -> tuple[str, str]:
    """Return title and text of a figure; the file's own name where nothing better is known."""
    return CAPTIONS.get(stem, (stem.replace("_", " "), ""))


def in_reading_order(paths: list[Path]) -> list[Path]:
    """Sort the figures of a run: known ones as listed here, others after them by name."""
    order = list(CAPTIONS)
    known = {stem: rank for rank, stem in enumerate(order)}
    return sorted(paths, key=lambda path: (known.get(path.stem, len(order)), path.stem))
