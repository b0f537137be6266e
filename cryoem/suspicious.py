"""Particles that a model does not explain, or that stand alone in the latent space."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from cryoem.io.atomic import atomic_path

# Robust standard deviations; of a million normal values one is further out.
_FAR = 5.0


def suspicious_particles(
    error: Float[np.ndarray, " particle"], z: Float[np.ndarray, "particle latent"] | None = None
) -> pd.DataFrame:
    """Who lies far outside of the others, worst first.

    Parameters
    ----------
    error
        Of each particle, in any unit; NaN where it is not known.
    z
        Latents, or None.

    Returns
    -------
    pandas.DataFrame
        ``particle``, the place in ``error``; ``error_sigma``, robust standard deviations above the
        median; ``latent_sigma``, the same of the distance from the middle of the latents (of its
        root, which is closer to normal); ``reason``.

    Notes
    -----
    The scale is 1.48 times the median absolute deviation, which outliers do not change. An image
    with junk or another contrast than its fellows has a large error; ice, carbon and other
    molecules often end up at the edge of the latent space instead.
    """
    table = pd.DataFrame({"particle": np.arange(len(error)), "error_sigma": _sigmas(error)})
    table["latent_sigma"] = 0.0
    if z is not None:
        table["latent_sigma"] = _sigmas(np.sqrt(_distance(z)))
    table["reason"] = ""
    table.loc[table["latent_sigma"] > _FAR, "reason"] = "far out in the latent space"
    table.loc[table["error_sigma"] > _FAR, "reason"] = "not explained by the model"
    worst = table[["error_sigma", "latent_sigma"]].max(axis=1)
    order = np.argsort(-worst.fillna(-np.inf).to_numpy(), kind="stable")
    table = table.iloc[order]
    return table[table["reason"] != ""].reset_index(drop=True)


def write_suspicious(
    folder: Path, found: pd.DataFrame, row: Int64[np.ndarray, " particle"]
) -> None:
    """Write ``suspicious.csv``; ``row`` of the input file instead of the place."""
    table = found.assign(particle=row[found["particle"].to_numpy()])
    with atomic_path(folder / "suspicious.csv") as path:
        table.to_csv(path, index=False, float_format="%.4g")


def worst_explained(error: Float[np.ndarray, " particle"], n: int) -> np.ndarray:
    """Places of the ``n`` largest errors, worst first."""
    return np.argsort(-np.nan_to_num(error, nan=-np.inf), kind="stable")[:n]


def _sigmas(values: np.ndarray) -> np.ndarray:
    """Robust standard deviations above the median; zero where nothing is known."""
    if not np.isfinite(values).any():
        return np.zeros(len(values))
    middle = np.nanmedian(values)
    scale = 1.4826 * np.nanmedian(np.abs(values - middle))
    return np.nan_to_num((values - middle) / max(scale, 1e-12), nan=0.0)


def _distance(z: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations of each coordinate."""
    middle = np.nanmedian(z, axis=0)
    scale = 1.4826 * np.nanmedian(np.abs(z - middle), axis=0)
    return np.linalg.norm((z - middle) / np.maximum(scale, 1e-12), axis=1)
