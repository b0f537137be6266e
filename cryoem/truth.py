"""What is known of a simulated data set: conformations, their coordinate and their volumes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from cryoem.io.volume import read_volume
from cryoem.metrics.fsc import FSCCurve, fsc
from cryoem.metrics.latents import knn_r2, knn_r2_circular
from cryoem.simulate.motions import MOTIONS
from cryoem.volume import spectrum_to_volume, volume_to_spectrum


@dataclass(frozen=True)
class Truth:
    """A ``truth`` folder as :func:`cryoem.simulate.simulate` writes it, for some of its particles.

    ``coordinate`` is the position of each particle on the motion, ``period`` its length where it
    is a circle; ``state`` the number of the nearest true volume.
    """

    folder: Path
    coordinate: Float[np.ndarray, " particle"]
    state: np.ndarray
    n_states: int
    period: float | None

    def volume(self, name: str, box_size: int) -> Float[Tensor, "side side side"]:
        """``mean``, ``volume_003`` or the like, Fourier-cropped to ``box_size``."""
        volume, _ = read_volume(self.folder / f"{name}.mrc")
        return crop_volume(torch.from_numpy(volume), box_size)

    def latent_r2(self, z: Float[np.ndarray, "particle latent"]) -> float | None:
        """Share of the coordinate's variance that 15 neighbours in latent space tell.

        Of the point on the circle where the motion is one; None where nothing moves.
        """
        if np.ptp(self.coordinate) == 0 or len(z) < 100:
            return None
        if self.period is None:
            return knn_r2(z, self.coordinate)
        return knn_r2_circular(z, 2 * np.pi * self.coordinate / self.period)

    def mean_latents(
        self, z: Float[np.ndarray, "particle latent"]
    ) -> tuple[list[int], Float[np.ndarray, "state latent"]]:
        """States that occur, and the mean latent of the particles in each."""
        states = [int(state) for state in np.unique(self.state)]
        return states, np.stack([z[self.state == state].mean(0) for state in states])

    def compare(self, volume: Float[Tensor, "side side side"], name: str) -> FSCCurve:
        """Correlate with a true volume, without a mask."""
        return fsc(volume, self.volume(name, len(volume)))


def read_truth(folder: Path, row: np.ndarray) -> Truth:
    """Read the truth of the particles in the given rows of the simulated file."""
    labels = pd.read_csv(folder / "labels.csv").iloc[row]
    n_states = len(pd.read_csv(folder / "volumes.csv"))
    name = json.loads((folder / "simulation.json").read_text())["motion"]
    motion = MOTIONS[name]() if name in MOTIONS else None
    circular = motion is not None and motion.circular
    return Truth(
        folder=folder,
        coordinate=labels["coordinate"].to_numpy(float),
        state=labels["state"].to_numpy(),
        n_states=n_states,
        period=motion.high - motion.low if motion is not None and circular else None,
    )


def crop_volume(
    volume: Float[Tensor, "side side side"], box_size: int
) -> Float[Tensor, "box box box"]:
    """Resample to a smaller even box that spans the same length, by cutting the transform."""
    side = len(volume)
    if box_size == side:
        return volume
    spectrum = volume_to_spectrum(volume)
    half = box_size // 2
    keep = torch.cat([torch.arange(half), torch.arange(side - half, side)])
    cropped = spectrum[keep][:, keep][..., : half + 1]
    return spectrum_to_volume(cropped)
