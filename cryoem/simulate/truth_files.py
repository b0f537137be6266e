"""The files of the ``truth`` folder."""

import json
import math
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from cryoem.io.volume import write_volume
from cryoem.simulate.acquisition import Acquisition
from cryoem.simulate.catalogue import bead_resolution
from cryoem.simulate.images import SignalPower
from cryoem.simulate.motions import Motion
from cryoem.simulate.settings import Simulation
from cryoem.simulate.specimen import Specimen
from cryoem.simulate.truth import mean_volume, moving_mask, true_volumes


def write_labels(truth: Path, images: Acquisition, states: Float[Tensor, " state"]) -> None:
    """Conformation of every image, and the coordinate of every true volume.

    ``state`` is the number of the volume, the nearest one where the coordinate is continuous.
    """
    labels = pd.DataFrame({"state": images.state, "coordinate": images.coordinate})
    labels.to_csv(truth / "labels.csv", index_label="index")
    volumes = [f"volume_{number:03d}.mrc" for number in range(len(states))]
    pd.DataFrame({"volume": volumes, "coordinate": states}).to_csv(
        truth / "volumes.csv", index_label="state"
    )


def write_volumes(
    truth: Path,
    specimen: Specimen,
    settings: Simulation,
    images: Acquisition,
    states: Float[Tensor, " state"],
    scale: float,
) -> None:
    """Write every state and the mean over the images, in the units of the images."""
    pixel_size = settings.pixel_size_angstrom
    for number, volume in enumerate(true_volumes(specimen, states)):
        write_volume(truth / f"volume_{number:03d}.mrc", scale * volume.numpy(), pixel_size)
    mean = scale * mean_volume(specimen, images.coordinate)
    write_volume(truth / "mean.mrc", mean.numpy(), pixel_size)


def write_beads(truth: Path, motion: Motion, settings: Simulation) -> None:
    """Beads at rest, and the mask around the domain that moves."""
    beads = motion.beads
    np.savez(
        truth / "beads.npz", positions=beads.positions, weights=beads.weights, domain=beads.domain
    )
    if motion.moving_domain is not None:
        pixel_size = settings.pixel_size_angstrom
        mask = moving_mask(motion, settings.box_size, pixel_size, bead_resolution(settings))
        write_volume(truth / "moving_mask.mrc", mask.numpy(), pixel_size)


def write_summary(truth: Path, settings: Simulation, scale: float, power: SignalPower) -> None:
    """All parameters and what came of them. Signal power is in units of the noise variance."""
    finite = math.isfinite(settings.snr)
    summary = {
        **asdict(settings),
        "snr": settings.snr if finite else "inf",
        "noise_sigma": 1.0 if finite else 0.0,
        "scale": scale,
        "signal_variance": scale**2 * power.everywhere,
        "signal_power_in_outline": scale**2 * power.in_outline,
        "version": metadata.version("cryoem"),
    }
    (truth / "simulation.json").write_text(json.dumps(summary, indent=1) + "\n")
