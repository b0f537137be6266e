"""Poses from nothing: the errors of ``poses=search`` on simulated sets, and what it costs.

``python -m benchmarks.ab_initio [CASE ...] [key=value ...]`` simulates images of one conformation,
64 pixels wide, finds their poses and prints the median errors once frame, hand and origin have been
solved for. The cases are those of Zhong et al., ICLR 2020 (table 1), by default with a tenth of
their images; further overrides of ``train.py`` apply to all, such as
``data.simulation.n_particles=50000 trainer=gpu``.

"Floor" is what no program can be much better than: the errors of poses at the optimum of the
likelihood next to the true pose, under the true volume without noise.
"""

import json
import logging
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from conf.checks import check
from conf.compose import compose
from cryoem.forward_model import ForwardModel
from cryoem.io.volume import read_volume
from cryoem.metrics.alignment import DensityDecoder
from cryoem.metrics.pose_error import pose_errors
from cryoem.poses.polish import Polisher
from cryoem.poses.scores import SearchImages
from cryoem.poses.volume_cache import cache_volume
from datamodules import ParticleDataModule
from train import train

_FLOOR_IMAGES, _POLISHED = 512, 3  # images; times in turn

CASES = {
    "noise-free": ["data.simulation.snr=inf", "data.simulation.ctf=false"],
    "snr-0.1": ["data.simulation.snr=0.1", "data.simulation.ctf=false"],
    "snr-0.1-ctf": ["data.simulation.snr=0.1", "data.simulation.ctf=true"],
}
COMMON = [
    "data=simulated",
    "data.simulation.motion=linear_1d",
    "data.simulation.n_states=1",
    "data.simulation.n_particles=5000",
    "data.simulation.box_size=64",
    "model=homo",
    "poses=search",
    "preflight=false",
    "trainer.max_epochs=24",
    "~callbacks.progress",
    "trainer.enable_progress_bar=false",
]


def run(folder: Path, overrides: list[str]) -> str:
    """Reconstruct once; returns a line of the table."""
    began = time.process_time()
    train(check(compose([*COMMON, *overrides, f"output_dir={folder}"])))
    seconds = time.process_time() - began
    metrics = json.loads((folder / "metrics.json").read_text())
    degrees = metrics["poses_of_the_file/rotation_median_degrees"]
    shift = metrics["poses_of_the_file/shift_median_pixels"]
    truth = metrics["resolution"][-1]["mean_fsc"]
    low = floor(folder / "data")
    return (
        f"{degrees:9.2f} {frobenius2(degrees):12.5f} {shift:8.2f} {truth:8.3f} {seconds:9.0f}"
        f" {low:9.2f} {frobenius2(low):12.5f}"
    )


def frobenius2(degrees: float) -> float:
    """Squared norm of the difference of two rotations."""
    return 8 * math.sin(math.radians(degrees) / 2) ** 2


@torch.no_grad()
def floor(folder: Path) -> float:
    """Median angle (degrees) between true poses and the optima next to them."""
    data = ParticleDataModule(folder / "particles.star", sign="light", batch_size=_FLOOR_IMAGES)
    data.setup()
    rows = torch.arange(min(_FLOOR_IMAGES, data.geometry.n_particles))
    batch = data.on_after_batch_transfer(data.dataset().rows(rows), 0)
    density, _ = read_volume(folder / "truth" / "mean.mrc")
    decoder = DensityDecoder(torch.from_numpy(density))
    model = ForwardModel(decoder, data.lattice, data.geometry.pixel_size_angstrom)
    truth = data.pose[rows]
    transfer, observed = model.transfer(batch), model.observed(batch, truth.shift)
    slices = transfer * model.slices(truth.rotation, batch.pixel_size_angstrom)
    scale = (observed.conj() * slices).real.sum() / slices.abs().square().sum()
    cache = cache_volume(decoder, data.geometry.box_size, data.lattice.radius, scale.device)
    polisher = Polisher(replace(cache, grid=scale * cache.grid), data.lattice.freqs)
    images, pose = SearchImages(batch.fourier, transfer), truth
    for _ in range(_POLISHED):
        pose, _, _ = polisher(images, pose)
    return float(pose_errors(pose, truth).angle_degrees.median())


def main() -> None:
    """Print a line per case."""
    logging.disable(logging.WARNING)
    cases = [word for word in sys.argv[1:] if "=" not in word] or list(CASES)
    overrides = [word for word in sys.argv[1:] if "=" in word]
    head = f"{'case':14s} {'degrees':>9s} {'|A-B|^2':>12s} {'pixels':>8s} {'FSC':>8s} {'CPU-s':>9s}"
    print(f"{head} {'floor deg':>9s} {'floor A-B^2':>12s}")
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            line = run(Path(folder), [*CASES[case], *overrides])
        print(f"{case:14s} {line}", flush=True)


if __name__ == "__main__":
    main()
