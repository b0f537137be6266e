"""Poses from nothing: the errors of ``poses=search`` on simulated sets, and what it costs.

``python -m benchmarks.ab_initio [CASE ...] [key=value ...]`` simulates images of one conformation,
64 pixels wide, finds their poses and prints the median errors once frame, hand and origin have been
solved for. The cases are those of Zhong et al., ICLR 2020 (table 1), by default with a tenth of
their images; further overrides of ``train.py`` apply to all, such as
``data.simulation.n_particles=50000 trainer=gpu``.
"""

import json
import logging
import math
import sys
import tempfile
import time
from pathlib import Path

from conf.checks import check
from conf.compose import compose
from train import train

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
    frobenius2 = 8 * math.sin(math.radians(degrees) / 2) ** 2
    shift = metrics["poses_of_the_file/shift_median_pixels"]
    truth = metrics["resolution"][-1]["mean_fsc"]
    return f"{degrees:9.2f} {frobenius2:12.5f} {shift:8.2f} {truth:8.3f} {seconds:9.0f}"


def main() -> None:
    """Print a line per case."""
    logging.disable(logging.WARNING)
    cases = [word for word in sys.argv[1:] if "=" not in word] or list(CASES)
    overrides = [word for word in sys.argv[1:] if "=" in word]
    print(f"{'case':14s} {'degrees':>9s} {'|A-B|^2':>12s} {'pixels':>8s} {'FSC':>8s} {'CPU-s':>9s}")
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            line = run(Path(folder), [*CASES[case], *overrides])
        print(f"{case:14s} {line}", flush=True)


if __name__ == "__main__":
    main()
